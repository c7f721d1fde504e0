import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import fwdkern
from fwdkern.engine import calibration
from fwdkern.engine.calibration import Rates

FAKE = Rates(dense=2e9, rows=3e9, gather=4e-9)

pytestmark = pytest.mark.usefixtures("native_library")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, and nothing remembered in this process, before and after."""
    path = tmp_path / "deep" / "folder" / "calibration.json"
    monkeypatch.setattr(calibration, "cache_file", lambda: path)
    calibration.rates.cache_clear()
    yield path
    calibration.rates.cache_clear()


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one entry a measurement, which gives fixed figures."""
    calls: list[int] = []

    def measure(device: str) -> Rates:
        assert device == "cpu"
        calls.append(1)
        return FAKE

    monkeypatch.setattr(calibration, "_measure", measure)
    return calls


def test_figures_are_those_of_a_computer(file: Path) -> None:
    found = calibration.rates(torch.get_num_threads())
    assert 1e8 < found.dense < 1e14 and 1e8 < found.rows < 1e14
    assert 1e-13 < found.gather < 1e-6
    assert Rates(*json.loads(file.read_text()).popitem()[1].values()) == found


def test_measured_once_a_process_and_machine(file: Path, measured: list[int]) -> None:
    assert calibration.rates(1) == calibration.rates(1) == FAKE
    assert len(measured) == 1 and file.exists()
    calibration.rates.cache_clear()  # as another process
    assert calibration.rates(1) == FAKE
    assert len(measured) == 1


def test_thread_counts_are_kept_apart(file: Path, measured: list[int]) -> None:
    calibration.rates(1), calibration.rates(2)
    assert len(measured) == 2 and len(json.loads(file.read_text())) == 2


def test_clear_measures_again(file: Path, measured: list[int]) -> None:
    calibration.rates(1)
    calibration.clear()
    assert not file.exists()
    calibration.clear()
    calibration.rates(1)
    assert len(measured) == 2 and file.exists()


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", "3", '{"a": 1}', '{"a": {"dense": 1}}', "\x00\x01", '{"a": "dense"}', '{"a": null}'],
)
def test_a_broken_file_is_replaced(content: str, file: Path, measured: list[int]) -> None:
    file.parent.mkdir(parents=True)
    file.write_text(content)
    assert calibration.rates(1) == FAKE
    assert len(measured) == 1 and len(json.loads(file.read_text())) == 1


def test_a_truncated_file_is_replaced(file: Path, measured: list[int]) -> None:
    calibration.rates(1)
    whole = file.read_text()
    for length in range(0, len(whole), 7):
        file.write_text(whole[:length])
        calibration.rates.cache_clear()
        assert calibration.rates(1) == FAKE
        assert file.read_text() == whole


def test_bytes_that_are_no_text(file: Path, measured: list[int]) -> None:
    file.parent.mkdir(parents=True)
    file.write_bytes(b"\xff\xfe\xff")
    assert calibration.rates(1) == FAKE


def test_figures_that_are_no_numbers(file: Path, measured: list[int]) -> None:
    calibration.rates(1)
    (key,) = json.loads(file.read_text())
    for value in ("fast", None, [1], -1.0, 0, float("nan")):
        file.write_text(json.dumps({key: {"dense": value, "rows": 1.0, "gather": 1.0}}))
        calibration.rates.cache_clear()
        assert calibration.rates(1) == FAKE, value


def test_a_folder_that_cannot_be_written(file: Path, measured: list[int]) -> None:
    # A file where the folder should be refuses every user, root among them.
    file.parent.parent.write_text("in the way")
    assert calibration.rates(1) == FAKE
    calibration.rates.cache_clear()
    assert calibration.rates(1) == FAKE
    assert len(measured) == 2 and file.parent.parent.read_text() == "in the way"


def test_a_failed_write_leaves_nothing_behind(file: Path, measured: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert calibration.rates(1) == FAKE
    assert list(file.parent.iterdir()) == []


def test_plans_use_the_figures(file: Path, measured: list[int]) -> None:
    net = fwdkern.fuse(nn.Conv2d(2, 3, 3).eval(), torch.randn(1, 2, 6, 6))
    way = net.plan(torch.randn(1, 2, 6, 6), net.layers[-1].name, backend="torch", mode="reverse").chosen
    assert way.multiplies == 48 * 48 * 18  # targets, outputs, multiplies an output
    assert way.seconds == pytest.approx(way.multiplies / FAKE.dense)
    assert measured
