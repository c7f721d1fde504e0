"""The GPU's workloads and their run on the CPU, small: that they work and are checked, not how fast they are."""

import functools
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import nn

from benchmarks import crossover, networks, record, roofline, suite, table, timing
from benchmarks.registry import GPU_WORKLOADS, find
from benchmarks.rivals import captum, faster
from benchmarks.runner import run
from benchmarks.timing import Budget, Effort
from benchmarks.workload import Goal, Task, Unavailable, Workload
from benchmarks.workloads import gpu
from tests import cuda_here, triton_here


def small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), gpu.Bottleneck(8, 4, 2))


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile gives back what it gets, which is the traced graph."""
    monkeypatch.setattr(torch, "compile", lambda graph: graph)


@pytest.fixture
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels for GPUs do not run here: interpreted and emulated they take long."""
    monkeypatch.setenv("FWDKERN_EMULATE", "0")
    monkeypatch.setenv("TRITON_INTERPRET", "0")


def others(result: record.Result) -> list[record.Figure]:
    """Those that do not need kernels for GPUs, of which both contenders have said why they did not run."""
    told = [figure for figure in result.figures if figure.name in ("Triton kernels, tf32", "CUDA kernels, tf32")]
    assert len(told) == 2 and all(figure.wrong.startswith("not run: ") for figure in told)
    return [figure for figure in result.figures if figure not in told]


def test_kernels_alone_stand_beside_the_choice() -> None:
    build = functools.partial(gpu.units, lambda: nn.Sequential(nn.Conv2d(3, 2, 2), nn.ReLU()), 4, 8, "cpu", ("tf32",))
    goal = Goal("slow-down", 1, "Triton kernels, tf32", of="CUDA kernels, tf32")
    result = run(Workload("tiny", "tiny", build, [goal]), Effort(rounds=1), False, print)
    figures = {figure.name: figure.wrong for figure in result.figures if figure.role == "own"}
    missing = {"Triton": triton_here.missing(interpreter=True), "CUDA": cuda_here.missing()}
    expected = {f"{name} kernels, tf32": bool(why) for name, why in missing.items()} | {"fwdkern, tf32": False}
    assert {name: bool(wrong) for name, wrong in figures.items()} == expected, figures
    assert any(missing.values()) or result.goals[0].value is not None


@pytest.mark.usefixtures("uncompiled", "no_kernels")
def test_units() -> None:
    build = functools.partial(gpu.units, small, 16, 16, "cpu")
    result = run(Workload("small", "small", build), Effort(rounds=1), False, print)
    assert [figure.wrong for figure in others(result)] == [""] * (len(result.figures) - 2)
    assert {figure.role for figure in result.figures} == {"own", "rival"} and result.multiplies > 0
    assert result.title.startswith("small; open units of 4 ReLUs 0.")


@pytest.mark.usefixtures("uncompiled", "no_kernels")
def test_everything_compiled_is_right() -> None:
    network, x = small().eval(), gpu.noise(16)
    build = functools.partial(gpu._units, network, network, x, None, "window", 16, "cpu", ("ieee", "bf16"), True)
    figures = run(Workload("small", "small", build), Effort(rounds=1), False, print).figures
    compiled = [figure for figure in figures if "compiled" in figure.name]
    assert len(compiled) == 4 and all(figure.wrong == "" and figure.error is not None for figure in compiled)


def test_kernel() -> None:
    build = functools.partial(gpu.kernel, 16, 6, 32, 0.3, "cpu")
    result = run(Workload("kernel", "kernel", build), Effort(rounds=1), False, print)
    assert [figure.wrong for figure in result.figures] == ["", ""]
    task = build()
    (point,) = roofline.points(result, task)
    assert point.precision == "tf32" and point.flops == 2 * result.multiplies and point.bytes == task.bytes > 0


