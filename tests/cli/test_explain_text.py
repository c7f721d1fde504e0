"""`fwdkern explain --text`, end to end, and what it says to wrong input."""

import os
import re
from pathlib import Path

import pytest
import torch
from rich.console import Console

import fwdkern
from fwdkern.cli import console
from fwdkern.sentiment import Reader, SentimentNet, Vocabulary, save_reader, sentiment_reader
from tests.cli.test_cli import refused, run, run_well
from tests.viz.pictures import read

GOOD = "a gripping, funny film"


def scores(stdout: str) -> list[dict[str, float]]:
    """The words and numbers of every row that was printed."""
    lines = [line for line in stdout.splitlines() if line.startswith("  ")]
    return [{word: float(score) for word, score in re.findall(r"(\S+) ([+-]\d+\.\d\d)", line)} for line in lines]


def test_a_sentence_out_of_the_box(tmp_path: Path) -> None:
    stdout = run_well("explain", "--text", GOOD, "--out", tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == ["text-01-explain.png", "text-explain.html"]
    assert read(tmp_path / "out" / "text-01-explain.png").std() > 10
    assert re.search(r"^positive [\d.]+, of which biases", stdout, re.M) and "positive − negative" in stdout
    predicted, contrast = scores(stdout)
    assert predicted["gripping"] > 0 and contrast["gripping"] > 0 and contrast["funny"] > 0
    errors = re.findall(r"completeness error \S+, relative (\S+)", stdout)
    assert len(errors) == 2 and all(float(error) < 1e-4 for error in errors)


def test_rows_are_the_maps_of_the_logits(tmp_path: Path) -> None:
    stdout = run_well("explain", "--text", GOOD, "-t", "negative", "-t", "positive", "--out", tmp_path)
    negative, positive, contrast = scores(stdout)
    reader = sentiment_reader()
    tokens, _ = reader.tokens([["a", "gripping", ",", "funny", "film"]])
    maps = fwdkern.fuse(reader.model, tokens).attribute(tokens, "all", bias="separate").scores[0]
    for row, expected in ((negative, maps[0]), (positive, maps[1]), (contrast, maps[0] - maps[1])):
        assert torch.allclose(torch.tensor(list(row.values())), expected, atol=6e-3)


def test_biases_can_be_spread(tmp_path: Path) -> None:
    stdout = run_well("explain", "--text", GOOD, "--bias", "uniform", "--mode", "forward", "--out", tmp_path)
    value = float(re.search(r"^positive ([\d.]+)$", stdout, re.M)[1])  # type: ignore[index]
    assert sum(scores(stdout)[0].values()) == pytest.approx(value, abs=0.04)


def test_several_sentences_from_options_and_a_file(tmp_path: Path) -> None:
    (tmp_path / "reviews.txt").write_text("\ufeffdull and slow\n\n  not bad \n", encoding="utf-8")
    arguments = ["--text", "fine", "--text", GOOD, "--text-file", tmp_path / "reviews.txt", "--out", tmp_path / "out"]
    stdout = run_well("explain", *arguments)
    assert len(os.listdir(tmp_path / "out")) == 5 and len(scores(stdout)) == 8
    assert (tmp_path / "out" / "text-explain.html").read_text(encoding="utf-8").count("<section>") == 4


def test_colours_in_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Console(force_terminal=True, color_system="truecolor", width=80, highlight=False, record=True)
    monkeypatch.setattr(console, "stdout", screen)
    assert run("explain", "--text", f"{GOOD} qwertz", "--out", tmp_path).exit_code == 0
    styles = {segment.text: segment.style for segment in screen._record_buffer if segment.style}
    background = styles["gripping"].bgcolor.triplet  # type: ignore[union-attr]
    assert background.red > background.blue
    assert styles["qwertz"].underline
    assert "+" not in screen.export_text(styles=False).partition("gripping")[2].splitlines()[0]


def test_unknown_words_are_counted_and_named(tmp_path: Path) -> None:
    outcome = run("explain", "--text", "a qwertz, funny qwertz asdf", "--out", tmp_path)
    assert outcome.exit_code == 0
    assert "Warning: 3 of 6 words are unknown and read as one and the same: qwertz, asdf" in outcome.stderr


def test_hostile_text_reaches_neither_terminal_nor_page(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script> \x1b[31mred\x07 \u202eflip [bold]markup[/bold] 😀"
    stdout = run_well("explain", "--text", hostile, "--out", tmp_path)
    page = (tmp_path / "text-explain.html").read_text(encoding="utf-8")
    for output in (stdout, page):
        assert not set("\x1b\x07\u202e") & set(output)
    assert "<script" not in page and "&lt;script&gt;" in page and "[bold]markup[/bold]" in stdout


@pytest.fixture
def own_folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    vocabulary = Vocabulary(["<unk>", "funny", "film"])
    reader = Reader("mine", SentimentNet("rnn", 3, 4, 5), vocabulary, ["negative", "positive"])
    save_reader(reader, tmp_path / "own", {})
    return tmp_path / "own"


def test_a_trained_folder_and_a_factory(tmp_path: Path, own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from_folder = run_well("explain", "--text", GOOD, "-m", f"sentiment:{own_folder}", "--out", tmp_path / "a")
    (tmp_path / "own_readers.py").write_text(
        "from fwdkern.sentiment import SentimentNet\ndef build():\n    return SentimentNet('rnn', 3, 4, 5)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    model = ["-m", "own_readers:build", "--vocabulary", "own/vocabulary.json", "-w", "own/weights.safetensors"]
    from_factory = run_well("explain", "--text", GOOD, *model, "--out", tmp_path / "b")
    assert scores(from_folder) == scores(from_factory) and "class 1" in from_factory
    assert "--vocabulary FILE.json" in refused("explain", "--text", GOOD, "-m", "own_readers:build")
    short = tmp_path / "short.json"
    short.write_text('["<unk>", "film"]')
    wrong = ["-m", f"sentiment:{own_folder}", "--vocabulary", short]
    assert "has 2 words, but the embedding" in refused("explain", "--text", GOOD, *wrong)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--text", ""], "Sentence 1: The sentence is empty"),
        (["--text", "fine", "--text", " \x1b\u200b "], "Sentence 2: The sentence is empty"),
        (["--text", "word " * 600], "600 tokens, more than 512"),
        (["--text-file", "absent.txt"], "absent.txt cannot be read"),
        (["--text", "fine", "-t", "neutral"], "No class is called 'neutral'"),
        (["--text", "fine", "-t", "2"], "0 to 1"),
        (["--text", "fine", "--top", "3"], "knows 2 classes"),
        (["--text", "fine", "--crop", "8"], "--crop is for images"),
        (["--text", "fine", "seven.png"], "both given"),
        (["--text", "fine", "-m", "digits"], "'digits' reads no text"),
        (["--text", "fine", "-m", "torchvision:resnet18"], "reads no text"),
        (["--text", "fine", "-m", "sentiment:nowhere"], "nowhere"),
        (["--text", "fine", "--vocabulary", "absent.json"], "absent.json cannot be read"),
        (["--text", "fine", "--weights", "absent.safetensors"], "no weights file"),
        (["--vocabulary", "absent.json"], "--vocabulary is for sentences"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_wrong_input_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused("explain", *arguments)
    assert os.listdir(tmp_path) == []


def test_files_that_hold_no_sentences(tmp_path: Path) -> None:
    path = tmp_path / "reviews.txt"
    path.write_text(" \n\n")
    assert "holds no sentence" in refused("explain", "--text-file", path)
    path.write_bytes(b"caf\xe9")
    assert "expected a file in UTF-8" in refused("explain", "--text-file", path)
