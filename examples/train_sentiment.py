"""Train two readers of film reviews, an LSTM and a plain tanh network, and say how often they are right.

With the folder of sst2_train.tsv, sst2_dev.tsv and sst2_test.tsv (lines of `sentence<TAB>0 or 1`):

    python examples/train_sentiment.py ../shared/data/text

Without a folder, or where it is absent, the sentences are the project's own, on which only a held-out test of the same
simple kind is possible. `fwdkern explain --text "..." -m sentiment:build/sentiment/lstm` then uses what was written.
The package's own reader, whose three files lie in fwdkern/sentiment, comes from
`--kind lstm --embedding 16 --hidden 24 --dropout 0.2 --rate 5e-3 --epochs 12`.
"""

import copy
import time
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import typer
from rich.progress import Progress, TimeElapsedColumn
from torch import Tensor
from torch.nn import functional as F

from fwdkern.errors import FwdkernError
from fwdkern.sentiment import (
    CLASSES,
    Example,
    Reader,
    SentimentNet,
    Vocabulary,
    load_reader,
    own_sentences,
    save_reader,
)
from fwdkern.sentiment.files import read_examples

BATCH = 32
UNKNOWN_RATE = 0.1  # of training words are hidden, so that the network learns what to make of unknown ones
RATES = {"lstm": 2e-3, "rnn": 1e-3}
OWN = {"train": 3000, "dev": 500, "test": 1000}


class Split(NamedTuple):
    """Tokens [n, T], filled up at their ends, lengths [n], labels [n]."""

    tokens: Tensor
    lengths: Tensor
    labels: Tensor


def load_examples(folder: Path | None) -> tuple[str, dict[str, list[Example]]]:
    """The sentences of three files in a folder, or the project's own where there is none; and which they are."""
    if folder is not None and folder.is_dir():
        return folder.name, {name: read_examples(folder / f"sst2_{name}.tsv") for name in OWN}
    if folder is not None:
        print(f"There is no folder {folder}; the sentences are the project's own.")
    drawn = own_sentences(sum(OWN.values()), seed=0)
    cuts = {"train": (0, 3000), "dev": (3000, 3500), "test": (3500, 4500)}
    return "own sentences", {name: drawn[start:stop] for name, (start, stop) in cuts.items()}


def encoded(reader: Reader, examples: list[Example]) -> Split:
    tokens, lengths = reader.tokens([example.tokens for example in examples])
    return Split(tokens, lengths, torch.tensor([example.label for example in examples]))


def train(
    net: SentimentNet, data: Split, dev: Split, rate: float, epochs: int, patience: int, progress: Progress
) -> float:
    """Train in place; keeps the weights of the epoch with the highest accuracy on `dev`, which is returned."""
    optimizer = torch.optim.AdamW(net.parameters(), rate, weight_decay=0.01)
    task = progress.add_task(f"training {net.kind}", total=epochs)
    best, best_weights, since = -1.0, copy.deepcopy(net.state_dict()), 0
    for _ in range(epochs):
        net.train()
        for chosen in torch.randperm(len(data.tokens)).split(BATCH):
            lengths = data.lengths[chosen]
            tokens = data.tokens[chosen, : int(lengths.max())]
            tokens = tokens.masked_fill(torch.rand(tokens.shape) < UNKNOWN_RATE, 0)
            loss = F.cross_entropy(net(tokens, lengths), data.labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
        net.eval()
        reached = accuracy(net, dev)
        progress.update(task, advance=1, description=f"training {net.kind}, dev accuracy {reached:.4f}")
        since += 1
        if reached > best:
            best, best_weights, since = reached, copy.deepcopy(net.state_dict()), 0
        if since == patience:
            break
    progress.remove_task(task)
    net.load_state_dict(best_weights)
    return best


@torch.no_grad()
def accuracy(net: SentimentNet, split: Split) -> float:
    """Share of right answers, in evaluation mode."""
    return (net(split.tokens, split.lengths).argmax(1) == split.labels).double().mean().item()


def main(
    folder: Annotated[Path | None, typer.Argument(help="Where sst2_train.tsv, _dev and _test lie.")] = None,
    out: Annotated[Path, typer.Option(help="Each network gets a folder in it.")] = Path("build/sentiment"),
    kind: Annotated[list[str] | None, typer.Option(help="lstm or rnn; both by default.")] = None,
    embedding: Annotated[int, typer.Option(min=1, help="Numbers per word.")] = 64,
    hidden: Annotated[int, typer.Option(min=1, help="Hidden units.")] = 64,
    dropout: Annotated[float, typer.Option(min=0, max=0.9, help="Of embeddings and of the last state.")] = 0.5,
    rate: Annotated[float | None, typer.Option(help="Learning rate; 2e-3 for lstm, 1e-3 for rnn by default.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="At most.")] = 15,
    patience: Annotated[int, typer.Option(min=1, help="Epochs without a better dev accuracy before the end.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the weights, the order and the dropout.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:
    """Train an LSTM and a tanh RNN to tell good reviews from bad ones; write weights, vocabulary, configuration."""
    torch.set_num_threads(threads)
    try:
        source, examples = load_examples(folder)
    except FwdkernError as error:
        raise SystemExit(f"Error: {error}") from error
    vocabulary = Vocabulary.of(example.tokens for example in examples["train"])
    for chosen in kind or ["lstm", "rnn"]:
        torch.manual_seed(seed)
        net = SentimentNet(chosen, len(vocabulary), embedding, hidden, dropout)
        reader = Reader(chosen, net, vocabulary, CLASSES)
        splits = {name: encoded(reader, part) for name, part in examples.items()}
        start = time.perf_counter()
        with Progress(*Progress.get_default_columns(), TimeElapsedColumn()) as progress:
            best = train(net, splits["train"], splits["dev"], rate or RATES[chosen], epochs, patience, progress)
        seconds = time.perf_counter() - start
        measured = accuracy(net, splits["test"])
        about = {
            "trained_on": source,
            "seed": seed,
            "dev_accuracy": round(best, 4),
            "test_accuracy": round(measured, 4),
        }
        save_reader(reader, out / chosen, about)
        again = load_reader(out / chosen).model
        assert isinstance(again, SentimentNet)
        if accuracy(again, splits["test"]) != measured:
            raise SystemExit(f"The weights read back from {out / chosen} answer differently; do not use them.")
        print(
            f"{chosen}: accuracy {measured:.4f} on {len(splits['test'].labels)} test sentences ({source}), "
            f"{best:.4f} on {len(splits['dev'].labels)} dev sentences, {len(vocabulary)} words, {seconds:.0f} s; "
            f"{out / chosen}"
        )


if __name__ == "__main__":
    typer.run(main)
