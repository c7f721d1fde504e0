"""The sentiment examples run from sentences to tables, and the deletion test finds what is there to be found."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from fwdkern.sentiment import CLASSES, Reader, SentimentNet, Vocabulary, load_reader, own_sentences
from tests.data import shared_data

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def _load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return _load("train_sentiment", monkeypatch)


@pytest.fixture
def deletion(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = _load("sentiment_deletion", monkeypatch)
    monkeypatch.setattr(module, "RESAMPLES", 300)
    return module


SETTINGS = {
    "kind": None,
    "embedding": 6,
    "hidden": 8,
    "dropout": 0.2,
    "rate": None,
    "epochs": 2,
    "patience": 2,
    "seed": 0,
    "threads": 1,
}


def _write(path: Path, count: int, seed: int) -> None:
    lines = [f"{' '.join(example.tokens)}\t{example.label}\n" for example in own_sentences(count, seed)]
    path.write_text("".join(lines))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files of the names and the form of SST-2."""
    for seed, (name, count) in enumerate((("train", 150), ("dev", 40), ("test", 60))):
        _write(tmp_path / f"sst2_{name}.tsv", count, seed)
    return tmp_path


def test_from_sentences_to_tables(
    training: ModuleType, deletion: ModuleType, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for out in ("first", "again"):
        training.main(folder, folder / out, **SETTINGS)
    printed = capsys.readouterr().out
    assert "lstm: accuracy 0." in printed and "rnn: accuracy 0." in printed and "60 test sentences" in printed
    for kind in ("lstm", "rnn"):
        first, again = load_reader(folder / "first" / kind), load_reader(folder / "again" / kind)
        for name, weight in first.model.state_dict().items():
            assert torch.equal(weight, again.model.state_dict()[name])

    networks = [folder / "first" / kind for kind in ("lstm", "rnn")]
    report = folder / "report.md"
    report.write_text("before\n<!-- deletion -->\nold\n<!-- /deletion -->\nafter\n")
    deletion.main(folder / "sst2_test.tsv", networks, count=20, seed=1, report=report, threads=1)
    deletion.main(folder / "sst2_test.tsv", networks, count=20, seed=1, report=None, threads=1)
    tables = capsys.readouterr().out.strip()
    assert report.read_text() == f"before\n<!-- deletion -->\n\n{tables}\n\n<!-- /deletion -->\nafter\n"
    lstm, rnn = tables.split("### ")[1:]
    assert "thesis" not in lstm and rnn.count("| fwdkern, thesis rule") == 4
    assert lstm.count("| fwdkern, ratio rule") == rnn.count("| fwdkern, ratio rule") == 4


def test_without_a_folder_the_sentences_are_the_projects_own(
    training: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, examples = training.load_examples(tmp_path / "absent")
    assert source == "own sentences" and "There is no folder" in capsys.readouterr().out
    assert {name: len(part) for name, part in examples.items()} == training.OWN
    tokens = [tuple(example.tokens) for part in examples.values() for example in part]
    assert len(set(tokens)) == len(tokens)  # nothing of the test was trained on


def test_real_sentences_are_found(training: ModuleType) -> None:
    source, examples = training.load_examples(shared_data("text"))
    assert source == "text" and [len(part) for part in examples.values()] == [6920, 872, 1821]


def test_missing_files_and_too_few_sentences_are_said(
    training: ModuleType, deletion: ModuleType, folder: Path, tmp_path: Path
) -> None:
    (folder / "sst2_dev.tsv").unlink()
    with pytest.raises(SystemExit, match=r"sst2_dev.tsv cannot be read"):
        training.main(folder, tmp_path / "out", **SETTINGS)
    with pytest.raises(SystemExit, match="sentences of 5 words or more, not 500"):
        deletion.main(folder / "sst2_test.tsv", [], count=500, seed=0, report=None, threads=1)
    with pytest.raises(SystemExit, match="nowhere"):
        deletion.main(folder / "sst2_test.tsv", [tmp_path / "nowhere"], count=2, seed=0, report=None, threads=1)
    (tmp_path / "empty.md").write_text("nothing")
    with pytest.raises(SystemExit, match="must hold the line"):
        deletion.main(folder / "sst2_test.tsv", [], count=2, seed=0, report=tmp_path / "empty.md", threads=1)


@pytest.fixture
def counting() -> Reader:
    """A network whose logits count the words "good" (class 1) and "bad" (class 0), seen through a narrow tanh."""
    net = SentimentNet("rnn", 4, 2, 2).eval()
    with torch.no_grad():
        net.embedding.weight.copy_(torch.tensor([[0.0, 0], [0, 0], [0.1, 0], [0, 0.1]]))
        net.recurrent.weight_ih_l0.copy_(torch.eye(2))
        net.recurrent.weight_hh_l0.copy_(torch.eye(2))
        net.recurrent.bias_ih_l0.zero_()
        net.recurrent.bias_hh_l0.zero_()
        net.head.weight.copy_(10 * torch.eye(2))
        net.head.bias.zero_()
    return Reader("counting", net, Vocabulary(["<unk>", "film", "bad", "good"]), CLASSES)


def test_dropping_the_words_that_count_lowers_the_probability(deletion: ModuleType, counting: Reader) -> None:
    sentences = ["good film film good bad".split(), "film bad film film film bad".split()]
    run = deletion.Study(counting, sentences)
    assert run.predicted.tolist() == [1, 0]
    named = deletion.methods(counting.model, run.rows[0][None])
    assert list(named) == ["fwdkern, ratio rule", "input × gradient", "fwdkern, thesis rule"]
    for method in named.values():
        for form in deletion.FORMS:
            falls = run.falls(run.scores(method, form), 2)
            expected = run.before - torch.tensor([0.27, 0.5])  # left: "film film bad", then films only
            assert torch.allclose(falls, expected, atol=0.01)
    assert [int(scores.argmax()) for scores in run.leave_one_out()] in ([0, 1], [3, 1], [0, 5], [3, 5])
    (one, two) = run.falls([torch.arange(5.0), torch.arange(6.0)], 0.2)  # one word of five, two of six
    assert one < 0  # the last word of the first sentence is "bad", against the prediction
    assert torch.allclose(two, run.falls([torch.arange(5.0), torch.arange(6.0)], 2)[1])


def test_points_are_percentages_with_an_interval(deletion: ModuleType) -> None:
    assert deletion.points(torch.full((400,), -0.5), seed=0) == "−50.0 (−50.0 to −50.0)"
    values = torch.randn(400, generator=torch.Generator().manual_seed(0)) / 100 + 0.03
    mean, low, high = map(float, re.findall(r"[+-][\d.]+", deletion.points(values, 0, "+")))
    assert low < mean < high and high - low == pytest.approx(2 * 1.96 / 20, rel=0.5)
