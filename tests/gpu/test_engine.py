"""Whole requests on a GPU against the same on the CPU."""

import copy

import pytest
import torch

import fwdkern
from tests.engine.rows.networks import NAMED, named
from tests.oracle import assert_close

TOLERANCE = 1e-5


@pytest.mark.parametrize("mode", ["forward", "reverse"])
@pytest.mark.parametrize("name", NAMED)
def test_named_networks(name: str, mode: str, kernels: str, gpu: torch.device) -> None:
    network, x = named(name, 2)
    here, there = fwdkern.fuse(network, x), fwdkern.fuse(copy.deepcopy(network).to(gpu), x.to(gpu))
    last = here.layers[-1].name
    expected = here.attribute_units(x, last, backend="torch")
    found = there.attribute_units(x.to(gpu), last, backend=kernels, mode=mode, strict=True)
    assert found.scores.device.type == "cuda"
    assert_close(found.scores.cpu(), expected.scores, TOLERANCE)
    assert_close(found.bias.cpu(), expected.bias, TOLERANCE)


@pytest.mark.parametrize("precision, tolerance", [("ieee", 1e-5), ("tf32", 1e-2), ("bf16", 1e-1)])
@pytest.mark.parametrize("storage", ["float32", "bfloat16"])
def test_precisions(storage: str, precision: str, tolerance: float, kernels: str, gpu: torch.device) -> None:
    network, x = named("output larger than a tile", 1)
    net = fwdkern.fuse(copy.deepcopy(network).to(gpu), x.to(gpu))
    last = net.layers[-1].name
    exact = net.attribute_units(x.to(gpu), last, backend="torch")
    found = net.attribute_units(x.to(gpu), last, backend=kernels, precision=precision, storage=storage, strict=True)
    assert_close(found.scores, exact.scores, max(tolerance, 3e-2 if storage == "bfloat16" else 0))


def test_windows_and_auto(kernels: str, gpu: torch.device) -> None:
    network, x = named("output larger than a tile", 2)
    net = fwdkern.fuse(copy.deepcopy(network).to(gpu), x.to(gpu))
    last = net.layers[-1].name
    print(net.plan(x.to(gpu), last, layout="window", backend=kernels))
    expected = net.attribute_units(x.to(gpu), last, layout="window", backend="torch")
    for backend in (kernels, "auto"):
        found = net.attribute_units(x.to(gpu), last, layout="window", backend=backend, strict=True)
        assert_close(found.scores, expected.scores, TOLERANCE)


def test_little_memory(kernels: str, gpu: torch.device) -> None:
    network, x = named("concatenated pools", 1)
    net = fwdkern.fuse(copy.deepcopy(network).to(gpu), x.to(gpu))
    last = net.layers[-1].name
    plan = net.plan(x.to(gpu), last, backend=kernels, mode="forward")
    whole = net.attribute_units(x.to(gpu), last, backend=kernels, mode="forward")
    small = net.attribute_units(x.to(gpu), last, backend=kernels, mode="forward", memory=plan.chosen.bytes)
    assert_close(small.scores, whole.scores, TOLERANCE)
