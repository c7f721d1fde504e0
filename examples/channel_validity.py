"""Do the channels with good maps matter more to a network, and do their maps tell the classes apart?

Some images are mapped: every channel of some layers gets a score from its maps alone, and its maps are clustered
against the labels. On other images accuracy is measured with the good, the bad and random channels set to zero.
Without options it is the embedded digit reader on freshly drawn canvases. docs/channels.md shows a larger run.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from zipfile import BadZipFile

import numpy as np
import torch
import typer
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor, nn

import fwdkern
from fwdkern import viz
from fwdkern.cli import console
from fwdkern.cli.options import MeanOption, ModelOption, StdOption, WeightsOption, parse_numbers
from fwdkern.digits import canvases
from fwdkern.errors import FwdkernError, InputError
from fwdkern.evaluation import channels as ch
from fwdkern.files import make_folder
from fwdkern.models import DEFAULT_MODEL, load_model

TOGETHER = "together"
LAYER_COLUMNS = ["layer", "channel", "score", "magnitude", "ari", "silhouette", "silhouette_of_classes"]
PRUNING_COLUMNS = ["layer", "fraction", "group", "draw", "accuracy", "images"]
PAIRS = {
    ("good", "bad"): "highest and lowest score",
    ("good, matched", "bad, matched"): "the same among channels paired by magnitude",
    ("strong", "weak"): "largest and smallest magnitude",
}
STYLES = dict(
    zip((group for pair in PAIRS for group in pair), ("C3o-", "C0o-", "C3s:", "C0s:", "k^-", "kv-"), strict=True)
)


@dataclass(frozen=True)
class Channels:
    """What was measured about the channels of one layer: tensors ``[C]``, and random orders ``[draws, C]``."""

    score: Tensor
    magnitude: Tensor
    ari: Tensor
    silhouette: Tensor
    classes: Tensor
    orders: Tensor

    def groups(self, fraction: float) -> Iterator[tuple[str, int, Tensor]]:
        """Name, number of the draw, and channels of each group that holds this fraction of them."""
        size = len(self.score)
        count = min(max(1, round(fraction * size)), size // 2)
        for draw, order in enumerate(self.orders):
            yield "random", draw, order[:count]
        chosen = (
            ch.extremes(self.score, count),
            ch.matched(self.score, self.magnitude, count),
            ch.extremes(self.magnitude, count),
        )
        for names, pair in zip(PAIRS, chosen, strict=True):
            yield names[0], 0, pair[0]
            yield names[1], 0, pair[1]


@dataclass(frozen=True)
class Pruned:
    """What is left after one group was set to zero; ``right`` ``[n]`` says it image by image."""

    layer: str
    fraction: float
    group: str
    draw: int
    right: Tensor

    @property
    def accuracy(self) -> float:
        """In per cent."""
        return 100 * self.right.double().mean().item()


class Results:
    """All that was pruned, to be looked up by layer, fraction and group."""

    def __init__(self, baseline: Tensor) -> None:
        self.baseline = Pruned("", 0.0, "baseline", 0, baseline)
        self.rows: list[Pruned] = []

    def of(self, layer: str, fraction: float, group: str) -> list[Pruned]:
        """One row for each draw."""
        return [row for row in self.rows if (row.layer, row.fraction, row.group) == (layer, fraction, group)]

    def accuracy(self, layer: str, fraction: float, group: str) -> Tensor:
        """Per cent, ``[draws]``."""
        return torch.tensor([row.accuracy for row in self.of(layer, fraction, group)])

    def difference(self, layer: str, fraction: float, groups: tuple[str, str]) -> tuple[float, float]:
        """Accuracy of the first group minus that of the second on the same images, and half its 95 % interval."""
        first, second = (self.of(layer, fraction, group)[0].right.double() for group in groups)
        each = 100 * (first - second)
        return each.mean().item(), 1.96 * each.std().item() / len(each) ** 0.5


def load_pictures(path: Path, mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """images uint8 [n, H, W, C] and labels [n] of an npz file, as normalised [n, C, H, W] and int64 [n]."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            images, labels = archive["images"], archive["labels"]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise InputError(f"{path} is not a whole npz file with arrays images and labels ({error})") from error
    if (
        images.ndim != 4
        or images.dtype != np.uint8
        or labels.shape != images.shape[:1]
        or labels.dtype.kind not in "iu"
    ):
        raise InputError(
            f"{path} holds images {images.dtype} {list(images.shape)} and labels {labels.dtype} {list(labels.shape)}; "
            "expected uint8 [n, H, W, C] and integers [n]"
        )
    scaled = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    normalised = (scaled - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
    return normalised, torch.from_numpy(labels.astype(np.int64))


def map_channels(
    net: fwdkern.FusedModel, images: Sequence[Tensor], layer: str, grid: int, steps: console.Steps
) -> ch.ChannelMaps:
    """The maps of a layer's channels, batch by batch."""
    parts = []
    for batch in images:
        steps.start(f"maps of {layer}")
        parts.append(ch.channel_maps(net, batch, layer, grid))
        steps.done()
    return ch.join(parts)


def judge(maps: ch.ChannelMaps, labels: Tensor, classes: int, seed: int, orders: Tensor) -> Channels:
    """Score and cluster the channels of one layer."""
    found = [ch.cluster(vectors, labels, classes, seed) for vectors in maps.vectors.unbind(1)]
    columns = [torch.tensor([getattr(one, name) for one in found]) for name in ("ari", "silhouette", "classes")]
    return Channels(ch.concentration(maps), ch.magnitude(maps), *columns, orders)


def prune(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    places: dict[str, dict[str, Channels]],
    fractions: Sequence[float],
    steps: console.Steps,
) -> Results:
    """Accuracy without pruning, and with each group set to zero in the layers of each place."""
    results = Results(ch.correct(model, images, labels))
    for place, layers in places.items():
        for fraction in fractions:
            off: dict[tuple[str, int], dict[str, Tensor]] = {}
            for name, found in layers.items():
                for group, draw, chosen in found.groups(fraction):
                    off.setdefault((group, draw), {})[name] = chosen
            for (group, draw), chosen_of in off.items():
                steps.start(f"pruning {place}")
                right = ch.correct(ch.pruned(model, chosen_of), images, labels)
                results.rows.append(Pruned(place, fraction, group, draw, right))
                steps.done()
    return results


def rank_correlation(first: Tensor, second: Tensor) -> str:
    """Spearman's coefficient over the channels where both are known."""
    from scipy.stats import spearmanr

    known = first.isfinite() & second.isfinite()
    return f"{spearmanr(first[known].numpy(), second[known].numpy()).statistic:+.2f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def layer_table(measured: dict[str, Channels]) -> str:
    """What the score goes with, channel by channel."""
    head = [
        "layer",
        "channels",
        "always off",
        "score, range",
        "magnitude",
        "ARI",
        "silhouette",
        "silhouette of classes",
    ]
    rows = []
    for name, c in measured.items():
        correlations = [rank_correlation(c.score, other) for other in (c.magnitude, c.ari, c.silhouette, c.classes)]
        off = int((c.score == 0).sum())
        rows.append([name, str(len(c.score)), str(off), f"{c.score.min():.2f} to {c.score.max():.2f}", *correlations])
    return table(head, rows)


def cluster_table(measured: dict[str, Channels], fraction: float) -> str:
    """Mean ARI and silhouettes of the groups; random ones with the standard deviation over the draws."""
    head = ["layer", "measure", "good", "random", "bad", "strong", "weak"]
    rows = []
    for name, c in measured.items():
        for label, values in (("ARI", c.ari), ("silhouette", c.silhouette), ("silhouette of classes", c.classes)):
            means: dict[str, list[float]] = {}
            for group, _, chosen in c.groups(fraction):
                means.setdefault(group, []).append(values[chosen].nanmean().item())
            cells = [spread(torch.tensor(means[group]), ".4f") for group in head[2:]]
            rows.append([name, label, *cells])
    return table(head, rows)


def pruning_table(results: Results, places: Iterable[str], fractions: Sequence[float]) -> str:
    """Accuracy of every group; random ones with the standard deviation over the draws."""
    groups = ["random", *(group for pair in PAIRS for group in pair)]
    rows = []
    for place in places:
        for fraction in fractions:
            cells = [spread(results.accuracy(place, fraction, group), ".1f") for group in groups]
            rows.append([place, f"{fraction:g}", *cells])
    return table(["layer", "fraction", *groups], rows)


def verdict(results: Results, places: Sequence[str], fractions: Sequence[float]) -> str:
    """In how many prunings the first group of each pair costs more than the second, and than random channels."""
    every = [(place, fraction) for place in places for fraction in fractions]
    lines = []
    for pair, meaning in PAIRS.items():
        found = [results.difference(place, fraction, pair) for place, fraction in every]
        lines.append(
            f"- {pair[0]} against {pair[1]} ({meaning}), {len(every)} prunings: {pair[0]} costs more accuracy in "
            f"{sum(mean < -half for mean, half in found)}, {pair[1]} in {sum(mean > half for mean, half in found)}, "
            f"counted where the paired 95 % interval over images leaves zero out. "
            + " ".join(
                f"{group} is below all random draws in {below}, above all in {above}."
                for group in pair
                for below, above in [outside(results, every, group)]
            )
        )
    return "\n".join(lines) + "\n"


def outside(results: Results, every: Sequence[tuple[str, float]], group: str) -> tuple[int, int]:
    """In how many prunings a group's accuracy is below that of all random draws, and above."""
    pairs = [(results.accuracy(*where, group), results.accuracy(*where, "random")) for where in every]
    below = sum(bool(own.max() < draws.min()) for own, draws in pairs)
    return below, sum(bool(own.min() > draws.max()) for own, draws in pairs)


def spread(values: Tensor, form: str) -> str:
    """A figure, with the standard deviation where there are several."""
    text = format(values.mean().item(), form)
    return text if len(values) < 2 else f"{text} ± {values.std().item():{form}}"


def picture(results: Results, measured: dict[str, Channels], place: str, fractions: Sequence[float]) -> Figure:
    """Left: accuracy over the pruned fraction. Right: every channel's ARI over the rank of its score."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    x = [0.0, *fractions]
    base = results.baseline.accuracy
    draws = torch.stack([results.accuracy(place, fraction, "random") for fraction in fractions])
    low, high = (torch.cat([torch.tensor([base]), edge]) for edge in (draws.amin(1), draws.amax(1)))
    left.fill_between(x, low, high, color="0.8", label="random, all draws")
    for group, style in STYLES.items():
        means = [results.accuracy(place, fraction, group).mean().item() for fraction in fractions]
        left.plot(x, [base, *means], style, label=group)
    title = "all layers at once" if place == TOGETHER else place
    left.set(title=f"Accuracy after pruning, {title}", xlabel="fraction of channels set to zero", ylabel="per cent")
    left.legend(fontsize="small")
    for name, c in measured.items():
        ranks = c.score.argsort().argsort().double() / max(len(c.score) - 1, 1)
        right.plot(ranks, c.ari, "o", alpha=0.6, label=name)
    right.set(
        title="Clusters of each channel's maps against the labels",
        xlabel="rank of the channel's score in its layer, 1 is best",
        ylabel="adjusted Rand index",
    )
    right.legend(fontsize="small")
    for axes in (left, right):
        axes.grid(True, alpha=0.3)
    return figure


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """One line a measurement."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def write(out: Path, results: Results, measured: dict[str, Channels], places: list[str], fractions: list[float]) -> str:
    """The files; returns the text of the tables."""
    viz.save(picture(results, measured, places[-1], fractions), out / "channels.png")
    write_csv(
        out / "channels.csv",
        LAYER_COLUMNS,
        (
            (name, channel, *(f"{v:.6g}" for v in values))
            for name, c in measured.items()
            for channel, values in enumerate(
                zip(*(t.tolist() for t in (c.score, c.magnitude, c.ari, c.silhouette, c.classes)), strict=True)
            )
        ),
    )
    write_csv(
        out / "pruning.csv",
        PRUNING_COLUMNS,
        (
            (row.layer, row.fraction, row.group, row.draw, f"{row.accuracy:.4f}", len(row.right))
            for row in (results.baseline, *results.rows)
        ),
    )
    images = len(results.baseline.right)
    middle = sorted(fractions)[len(fractions) // 2]
    text = "\n".join(
        (
            "Spearman's correlation of the score with other properties of a channel:\n",
            layer_table(measured),
            f"Clusters, means over the groups of {middle:g} of the channels:\n",
            cluster_table(measured, middle),
            f"Accuracy in per cent on {images} images; {results.baseline.accuracy:.1f} unpruned:\n",
            pruning_table(results, places, fractions),
            verdict(results, places, fractions),
        )
    )
    (out / "channels.md").write_text(text, encoding="utf-8")
    return text


def main(
    model: ModelOption = DEFAULT_MODEL,
    weights: WeightsOption = None,
    data: Annotated[
        Path | None,
        typer.Option(help="npz with images uint8 [n, H, W, C] and labels [n]; without it, digits are drawn."),
    ] = None,
    mean: MeanOption = None,
    std: StdOption = None,
    layer: Annotated[
        list[str] | None, typer.Option("--layer", "-l", help="A module to prune; repeat. Without: each before a ReLU.")
    ] = None,
    maps: Annotated[int, typer.Option(min=20, help="Images to map.")] = 200,
    test: Annotated[int, typer.Option(min=20, help="Other images, to measure accuracy on.")] = 500,
    fraction: Annotated[
        list[float] | None, typer.Option(min=0.0, max=0.5, help="Part of the channels to prune; repeat.")
    ] = None,
    draws: Annotated[int, typer.Option(min=2, help="Random groups.")] = 5,
    grid: Annotated[int, typer.Option(min=1, help="Cells along a map's side in feature vectors.")] = 8,
    batch: Annotated[int, typer.Option(min=1, help="Images mapped at once.")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of images, of k-means and of the draws.")] = 0,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="For CSV, picture, tables.")] = Path(
        "build/channels"
    ),
) -> None:
    """Score, cluster and prune the channels of a network."""
    ch.require_scikit_learn()
    make_folder(out)
    generator = torch.Generator().manual_seed(seed)
    loaded = load_model(model, weights)
    if data is None:
        drawn = canvases(maps + test, seed, split="test")
        images, labels = drawn.images, drawn.labels
    else:
        usual = loaded.preprocessing
        images, labels = load_pictures(
            data,
            usual.mean if mean is None else parse_numbers("mean", mean),
            usual.std if std is None else parse_numbers("std", std),
        )
    if maps + test > len(images):
        raise InputError(f"--maps {maps} and --test {test} need {maps + test} images; there are {len(images)}")
    mapped, tested = torch.randperm(len(images), generator=generator)[: maps + test].split([maps, test])
    images = images.contiguous(memory_format=torch.channels_last)

    net = fwdkern.fuse(loaded.model, images[:2])
    names = layer or ch.prunable(net, loaded.model)
    layers = {name: ch.active_layer(net, name) for name in names}
    fractions = sorted(fraction or [0.125, 0.25, 0.5])
    places = len(layers) + (len(layers) > 1)
    batches = images[mapped].split(batch)
    with console.progress(
        len(layers) * (len(batches) + 1) + places * len(fractions) * (draws + 2 * len(PAIRS))
    ) as steps:
        measured = {}
        for name, seen in layers.items():
            found = map_channels(net, batches, seen, grid, steps)
            orders = torch.stack([torch.randperm(found.energy.shape[1], generator=generator) for _ in range(draws)])
            steps.start(f"clusters of {seen}")
            measured[name] = judge(found, labels[mapped], len(labels.unique()), seed, orders)
            steps.done()
        where = {name: {name: c} for name, c in measured.items()}
        if len(measured) > 1:
            where[TOGETHER] = measured
        results = prune(loaded.model, images[tested], labels[tested], where, fractions, steps)
    console.say(write(out, results, measured, list(where), fractions))
    console.say(f"{out}: channels.md, channels.png, channels.csv, pruning.csv")


if __name__ == "__main__":
    try:
        typer.run(main)
    except FwdkernError as error:
        raise SystemExit(f"Error: {error}") from error