def test_one_class_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(small(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    monkeypatch.setattr(gpu, "squeezenet", lambda batch: (network, gpu.noise(16, batch), "small"))
    build = functools.partial(gpu.one_each, "cpu", 3)
    result = run(Workload("each", "each", build), Effort(rounds=1), False, print)
    assert [figure.wrong for figure in result.figures] == [""] * 8
    monkeypatch.setattr(captum, "_captum", absent)
    result = run(Workload("each", "each", build), Effort(rounds=1), False, print)
    missing = [figure for figure in result.figures if figure.name.startswith("Captum")]
    assert [figure.wrong for figure in missing] == ["not run: Captum is not installed"] * 2
    assert table.rows(result)[4][-1] == "not run: Captum is not installed"


def absent() -> None:
    raise Unavailable("Captum is not installed")


def test_random_weights_stand_in_for_real_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise networks.Absent("shared/data/squeezenet is absent")

    monkeypatch.setattr(networks, "squeezenet", none)
    monkeypatch.setattr(gpu, "with_open_gates", lambda network, x: network)
    network, x, note = gpu.squeezenet(2)
    assert x.shape == (2, 3, 224, 224) and note == "random weights" and isinstance(network, nn.Module)


@pytest.mark.parametrize("make", [small, gpu.resnet50_layer3, gpu.vgg_block4])
def test_a_third_of_the_gates_is_open(make: object) -> None:
    x = gpu.noise(64)
    shares: list[float] = []
    network = gpu.with_open_gates(make(), x)  # type: ignore[operator]
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda *call: shares.append(float((call[2] > 0).float().mean())))
    with torch.no_grad():
        network(x)
    assert len(shares) > 1 and all(0.2 < share < 0.7 for share in shares), shares


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no GPU that torch can use"):
        suite.run_gpu(tmp_path, 1)
    with pytest.raises(KeyError, match="no workload is called 'vgg'"):
        suite.run_gpu(tmp_path, 1, ["vgg"])


def test_names() -> None:
    assert all(workload.name.startswith("gpu-") and workload.goals for workload in GPU_WORKLOADS)
    assert len({workload.name for workload in GPU_WORKLOADS}) == len(GPU_WORKLOADS)
    assert all(find(workload.name) is workload for workload in GPU_WORKLOADS)


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_run_on_the_cpu_leaves_everything(tmp_path: Path) -> None:
    """One workload that works, one that fails, one for which time runs out."""
    clock, said = Clock(), []

    def fail() -> Task:
        clock.now = 90.0
        raise RuntimeError("misaligned address")

    kernel = functools.partial(gpu.kernel, 16, 6, 32, 0.3, "cpu")
    goal = Goal("speed-up", 1, "dense convolution", of="gathered_gemm, tf32")
    workloads = [
        Workload("one", "One", kernel, [goal]),
        Workload("two", "Two", fail),
        Workload("three", "Three", kernel),
    ]
    done = suite.measure_gpu(workloads, "cpu", Budget(100, clock), said.append)
    assert [result.name for result in done.results] == ["one", "two"] and done.skipped == ["three"]
    assert done.results[1].absent == "it failed, RuntimeError: misaligned address"
    (verdict,) = done.results[0].goals
    assert verdict.text == "gathered_gemm, tf32 at least 1 times as fast as dense convolution" and verdict.value
    assert any("Traceback" in text for text in said)
    suite.keep_gpu(done, tmp_path, "some-gpu")
    assert record.read(tmp_path / "some-gpu.json", record.GpuRecord) == done
    text = (tmp_path / "some-gpu.md").read_text()
    for part in (
        "Not run: it failed",
        "Ceilings: torch.mm",
        "of torch.mm's; ",
        "SHARES = {",
        "Left out",
        "three",
        ".png)",
    ):
        assert part in text
    assert (tmp_path / "some-gpu.png").read_bytes().startswith(b"\x89PNG")


def test_budget() -> None:
    clock = Clock()
    budget, most = Budget(300, clock), Effort(rounds=5, seconds=20)
    assert budget.effort(most, 3) == most
    assert budget.effort(most, 10) == Effort(rounds=5, seconds=15)
    clock.now = 270
    assert budget.effort(most, 10) == Effort(rounds=5, seconds=5) and budget.left == 30
    clock.now = 281
    assert budget.effort(most, 1) is None


def test_crossover_is_what_the_times_say() -> None:
    ceilings = record.Ceilings({"ieee": 1e10}, 1e10)
    (found,) = crossover.measure("cpu", ceilings, 8, 4, 16, (0.3, 1.0), rounds=1)
    assert found.share > 0 and found.copies >= 0 and len(found.gathered) == 2
    told = crossover.sentences([record.Crossover("tf32", [0.3, 0.8, 1.0], [1.0, 3.0, 4.0], 2.5, 0.6, 40.0)])
    assert told[0].startswith("Dense products in tf32 are faster from density 0.8 on")
    assert told[1].endswith('SHARES = {"tf32": Share(0.60, 40)}')
    assert "at no density" in crossover.sentences([record.Crossover("tf32", [1.0], [1.0], 2.0, 1.0, 0.0)])[0]
    assert crossover.sentences([]) == []


class Event:
    """Events 5 ms apart; the log is what was launched between them."""

    log: ClassVar[list[str]] = []

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.log.append("event")

    def elapsed_time(self, end: "Event") -> float:
        assert self.log[-1] == "wait"
        return 5.0


def test_seconds_lie_between_events_behind_a_cold_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    Event.log.clear()
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: Event.log.append("wait"))
    monkeypatch.setattr(timing, "flush_l2", lambda device: Event.log.append(f"flush {device}"))
    assert timing.seconds_of(lambda: Event.log.append("run"), "cuda") == 5e-3
    assert Event.log == ["flush cuda", "wait", "event", "run", "event", "wait"]
    taken = timing.interleaved({"a": lambda: None}, Effort(rounds=3), "cuda")
    assert taken == {"a": [5e-3] * 3}


