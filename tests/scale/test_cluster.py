"""Whole runs on a Ray cluster of several processes on this machine, disturbed in every way that we know.

All tests share one cluster, which only listens to this machine. ``undisturbed`` is what every other run must equal,
byte by byte.
"""

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

import fwdkern
from fwdkern import scale
from fwdkern.cli import app
from fwdkern.digits import digits_net
from fwdkern.errors import FwdkernError, InputError
from fwdkern.scale import driver
from fwdkern.scale.cluster import Cluster
from tests.scale import slow
from tests.scale.pictures import DIGITS, SHARD, files, png, tensor, write_pictures

ROOT = Path(__file__).resolve().parents[2]
COUNT, SHARDS = 45, 6
BROKEN = tuple(range(3, COUNT, SHARD))  # one in every shard


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of a cluster for this file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
        with Cluster(None, "cpu", 2) as cluster:
            assert cluster.workers == 2
            import ray

            yield ray.get_runtime_context().gcs_address


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("inputs"), COUNT, BROKEN)


def run(inputs: Path, out: Path, **options: Any) -> scale.Summary:
    settings = {"name": "digits", "shard_size": SHARD, "workers": 2, "threads": 1, **options}
    return scale.run([str(inputs)], out, digits_net(), DIGITS, **settings)


