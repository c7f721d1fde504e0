"""From a name to files, in Python and on the command line."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import curves, record, suite
from benchmarks.timing import Effort
from fwdkern.cli import app, bench
from fwdkern.engine import calibration


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run measures the planner's rates anew; not in the user's cache."""
    monkeypatch.setattr(calibration, "cache_file", lambda: tmp_path / "calibration.json")


def test_a_run_leaves_json_and_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "_FULL", Effort(rounds=1))
    suite.run(["digits-classes"], quick=False, out=tmp_path)
    (path,) = tmp_path.glob("digits-classes-*.json")
    (result,) = record.read(path).results
    assert result.name == "digits-classes"
    assert path.with_suffix(".md").read_text().startswith("# Benchmarks")


def test_quick_writes_nothing(tmp_path: Path) -> None:
    outcome = CliRunner().invoke(app, ["bench", "--quick", "digits-classes", "--out", str(tmp_path / "out")])
    assert outcome.exit_code == 0, outcome.output
    assert "fwdkern" in outcome.stdout and "vmap(vjp)" in outcome.stdout
    assert not (tmp_path / "out").exists()


def test_unknown_names_are_refused() -> None:
    outcome = CliRunner().invoke(app, ["bench", "digit"])
    assert outcome.exit_code == 2
    assert "no workload is called 'digit'" in outcome.stderr and "digits-units" in outcome.stderr


def test_without_the_repository_the_command_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_ROOT", tmp_path)
    outcome = CliRunner().invoke(app, ["bench"])
    assert outcome.exit_code == 2
    assert "clone the repository" in outcome.stderr


def test_a_curve_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "_EFFORT", Effort(rounds=1))
    curve = curves.by_density((0.1, 1.0))
    assert [len(line) for line in curve.lines.values()] == [2, 2]
    curves.keep(curve, tmp_path)
    assert json.loads((tmp_path / "curve-density.json").read_text())["x"] == [0.1, 1.0]
    assert (tmp_path / "curve-density.png").read_bytes().startswith(b"\x89PNG")
