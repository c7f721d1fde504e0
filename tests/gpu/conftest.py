"""Tests that need a GPU; `make gpu` runs them with Triton's compiler instead of its interpreter."""

import os

import pytest
import torch

from fwdkern.ops.backend import LEAST_CAPABILITY, gpu_obstacle


@pytest.fixture(autouse=True)
def gpu() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("no GPU that torch can use")
    if torch.cuda.get_device_capability() < LEAST_CAPABILITY:
        pytest.skip("the GPU is older than compute capability 8.0")
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("Triton interprets here: run with TRITON_INTERPRET=0, as `make gpu` does")
    return torch.device("cuda")


# Not called `backend`: in runs without a GPU all of these skip, and rightly.
@pytest.fixture(params=["triton", "cuda"])
def kernels(request: pytest.FixtureRequest, gpu: torch.device) -> str:
    """The backends whose kernels run on GPUs."""
    obstacle = gpu_obstacle(request.param, "gathered_gemm", gpu, torch.float32)
    if obstacle:
        pytest.skip(f"{request.param}: {obstacle}")
    return str(request.param)
