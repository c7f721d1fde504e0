"""The stages of a shard, one after the other, without Ray."""

import errno
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import fwdkern
from fwdkern.digits import digits_net
from fwdkern.engine.calibration import Rates
from fwdkern.preprocessing import Preprocessing
from fwdkern.scale import shards
from fwdkern.scale.formats import read_tables
from fwdkern.scale.inputs import Columns, list_inputs
from fwdkern.scale.results import unscaled
from fwdkern.scale.shards import Compute, Decode, Recipe, Write, make_rows
from fwdkern.scale.work import Work
from tests.scale.pictures import DIGITS, files, tensor, write_pictures


@pytest.fixture(autouse=True)
def no_rates_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "impose", lambda rates: None)


def recipe(work: Work | None = None, preprocessing: Preprocessing = DIGITS, batch_size: int = 4) -> Recipe:
    rates = Rates(1e10, 1e10, 1e-9)
    return Recipe(work or Work(), preprocessing, Columns(), (1, 64, 64), batch_size, 1, "cpu", rates)


def as_batch(row: dict) -> dict[str, np.ndarray]:
    return {name: np.array([value], object if isinstance(value, (str, bytes)) else None) for name, value in row.items()}


def make(inputs: Path, out: Path, given: Recipe, size: int = 8, form: str = "zarr") -> list[dict]:
    (out / "shards").mkdir(parents=True)
    compute, last = Compute(given, digits_net()), []
    for row in make_rows(list_inputs([str(inputs)]), size, set()):
        (decoded,) = Decode(given)(as_batch(row))
        (computed,) = compute(decoded)
        last += [{name: values[0] for name, values in row.items()} for row in Write(out / "shards", form, {})(computed)]
    return last


@pytest.mark.parametrize("form", ["zarr", "parquet"])
def test_every_input_is_in_one_shard_with_the_map_of_the_bare_engine(tmp_path: Path, form: str) -> None:
    inputs = write_pictures(tmp_path / "in", 19, broken=(3, 11, 18))
    rows = make(inputs, tmp_path / "out", recipe(), form=form)
    assert [json.loads(row["payload"])["failed"] for row in rows] == [1, 1, 1]
    net, seen = fwdkern.fuse(digits_net(), torch.zeros(1, 1, 64, 64)), []
    for number in range(3):
        place = tmp_path / "out" / "shards" / f"{number:05d}"
        record = json.loads((place / "shard.json").read_text())
        (table,) = read_tables(place).values()
        for row, key in enumerate(table["key"][...]):
            expected = net.attribute(tensor(int(key[:4]))).scores[0]
            found = unscaled({name: column[row] for name, column in table.items()})["map"]
            np.testing.assert_allclose(found, expected, atol=1e-3 * float(expected.abs().max()))
        seen += [*table["key"][...].tolist(), *(failed["key"] for failed in record["failed"])]
        assert all("cannot be read" in failed["reason"] for failed in record["failed"])
    assert sorted(seen) == [f"{index:04d}.png" for index in range(19)]


def test_a_shard_made_again_has_the_same_bytes(tmp_path: Path) -> None:
    inputs = write_pictures(tmp_path / "in", 10, broken=(2,))
    for name in ("one", "two"):
        make(inputs, tmp_path / name, recipe())
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_pictures_of_several_sizes_get_a_table_each(tmp_path: Path) -> None:
    inputs = write_pictures(tmp_path / "in", 6)
    from PIL import Image

    for index in (1, 4):
        path = inputs / f"{index:04d}.png"
        Image.open(path).crop((0, 0, 48, 64)).save(path)
    make(inputs, tmp_path / "out", recipe(preprocessing=Preprocessing(channels=1)))
    tables = read_tables(tmp_path / "out" / "shards" / "00000")
    assert {name: table["map"].shape for name, table in tables.items()} == {
        "64x48": (2, 1, 64, 48),
        "64x64": (4, 1, 64, 64),
    }
    assert tables["64x48"]["key"][...].tolist() == ["0001.png", "0004.png"]


def test_a_shard_of_nothing_but_broken_pictures(tmp_path: Path) -> None:
    inputs = write_pictures(tmp_path / "in", 3, broken=(0, 1, 2))
    make(inputs, tmp_path / "out", recipe())
    record = json.loads((tmp_path / "out" / "shards" / "00000" / "shard.json").read_text())
    assert len(record["failed"]) == 3


@pytest.mark.parametrize("keep", ["best", "values"])
def test_channels_are_reduced_within_the_shard(tmp_path: Path, keep: str) -> None:
    inputs = write_pictures(tmp_path / "in", 9)
    make(inputs, tmp_path / "out", recipe(Work("channels", layers=("relu_4",), keep=keep, best=2)), size=9)
    tables = read_tables(tmp_path / "out" / "shards" / "00000")
    rows, statistics = tables["relu_4/64x64"], tables["statistics/relu_4"]
    assert "map" not in rows
    np.testing.assert_allclose(statistics["sum"][...], rows["output"][...].astype(np.float64).sum(0))
    if keep == "best":
        best = tables["best/relu_4"]
        assert best["map"].shape == (64, 2, 64, 64)
        for channel in (0, 17):
            order = np.argsort(-rows["output"][:, channel], kind="stable")[:2]
            assert best["key"][channel].tolist() == rows["key"][...][order].tolist()


def test_a_full_disk_leaves_nothing_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folder: Path, *_: object) -> None:
        (folder / "half").write_bytes(b"written")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shards, "write_tables", full)
    (row,) = make(write_pictures(tmp_path / "in", 2), tmp_path / "out", recipe())
    assert row["error"] == "the disk is full"
    assert not list((tmp_path / "out" / "shards").iterdir())


def test_an_error_travels_on_and_later_stages_leave_it(tmp_path: Path) -> None:
    row = make_rows(list_inputs([str(write_pictures(tmp_path / "in", 1))]), 4, set())[0]
    row["payload"] = b"no listing"
    (decoded,) = Decode(recipe())(as_batch(row))
    assert "JSONDecodeError" in decoded["error"][0] and "Traceback" in decoded["trace"][0]
    (written,) = Write(tmp_path, "zarr", {})(decoded)
    assert written["error"] == decoded["error"]
    assert not (tmp_path / "00000").exists()
