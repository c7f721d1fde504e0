"""Do the scores of words mean something? Drop the highest scored words and see how far the probability falls.

    python examples/sentiment_deletion.py ../shared/data/text/sst2_test.tsv build/sentiment/lstm build/sentiment/rnn

The folders are those of examples/train_sentiment.py. For every sentence the words with the highest scores for the
predicted class are left out, and the network reads what remains; the fall in that class's probability is compared with
that after leaving out random words, the words of the highest input x gradient, and the words whose single removal
costs most, which is no attribution but nearly the best that dropping words can do. Intervals are 95 % of a bootstrap
over sentences; differences are paired.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import Progress, TimeElapsedColumn
from torch import Tensor

import fwdkern
from fwdkern.errors import FwdkernError
from fwdkern.evaluation.report import Report
from fwdkern.metrics import bootstrap
from fwdkern.rnn import RelevanceRNN
from fwdkern.sentiment import Example, Reader, SentimentNet, load_reader
from fwdkern.sentiment.files import read_examples

SHORTEST = 5  # tokens, so that something remains after three are dropped
RANDOM_DRAWS = 20
RESAMPLES = 10_000
FORMS = ("class score", "contrast")
DROPS = {"1 word": 1, "2 words": 2, "3 words": 3, "20 % of words": 0.2}

# Scores of every token for both logits, [B, 2, T], of sentences of one length [B, T].
Method = Callable[[Tensor], Tensor]


def methods(net: SentimentNet, tokens: Tensor) -> dict[str, Method]:
    """The attributions that are compared, by name."""
    fused = fwdkern.fuse(net, tokens)

    def ratio(tokens: Tensor) -> Tensor:
        return fused.attribute(tokens, "all", bias="separate", strict=True).scores

    def input_x_gradient(tokens: Tensor) -> Tensor:
        x = net.embedding(tokens).detach().requires_grad_()
        states = net.recurrent(x)[0]
        logits = net.head(states[:, -1])
        gradients = [torch.autograd.grad(logit.sum(), x, retain_graph=True)[0] for logit in logits.T]
        return torch.stack([(x * gradient).sum(2) for gradient in gradients], 1).detach()

    found: dict[str, Method] = {"fwdkern, ratio rule": ratio, "input × gradient": input_x_gradient}
    if net.kind == "rnn":
        layer = RelevanceRNN.from_torch(net.recurrent)

        def thesis(tokens: Tensor) -> Tensor:
            x = net.embedding(tokens).detach()
            return layer.attribute(x, head=net.head, rule="thesis").scores

        found["fwdkern, thesis rule"] = thesis
    return found


class Study:
    """One network on the chosen sentences: which class it predicts, and what dropping words does to it."""

    def __init__(self, reader: Reader, sentences: list[list[str]]) -> None:
        self.net = reader.model.eval()
        self.rows = [torch.tensor(reader.vocabulary.encode(sentence)) for sentence in sentences]
        logits = self._logits(self.rows)
        self.predicted = logits.argmax(1)
        self.before = logits.softmax(1)[torch.arange(len(logits)), self.predicted]  # [n]

    @torch.no_grad()
    def _logits(self, rows: list[Tensor]) -> Tensor:
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return self.net(padded, torch.tensor([len(row) for row in rows]))

    def scores(self, method: Method, form: str) -> list[Tensor]:
        """Every sentence's scores [T] for the predicted class, or for its contrast to the other one."""
        found: list[Tensor] = [torch.empty(0)] * len(self.rows)
        for length in {len(row) for row in self.rows}:
            chosen = [i for i, row in enumerate(self.rows) if len(row) == length]
            scores = method(torch.stack([self.rows[i] for i in chosen]))  # [B, 2, T]
            for of_sentence, i in zip(scores, chosen, strict=True):
                own = of_sentence[self.predicted[i]]
                found[i] = own - of_sentence[1 - self.predicted[i]] if form == "contrast" else own
        return found

    def leave_one_out(self) -> list[Tensor]:
        """The fall in probability after leaving out each token alone, [T] per sentence."""
        found = []
        for i, row in enumerate(self.rows):
            shorter = [torch.cat([row[:t], row[t + 1 :]]) for t in range(len(row))]
            probabilities = self._logits(shorter).softmax(1)[:, self.predicted[i]]
            found.append(self.before[i] - probabilities)
        return found

    def falls(self, scores: list[Tensor], drop: float) -> Tensor:
        """The fall in the predicted class's probability, [n], after dropping the tokens with the highest scores."""
        shorter = []
        for row, score in zip(self.rows, scores, strict=True):
            count = drop if isinstance(drop, int) else -int(-drop * len(row) // 1)  # a share is rounded up
            kept = score.argsort(descending=True)[count:].sort().values
            shorter.append(row[kept])
        after = self._logits(shorter).softmax(1)
        return self.before - after[torch.arange(len(after)), self.predicted]


def points(values: Tensor, seed: int, sign: str = "") -> str:
    """Mean and interval of values [n] in percentage points."""
    percent = 100 * values.double()
    low, high = bootstrap(percent, seed=seed, resamples=RESAMPLES)
    shown = [f"{value:{sign}.1f}".replace("-", "−") for value in (float(percent.mean()), low, high)]
    return f"{shown[0]} ({shown[1]} to {shown[2]})"


def study(reader: Reader, examples: list[Example], seed: int, progress: Progress) -> str:
    """The section of the report about one network, as Markdown."""
    net = reader.model
    assert isinstance(net, SentimentNet)
    task = progress.add_task(reader.name, total=None)
    run = Study(reader, [example.tokens for example in examples])
    right = (run.predicted == torch.tensor([example.label for example in examples])).double().mean()
    generator = torch.Generator().manual_seed(seed)

    falls: dict[str, dict[str, Tensor]] = {}  # by method, then by how much is dropped
    for name, method in methods(net, run.rows[0][None]).items():
        for form in FORMS:
            progress.update(task, description=f"{reader.name}: {name}, {form}")
            scores = run.scores(method, form)
            falls[f"{name}, {form}"] = {label: run.falls(scores, drop) for label, drop in DROPS.items()}
    progress.update(task, description=f"{reader.name}: leave one out")
    scores = run.leave_one_out()
    falls["leave one out (not an attribution)"] = {label: run.falls(scores, drop) for label, drop in DROPS.items()}
    progress.update(task, description=f"{reader.name}: random words")
    draws = [[torch.rand(len(row), generator=generator) for row in run.rows] for _ in range(RANDOM_DRAWS)]
    falls[f"random words, mean of {RANDOM_DRAWS} draws"] = {
        label: torch.stack([run.falls(draw, drop) for draw in draws]).mean(0) for label, drop in DROPS.items()
    }
    progress.remove_task(task)

    random = falls[f"random words, mean of {RANDOM_DRAWS} draws"]
    lines = [
        f"### {'LSTM' if net.kind == 'lstm' else 'Plain tanh network'}",
        "",
        f"Right on {100 * right:.1f} % of these {len(examples)} sentences; mean probability of the predicted class "
        f"{100 * float(run.before.mean()):.1f} %.",
        "",
        "| words chosen by | " + " | ".join(f"fall, {label}" for label in DROPS) + " |",
        "|---" * (1 + len(DROPS)) + "|",
    ]
    for name, of_method in falls.items():
        lines.append(f"| {name} | " + " | ".join(points(of_method[label], seed) for label in DROPS) + " |")
    lines += ["", "| difference of falls, contrast | " + " | ".join(DROPS) + " |", "|---" * (1 + len(DROPS)) + "|"]
    rivals = {"random words": random, "input × gradient": falls["input × gradient, contrast"]}
    for name in (name for name in falls if name.startswith("fwdkern") and name.endswith(", contrast")):
        for rival, of_rival in rivals.items():
            shown = (points(falls[name][drop] - of_rival[drop], seed, "+") for drop in DROPS)
            lines.append(f"| {name.removesuffix(', contrast')} − {rival} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def main(
    sentences: Annotated[Path, typer.Argument(help="Lines of `sentence<TAB>0 or 1`.")],
    networks: Annotated[list[Path], typer.Argument(help="Folders of examples/train_sentiment.py.")],
    count: Annotated[int, typer.Option(min=2, help="How many sentences, drawn at random.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the choice, the random words and the bootstrap.")] = 0,
    report: Annotated[Path | None, typer.Option(help="Put the tables into this file instead of printing.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:
    """Compare fwdkern's scores of words with random ones and with input x gradient by dropping words."""
    torch.set_num_threads(threads)
    try:
        long_enough = [example for example in read_examples(sentences) if len(example.tokens) >= SHORTEST]
        readers = [load_reader(folder) for folder in networks]
        place = None if report is None else Report(report, "deletion")
    except FwdkernError as error:
        raise SystemExit(f"Error: {error}") from error
    if len(long_enough) < count:
        raise SystemExit(f"{sentences} has {len(long_enough)} sentences of {SHORTEST} words or more, not {count}.")
    order = torch.randperm(len(long_enough), generator=torch.Generator().manual_seed(seed))[:count].sort().values
    chosen = [long_enough[i] for i in order.tolist()]
    with Progress(*Progress.get_default_columns(), TimeElapsedColumn(), transient=True) as progress:
        text = "\n\n".join(study(reader, chosen, seed, progress) for reader in readers)
    if place is None:
        print(text)
    else:
        place.put(text)


if __name__ == "__main__":
    typer.run(main)
