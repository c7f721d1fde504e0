"""Settings for every test: uninitialised memory is poisoned, GPU kernels run on the CPU, hypothesis has no deadline."""

import functools
import importlib.util
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from tests import FRESH_SEED, cuda_here, triton_here

# Triton decides when a kernel is defined whether its interpreter will run it.
os.environ.setdefault("TRITON_INTERPRET", "1")
# The bodies of the CUDA kernels run on CPU tensors.
os.environ.setdefault("FWDKERN_EMULATE", "1")

if importlib.util.find_spec("hypothesis"):  # a GPU machine may lack it, and its tests do without
    import hypothesis

    hypothesis.settings.register_profile("fwdkern", deadline=None, derandomize=False, print_blob=True)
    hypothesis.settings.load_profile("fwdkern")

torch.manual_seed(FRESH_SEED)


def pytest_report_header() -> str:
    """The seed of this run's fresh inputs."""
    return f"FWDKERN_TEST_SEED={FRESH_SEED}"


@pytest.fixture(autouse=True)
def kernels_for_gpus(request: pytest.FixtureRequest) -> None:
    """Skip what needs triton, or CUDA kernels in the library, where they are absent."""
    parameters = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    interprets, compiles = parameters.get("backend") == "triton", "target" in parameters
    missing = triton_here.missing(interpreter=interprets) if interprets or compiles else None
    if parameters.get("backend") == "cuda":
        missing = cuda_here.missing()
    if missing:
        pytest.skip(missing)


@pytest.fixture(autouse=True)
def poisoned_memory() -> Iterator[None]:
    """Fill what torch.empty and its relatives return with NaN (integers: the largest value, booleans: True).

    An element that a kernel forgets to write then shows in any comparison. Torch's own switch for this
    comes only with deterministic mode, in which other kernels run than the user's; so the Python entry
    points are wrapped.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in ("empty", "empty_like", "empty_strided"):
            patch.setattr(torch, name, _poisoning(getattr(torch, name)))
        for name in ("new_empty", "new_empty_strided"):
            patch.setattr(Tensor, name, _poisoning(getattr(Tensor, name)))
        yield


def _poisoning(allocate: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @torch.compiler.allow_in_graph  # dynamo knows torch.empty by identity, hence not this wrapper of it
    @functools.wraps(allocate)
    def poisoned(*args: Any, **keywords: Any) -> Tensor:
        tensor = allocate(*args, **keywords)
        # A tracer would record the fill as part of the traced program.
        if _get_current_dispatch_mode() is not None:
            return tensor
        with torch.no_grad():
            if tensor.dtype == torch.bool:
                return tensor.fill_(True)
            if tensor.is_floating_point() or tensor.is_complex():
                return tensor.fill_(torch.nan)
            return tensor.fill_(torch.iinfo(tensor.dtype).max)

    return poisoned