@pytest.fixture(scope="module")
def undisturbed(address: str, inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    summary = run(inputs, out)
    assert (summary.inputs, summary.failed, summary.shards, summary.made) == (COUNT, len(BROKEN), SHARDS, COUNT)
    return out


def compute_workers() -> list[int]:
    """The processes that compute, by the names that Ray gives them."""
    children = psutil.Process().children(recursive=True)
    return [child.pid for child in children if "Compute" in " ".join(_command(child))]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_every_key_is_there_once_with_the_map_of_the_bare_engine(undisturbed: Path) -> None:
    results = scale.open(undisturbed)
    assert results.complete and len(results) == COUNT - len(BROKEN)
    assert sorted([*results, *results.failures]) == [f"{index:04d}.png" for index in range(COUNT)]
    assert list(results.failures) == [f"{index:04d}.png" for index in BROKEN]
    net = fwdkern.fuse(digits_net(), torch.zeros(1, 1, 64, 64))
    for key in results:
        expected = net.attribute(tensor(int(key[:4])))
        row = results[key]
        largest = float(expected.scores.abs().max())
        np.testing.assert_allclose(row["map"], expected.scores[0], atol=1e-3 * largest)
        assert row["target"].tolist() == expected.units[0].tolist()
    assert (undisturbed / "summary" / "failures.csv").read_text().count("\n") == 1 + len(BROKEN)
    events = [json.loads(line) for line in (undisturbed / "log.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == ["start", *["shard"] * SHARDS, "end"]


def test_only_this_machine_can_join(address: str) -> None:
    assert address.startswith("127.0.0.1:")
    own = psutil.Process()
    listening = [
        connection.laddr.ip
        for process in (own, *own.children(recursive=True))
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening and {ip.removeprefix("::ffff:") for ip in listening} <= {"127.0.0.1", "::1"}


def test_a_killed_worker_and_a_slow_writer_change_nothing(
    undisturbed: Path, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "Write", slow.SlowWrite)
    killed: list[int] = []

    def kill(event: scale.Event) -> None:
        if event.shards == 1 and not killed:
            killed.extend(compute_workers()[:1])
            os.kill(killed[0], signal.SIGKILL)

    run(inputs, tmp_path / "out", progress=kill)
    assert killed
    assert files(tmp_path / "out") == files(undisturbed)


def test_a_killed_driver_is_gone_on_with_and_two_are_refused(
    address: str, undisturbed: Path, inputs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "tests.scale.slow", str(inputs), str(out), address]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    first = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 300
        while not list((out / "shards").glob("[0-9]*")):
            assert first.poll() is None, first.stderr.read().decode() if first.stderr else ""
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with pytest.raises(InputError, match=f"process {first.pid} on "):
            run(inputs, out, resume=True)
    finally:
        first.kill()
        first.communicate()
    done = len(list((out / "shards").glob("[0-9]*")))
    assert 0 < done < SHARDS, "the driver was not caught in the middle"
    assert not scale.open(out).complete
    with pytest.raises(InputError, match="--resume"):
        run(inputs, out)
    summary = run(inputs, out, resume=True)
    assert summary.failed == len(BROKEN)
    assert summary.made <= COUNT - done * SHARD + SHARD  # the last shard is a shorter one
    assert files(out) == files(undisturbed)
    assert run(inputs, out, resume=True).made == 0


def test_a_disk_that_is_full_at_the_end_stops_cleanly(
    inputs: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    out = tmp_path / "out"
    shutil.copytree(undisturbed, out)
    with monkeypatch.context() as patch:
        patch.setattr(driver, "_conclude", fail)
        with pytest.raises(FwdkernError, match=r"No space left.*6 of 6 shards are whole.*--resume"):
            run(inputs, out, resume=True)
    assert run(inputs, out, resume=True).made == 0
    assert files(out) == files(undisturbed)


def test_a_full_disk_stops_cleanly(
    undisturbed: Path, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(driver, "Write", slow.FullDisk)
        with pytest.raises(FwdkernError, match=r"disk is full.*of 6 shards are whole.*--resume"):
            run(inputs, out)
    assert {path.name for path in (out / "shards").iterdir()} <= {"00000", "00001"}
    assert '"event": "error"' in (out / "log.jsonl").read_text()
    for options, message in (
        ({"work": scale.Work(top=2)}, r"work\.top 1 there, 2 now"),
        ({"name": "other"}, r"model\.name 'digits' there, 'other' now"),
        ({"shard_size": 9}, r"run\.shard_size 8 there, 9 now"),
    ):
        with pytest.raises(InputError, match=message):
            run(inputs, out, resume=True, **options)
    changed = digits_net()
    with torch.no_grad():
        changed.classifier.bias[0] += 1
    with pytest.raises(InputError, match=r"model\.fingerprint"):
        scale.run([str(inputs)], out, changed, DIGITS, name="digits", resume=True)
    run(inputs, out, resume=True)
    assert files(out) == files(undisturbed)


def test_the_command_reads_tar_and_parquet_and_draws_a_gallery(address: str, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    with tarfile.open(folder / "a.tar", "w") as archive:
        for index in range(5):
            member = tarfile.TarInfo(f"{index}.png")
            member.size = len(png(index))
            archive.addfile(member, io.BytesIO(png(index)))
    pq.write_table(pa.table({"image": [png(index) for index in range(5, 9)]}), folder / "b.parquet")
    out = tmp_path / "out"
    words = ["batch", str(folder), "--out", str(out), "--maps", "channels", "--layer", "relu_4", "--keep", "best"]
    words += ["--best", "2", "--features", "patches:8", "--shard-size", "5", "--workers", "1", "--format", "parquet"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "9 of 9 inputs in 2 shards" in done.output
    results = scale.open(out)
    assert list(results) == [*(f"a.tar/{index}.png" for index in range(5)), *(f"b.parquet/{i:08d}" for i in range(4))]
    best = results.summary["best/relu_4"]
    values = np.stack([results[key]["relu_4/output"] for key in results])  # [9, C]
    assert best["map"].shape == (values.shape[1], 2, 8, 8)
    assert best["output"][:, 0].tolist() == values.max(0).tolist()
    assert results.summary["statistics/relu_4"]["count"].tolist() == [9] * values.shape[1]
    assert (out / "summary" / "gallery.png").stat().st_size > 1000


@pytest.mark.parametrize(("maps", "broken"), [("contributions", ()), ("relevance", (0, 1))])
def test_the_command_draws_no_gallery_without_maps(
    address: str, maps: str, broken: tuple[int, ...], tmp_path: Path
) -> None:
    folder, out = write_pictures(tmp_path / "in", 2, broken), tmp_path / "out"
    words = ["batch", str(folder), "--out", str(out), "--maps", maps, "--workers", "1", "--size", "64x64"]
    words += ["--layer", "relu_4"] if maps == "contributions" else []
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert f"{2 - len(broken)} of 2 inputs" in done.output
    assert not (out / "summary" / "gallery.png").exists()


def test_a_dataset_from_python(address: str) -> None:
    import ray.data

    rows = [{"key": f"k{index}", "image": b"broken" if index == 2 else png(index)} for index in range(6)]
    dataset = scale.map_batches(ray.data.from_items(rows), digits_net(), DIGITS, scale.Work(top=2), batch_size=4)
    found = {row["key"]: row for row in dataset.take_all()}
    assert sorted(found) == [row["key"] for row in rows]
    net = fwdkern.fuse(digits_net(), torch.zeros(1, 1, 64, 64))
    for index in range(6):
        row = found[f"k{index}"]
        if index == 2:
            assert "not a PNG" in row["reason"]
            continue
        expected = net.attribute(tensor(index), net(tensor(index)).topk(2).indices)
        assert row["reason"] == "" and row["target"].tolist() == expected.units[0].tolist()
        maps = row["map"] * row["scale"][:, None, None]
        np.testing.assert_allclose(maps, expected.scores[0], atol=1e-3 * float(expected.scores.abs().max()))
