"""The experiment runs from images to tables, and refuses data that it cannot use."""

import csv
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from fwdkern.digits import canvases
from fwdkern.errors import InputError

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "channel_validity.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("channel_validity", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "channel_validity", module)
    spec.loader.exec_module(module)
    return module


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_digits_from_canvases_to_tables(script: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    few = {"maps": 24, "test": 40, "draws": 2, "layer": ["edges.1", "strokes.1"], "fraction": [0.5]}
    for out in ("first", "again"):
        script.main(**few, grid=4, batch=16, seed=3, out=tmp_path / out)
    for name in ("channels.csv", "pruning.csv", "channels.md"):
        assert (tmp_path / "first" / name).read_text() == (tmp_path / "again" / name).read_text()
    assert (tmp_path / "first" / "channels.png").stat().st_size > 10_000

    channels = rows(tmp_path / "first" / "channels.csv")
    assert [row["layer"] for row in channels] == ["edges.1"] * 16 + ["strokes.1"] * 32
    scores = torch.tensor([float(row["score"]) for row in channels])
    assert ((scores == 0) | ((scores > 0.25) & (scores <= 1))).all()

    pruning = rows(tmp_path / "first" / "pruning.csv")
    assert pruning[0]["group"] == "baseline" and float(pruning[0]["accuracy"]) > 80
    # Each layer and both together, two random draws and six other groups.
    assert len(pruning) == 1 + 3 * 8
    assert {row["layer"] for row in pruning[1:]} == {"edges.1", "strokes.1", "together"}
    half = [row for row in pruning if row["layer"] == "together"]
    assert all(float(row["accuracy"]) < float(pruning[0]["accuracy"]) for row in half)

    text = (tmp_path / "first" / "channels.md").read_text()
    assert text.count("good against bad") == 1 and "| strokes.1 | ARI |" in text


def test_pictures_are_read_as_they_are_stored(script: ModuleType, tmp_path: Path) -> None:
    drawn = canvases(30, seed=1)
    stored = (drawn.images * 255).round().byte().permute(0, 2, 3, 1).numpy()
    np.savez(tmp_path / "digits.npz", images=stored, labels=drawn.labels.numpy().astype(np.uint8))
    images, labels = script.load_pictures(tmp_path / "digits.npz", (0.5,), (0.25,))
    torch.testing.assert_close(images * 0.25 + 0.5, drawn.images, atol=0.5 / 255 + 1e-6, rtol=0)
    assert torch.equal(labels, drawn.labels)

    with pytest.raises(InputError, match="need 60 images; there are 30"):
        script.main(data=tmp_path / "digits.npz", maps=30, test=30, out=tmp_path)


def test_data_that_cannot_be_used(script: ModuleType, tmp_path: Path) -> None:
    good = {"images": np.zeros((4, 8, 8, 1), np.uint8), "labels": np.zeros(4, np.int64)}
    whole = tmp_path / "whole.npz"
    np.savez(whole, **good)
    (tmp_path / "cut.npz").write_bytes(whole.read_bytes()[:-200])
    np.savez(tmp_path / "unlabelled.npz", images=good["images"])
    for name in ("cut", "unlabelled", "absent"):
        with pytest.raises(InputError, match=f"{name}.npz is not a whole npz file"):
            script.load_pictures(tmp_path / f"{name}.npz", (0.0,), (1.0,))
    for wrong in ({"images": good["images"].astype(float)}, {"labels": np.zeros(3, int)}, {"labels": np.zeros(4)}):
        np.savez(tmp_path / "wrong.npz", **{**good, **wrong})
        with pytest.raises(InputError, match="expected uint8"):
            script.load_pictures(tmp_path / "wrong.npz", (0.0,), (1.0,))
