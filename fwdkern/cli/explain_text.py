"""`fwdkern explain --text`: which words speak for a class."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.text import Text
from torch import Tensor

import fwdkern
from fwdkern import FusedModel, Relevance, viz
from fwdkern.cli import console
from fwdkern.cli.folder import PictureFolder, completeness_errors
from fwdkern.cli.options import Bias, Mode
from fwdkern.cli.session import class_scores, highest_classes, parse_device
from fwdkern.errors import InputError
from fwdkern.models import find_class, load_classes, load_text_model
from fwdkern.sentiment import Reader, split
from fwdkern.viz.text import token_colours

_PAGE = "text-explain.html"


def explain_text(
    texts: Sequence[str],
    text_file: Path | None,
    model: str,
    weights: Path | None,
    vocabulary: Path | None,
    classes: Path | None,
    device: str,
    target: Sequence[str] | None,
    top: int,
    bias: Bias,
    mode: Mode,
    out: Path,
) -> None:
    """Print each sentence with its words coloured by their scores; write pictures and one page of all of them."""
    place = parse_device(device)
    reader = load_text_model(model, weights, vocabulary)
    names = load_classes(classes) if classes is not None else reader.classes
    console.say(f"model   {reader.name}" + (f" with {weights}" if weights else ""))
    console.say(f"input   words in lower case, {len(reader.vocabulary) - 1} known")
    sentences = [split(text) for text in [*texts, *_lines(text_file)]]
    encoded = [_encode(reader, number, tokens) for number, tokens in enumerate(sentences, 1)]
    asked = [find_class(name, names) for name in target or []]
    reader.model.to(place)
    maps: list[viz.TextMap] = []
    results: list[Relevance] = []
    with PictureFolder(out) as folder, console.progress(len(sentences)) as steps:
        steps.start("capturing the model")
        net = fwdkern.fuse(reader.model, encoded[0].to(place))
        for number, (tokens, rows) in enumerate(zip(sentences, encoded, strict=True), 1):
            steps.start(f"sentence {number}")
            result, labels = _explained(net, rows.to(place), asked, top, names, bias, mode)
            maps.append(_text_map(tokens, (rows[0] != 0).tolist(), result, labels))
            results.append(result)
            folder.add(viz.text_figure(maps[-1]), f"text-{number:02d}-explain", result)
            steps.done()
        folder.add_page(viz.text_page(maps), _PAGE, *results)
    for text in maps:
        _show(text)


def _lines(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The sentences in {path} cannot be read ({error}); expected a file in UTF-8.") from error
    if not lines:
        raise InputError(f"{path} holds no sentence; expected one a line.")
    return lines


def _encode(reader: Reader, number: int, tokens: Sequence[str]) -> Tensor:
    """Tokens of a sentence, int64 [1, T]."""
    try:
        return torch.tensor([reader.vocabulary.encode(tokens)])
    except InputError as error:
        raise InputError(f"Sentence {number}: {error}") from error


def _explained(
    net: FusedModel, tokens: Tensor, asked: Sequence[int], top: int, names: Sequence[str] | None, bias: Bias, mode: Mode
) -> tuple[Relevance, list[str]]:
    """Maps [1, K, T] of the classes and of the first one's contrast to the second, and what each is."""
    scores = class_scores(net, tokens)
    chosen = list(asked) or highest_classes(scores, top)[0].tolist()
    others = [c for c in [*chosen, *scores[0].argsort(descending=True).tolist()] if c != chosen[0]]
    wanted = list(dict.fromkeys([*chosen, *others[:1]]))
    result = net.attribute(tokens, torch.tensor([wanted], device=tokens.device), "pixels", bias.value, mode.value)
    called = [names[c] if names is not None and c < len(names) else f"class {c}" for c in wanted]
    forms = torch.eye(len(wanted), dtype=result.scores.dtype, device=tokens.device)  # [rows, classes]
    labels = called
    if others:
        # Maps are linear in what they explain: the map of a difference is the difference of maps.
        against = wanted.index(others[0])
        forms = torch.cat([forms[: len(dict.fromkeys(chosen))], forms[:1] - forms[against : against + 1]])
        labels = [*called[: len(forms) - 1], f"{called[0]} − {called[against]}"]
    return replace(
        result,
        scores=forms @ result.scores,
        bias=result.bias @ forms.T,
        outputs=result.outputs @ forms.T,
        units=torch.arange(len(forms))[None],
        _delta=None,
    ), labels


def _text_map(tokens: list[str], known: list[bool], result: Relevance, labels: Sequence[str]) -> viz.TextMap:
    scores = result.scores[0].float().cpu().numpy()
    rows = []
    for k, label in enumerate(labels):
        mass = None if result.bias_in_scores else float(result.bias[0, k])
        rows.append(viz.TextRow(label, float(result.outputs[0, k]), mass, scores[k]))
    check = f"completeness error {completeness_errors(result)[0]:.1e}"
    return viz.TextMap(tokens, known, rows, f"{check}; {result.note}" if result.note else check)


def _show(text: viz.TextMap) -> None:
    colourful = console.stdout.color_system is not None and not console.stdout.no_color
    console.say("")
    for row in text.rows:
        console.stdout.print(Text(row.heading, "bold"), soft_wrap=True)
        line = Text("  ")
        for token, known, score in zip(text.tokens, text.known, row.scores, strict=True):
            colours = token_colours(float(score), text.limit)
            style = "" if colours is None else f"{colours[1]} on {colours[0]}"
            line.append(token, style if known else f"{style} underline".strip())
            line.append(" " if colourful else f" {score:+.2f}  ")
        console.stdout.print(line, soft_wrap=not colourful)
    unknown = [token for token, known in zip(text.tokens, text.known, strict=True) if not known]
    if unknown:
        listed = ", ".join(dict.fromkeys(unknown))
        console.warn(f"{len(unknown)} of {len(text.tokens)} words are unknown and read as one and the same: {listed}")
