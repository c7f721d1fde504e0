"""Trained readers as folders of three files: weights, vocabulary, configuration."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from fwdkern.errors import InputError
from fwdkern.sentiment.network import SentimentNet
from fwdkern.sentiment.reader import Reader
from fwdkern.sentiment.sentences import Example
from fwdkern.sentiment.vocabulary import Vocabulary
from fwdkern.weights import load_weights

TRAINED = Path(__file__).parent
WEIGHTS, VOCABULARY, CONFIG = "weights.safetensors", "vocabulary.json", "config.json"


def sentiment_reader(vocabulary: Path | None = None) -> Reader:
    """The reader that ships with the package, trained on sentences of the project's own."""
    return load_reader(TRAINED, "sentiment", vocabulary)


def load_reader(folder: Path, name: str | None = None, vocabulary: Path | None = None) -> Reader:
    """Read a folder that `save_reader` wrote.

    name: what to call it; vocabulary: a file instead of the folder's.
    Raises InputError for files that are missing, damaged or do not fit each other.
    """
    words = Vocabulary.load(vocabulary or folder / VOCABULARY)
    config = _config(folder / CONFIG)
    try:
        net = SentimentNet(config["kind"], int(config["words"]), int(config["embedding"]), int(config["hidden"]))
        classes = [str(name) for name in config["classes"]]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{folder / CONFIG} is not what examples/train_sentiment.py writes ({type(error).__name__}: {error})."
        ) from error
    load_weights(net, folder / WEIGHTS)
    return Reader(name or str(folder), net.eval(), words, classes)


def save_reader(reader: Reader, folder: Path, about: dict[str, Any]) -> None:
    """Write a reader whose model is a SentimentNet; each file is whole or absent. about: more of its configuration."""
    net = reader.model
    assert isinstance(net, SentimentNet)
    config = {
        "kind": net.kind,
        "words": net.embedding.num_embeddings,
        "embedding": net.embedding.embedding_dim,
        "hidden": net.recurrent.hidden_size,
        "classes": reader.classes,
        **about,
    }
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unfinished-") as stage:
        save_file(net.state_dict(), Path(stage, WEIGHTS))
        Path(stage, VOCABULARY).write_text(json.dumps(list(reader.vocabulary.words), ensure_ascii=False, indent=0))
        Path(stage, CONFIG).write_text(json.dumps(config, indent=2) + "\n")
        for name in (WEIGHTS, VOCABULARY, CONFIG):
            os.chmod(Path(stage, name), 0o644)
            Path(stage, name).replace(folder / name)


def read_examples(path: Path) -> list[Example]:
    """Read lines of `sentence<TAB>0 or 1`, words apart by spaces; raises InputError for any other line."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The sentences in {path} cannot be read ({error}).") from error
    examples = []
    for number, line in enumerate(lines, 1):
        sentence, _, label = line.rpartition("\t")
        if sentence.strip() and label.strip() in ("0", "1"):
            examples.append(Example(sentence.split(), int(label)))
        elif line.strip():
            raise InputError(f"{path}, line {number}: expected a sentence, a tab, and 0 or 1, got {line[:60]!r}.")
    if not examples:
        raise InputError(f"{path} holds no sentences.")
    return examples


def _config(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror or error}); a folder of examples/train_sentiment.py holds it."
        ) from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); is the file complete?") from error