def test_what_cannot_be_compiled_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(graph: object) -> None:
        raise ValueError("no backend\nmore")

    monkeypatch.setattr(torch, "compile", fail)
    with pytest.raises(Unavailable, match=r"torch.compile failed, ValueError: no backend$"):
        faster.compiled(torch.sin)(torch.ones(2))
    monkeypatch.setattr(torch, "compile", lambda graph: lambda x: time.sleep(30))
    with pytest.raises(Unavailable, match="took more than 0 s"):
        faster.compiled(torch.sin, seconds=0.05)(torch.ones(2))
    monkeypatch.setattr(torch, "compile", lambda graph: graph)
    run = faster.compiled(torch.sin)
    assert all(torch.equal(run(x), x.sin()) for x in (torch.ones(2), torch.zeros(2)))


def test_a_graph_needs_a_gpu() -> None:
    with pytest.raises(Unavailable, match="need a GPU"):
        faster.recorded(torch.sin)(torch.ones(2))


MISSING = ("captum", "hypothesis", "matplotlib", "PIL", "platformdirs", "psutil", "rich", "safetensors", "typer")


def test_it_runs_with_what_torch_brings(tmp_path: Path) -> None:
    """`make gpu` has torch, triton, numpy and pytest, and no network."""
    code = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {MISSING}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in {MISSING} else found(name, *rest)
import functools, pathlib
import tests.conftest, tests.gpu.conftest, tests.gpu.test_engine, tests.gpu.test_kernels, tests.gpu.test_replay
from benchmarks import suite
from benchmarks.timing import Budget
from benchmarks.workload import Workload
from benchmarks.workloads import gpu
import torch
import fwdkern.engine.attribution
torch.compile = lambda graph: graph
fwdkern.engine.attribution.require_memory = lambda *rest: None  # of the CPU only psutil knows it
small = lambda: torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), gpu.Bottleneck(8, 4, 2))
one = Workload("one", "One", functools.partial(gpu.units, small, 16, 16, "cpu"))
real = Workload("real", "Real", functools.partial(gpu.resnet20, "cpu"))
done = suite.measure_gpu([one, real], "cpu", Budget(300), lambda text: None)
wrong = [figure.wrong for figure in done.results[0].figures if "kernels" not in figure.name]
assert wrong == [""] * (len(done.results[0].figures) - 2), done.results[0]
assert "shared data cannot be read" in done.results[1].absent, done.results[1].absent
suite.keep_gpu(done, pathlib.Path({str(tmp_path)!r}), "bare")
"""
    root, without = Path(__file__).parents[2], {**os.environ, "FWDKERN_EMULATE": "0", "TRITON_INTERPRET": "0"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, env=without)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "No picture: No module named 'matplotlib" in (tmp_path / "bare.md").read_text()
    assert "Ceilings: torch.mm" in done.stdout
