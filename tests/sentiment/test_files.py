"""Folders of readers: written, read, and refused when they are damaged."""

import json
import os
from pathlib import Path

import pytest
import torch

from fwdkern.errors import InputError
from fwdkern.sentiment import Example, Reader, SentimentNet, Vocabulary, load_reader, save_reader
from fwdkern.sentiment.files import CONFIG, TRAINED, VOCABULARY, WEIGHTS, read_examples


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    reader = Reader("mine", SentimentNet("rnn", 3, 4, 5), Vocabulary(["<unk>", "é", "b"]), ["negative", "positive"])
    save_reader(reader, tmp_path / "reader", {"seed": 0})
    return tmp_path / "reader"


def test_a_reader_comes_back_as_it_was(folder: Path) -> None:
    reader = load_reader(folder)
    torch.manual_seed(0)
    expected = SentimentNet("rnn", 3, 4, 5).eval()
    tokens = torch.tensor([[0, 1, 2]])
    assert torch.equal(reader.model(tokens), expected(tokens)) and not reader.model.training
    assert list(reader.vocabulary.words) == ["<unk>", "é", "b"] and reader.classes == ["negative", "positive"]
    assert sorted(os.listdir(folder)) == ["config.json", "vocabulary.json", "weights.safetensors"]


def _config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json cannot be read"),
        (lambda f: (f / "config.json").write_text("{"), "config.json is not JSON"),
        (lambda f: (f / "config.json").write_text("{}"), "is not what examples/train_sentiment.py writes"),
        (lambda f: _config(f, kind="gru"), "expected one of lstm, rnn"),
        (lambda f: _config(f, hidden="many"), "is not what examples/train_sentiment.py writes"),
        (lambda f: _config(f, hidden=6), "does not fit the model"),
        (lambda f: (f / "weights.safetensors").unlink(), "no weights file"),
        (lambda f: (f / "weights.safetensors").write_bytes(b"\x08"), "cannot be read as safetensors"),
        (lambda f: (f / "vocabulary.json").write_text('["<unk>", "b"]'), "has 2 words, but the embedding of .* 3 rows"),
    ],
)
def test_damaged_folders(folder: Path, damage: object, message: str) -> None:
    damage(folder)  # type: ignore[operator]
    with pytest.raises(InputError, match=message):
        load_reader(folder)


def test_examples_are_read_and_bad_lines_named(tmp_path: Path) -> None:
    path = tmp_path / "some.tsv"
    path.write_text("a good\ttab\t1\n\nbad one\t0\n")
    assert read_examples(path) == [Example(["a", "good", "tab"], 1), Example(["bad", "one"], 0)]
    path.write_text("fine\t1\nno label\n")
    with pytest.raises(InputError, match=r"line 2: expected a sentence, a tab, and 0 or 1, got 'no label'"):
        read_examples(path)
    path.write_text("\n")
    with pytest.raises(InputError, match="holds no sentences"):
        read_examples(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_examples(tmp_path / "absent.tsv")


def test_shipped_files_are_small() -> None:
    assert sum((TRAINED / name).stat().st_size for name in (WEIGHTS, VOCABULARY, CONFIG)) < 300_000
