"""Requests for a device that is not there, too old, or not where the network is: said, and never served elsewhere."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

import fwdkern
from fwdkern.engine.options import parse_options
from fwdkern.engine.planner import rows_backend
from fwdkern.errors import BackendError, InputError


def request(backend: str, dtype: torch.dtype = torch.float32, storage: str = "float32") -> tuple[Any, Any]:
    """A tape whose input is on a GPU, and options."""
    tape = SimpleNamespace(input=SimpleNamespace(device=torch.device("cuda"), dtype=dtype))
    return tape, parse_options("uniform", "auto", "dense", backend, "2GiB", False, storage)


@pytest.fixture
def capability(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The compute capability that the GPU seems to have; change it in place."""
    seems = [(9, 0)]
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: seems[0])
    return seems


def test_a_gpu_carries_rows(capability: list[tuple[int, int]]) -> None:
    assert rows_backend(*request("auto"))[0] == "auto"
    assert rows_backend(*request("triton", storage="bfloat16"))[0] == "triton"
    assert rows_backend(*request("torch"))[0] is None


def test_too_old_a_gpu(capability: list[tuple[int, int]]) -> None:
    capability[0] = (7, 5)
    name, reason = rows_backend(*request("auto"))
    assert name is None and reason == "the GPU has compute capability 7.5; the kernels need 8.0"
    with pytest.raises(BackendError, match=r"'triton' cannot serve this request: .* 7\.5; .* Use backend=\"auto\""):
        rows_backend(*request("triton"))


def test_what_a_gpu_does_not_carry(capability: list[tuple[int, int]]) -> None:
    with pytest.raises(BackendError, match="rows are float32, the input is float64"):
        rows_backend(*request("triton", torch.float64))
    with pytest.raises(BackendError, match="runs on the CPU, the input is on cuda"):
        rows_backend(*request("cpu"))


def test_inputs_elsewhere() -> None:
    net = fwdkern.fuse(torch.nn.Conv2d(1, 2, 3).eval(), torch.randn(1, 1, 5, 5))
    with pytest.raises(InputError, match=r"inputs are on meta, the network on cpu: use inputs.to\('cpu'\)"):
        net.attribute_units(torch.empty(1, 1, 5, 5, device="meta"), net.layers[-1].name)
    assert net.attribute_units(torch.randn(1, 1, 5, 5), net.layers[-1].name).scores.shape == (1, 18, 5, 5)


def test_lists_elsewhere() -> None:
    maps, taps, weight = torch.zeros(3, 4), torch.zeros(1, 1, dtype=torch.int32), torch.zeros(1, 1, 1)
    rows = torch.tensor([0, 3]), torch.zeros(3, dtype=torch.int32)
    moved = rows[0], rows[1].to("meta")
    with pytest.raises(InputError, match="gathered_gemm: out_rows is on meta and in_maps on cpu; move one of them"):
        fwdkern.ops.gathered_gemm(maps, rows, moved, taps, weight, out=torch.zeros(3, 4), backend="torch")
