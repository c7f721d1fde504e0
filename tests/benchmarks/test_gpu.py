"""The GPU's workloads on the CPU, small: that they can be built and checked, not how fast they are."""

import functools

import pytest
import torch
from torch import nn

from benchmarks import suite
from benchmarks.registry import GPU_WORKLOADS
from benchmarks.runner import run
from benchmarks.timing import Effort
from benchmarks.workload import Workload
from benchmarks.workloads import gpu


def small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), gpu.Bottleneck(8, 4, 2))


def test_units() -> None:
    build = functools.partial(gpu.units, small, 16, 16, "cpu", ("ieee",))
    result = run(Workload("small", "small", build), Effort(rounds=1), False, print)
    assert [figure.wrong for figure in result.figures] == [""] * len(result.figures)
    assert {figure.role for figure in result.figures} == {"own", "rival"} and result.multiplies > 0


def test_kernel() -> None:
    result = run(
        Workload("kernel", "kernel", functools.partial(gpu.kernel, 16, 6, 32, 0.3, "cpu")),
        Effort(rounds=1),
        False,
        print,
    )
    assert [figure.wrong for figure in result.figures] == ["", ""]


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
def test_without_a_gpu_it_says_so(tmp_path: object) -> None:
    with pytest.raises(RuntimeError, match="no GPU that torch can use"):
        suite.run_gpu(tmp_path)  # type: ignore[arg-type]


def test_names() -> None:
    assert all(workload.name.startswith("gpu-") and workload.goals for workload in GPU_WORKLOADS)
