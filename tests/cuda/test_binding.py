"""How the library's refusals and the driver's errors arrive in Python."""

from types import SimpleNamespace

import pytest
import torch

from fwdkern.errors import BackendError, InputError
from fwdkern.ops import native
from fwdkern.ops.backend import NO_CUDA, choose, cuda_obstacle, gpu_backends, serving

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def library():
    library, reason = native.load()
    if library is None:
        pytest.skip(f"compiled library: {reason}")
    if not hasattr(library, "cuda"):
        pytest.skip(NO_CUDA)
    return library


def test_a_refusal_is_an_input_error(library) -> None:
    value, column, out = torch.ones(2), torch.zeros(2, dtype=torch.int32), torch.empty(2, 3)
    arguments = value.data_ptr(), column.data_ptr()
    native.run_cuda("seed", out, *arguments, native.cuda_maps(out), 3)
    assert out.tolist() == [[1, 0, 0], [1, 0, 0]]
    for maps, slices, match in [
        ((0, 2, 3, 0), 3, "maps have no address"),
        ((out.data_ptr(), 2, 2, 0), 3, "the rows of the output overlap"),
        ((out.data_ptr(), 2, 3, 9), 3, "the type of maps is unknown"),
        ((out.data_ptr(), 2, 3, 3), 3, "the type of maps is unknown"),
        ((out.data_ptr(), -1, 3, 0), 3, "negative size"),
        ((out.data_ptr() + 1, 2, 3, 0), 3, "boundaries of their elements"),
    ]:
        with pytest.raises(InputError, match=f"seed: .*{match}"):
            native.run_cuda("seed", out, *arguments, maps, slices)
    with pytest.raises(InputError, match="seed: value or column has no address"):
        native.run_cuda("seed", out, 0, column.data_ptr(), native.cuda_maps(out), 3)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_device_nothing_is_launched(library) -> None:
    assert library.cuda.device_error(0)
    value, column, out = torch.ones(2), torch.zeros(2, dtype=torch.int32), torch.full((2, 3), 7.0)
    arguments = value.data_ptr(), column.data_ptr(), native.cuda_maps(out), 3
    with pytest.raises(RuntimeError, match=r"driver|device"):
        library.cuda.seed(*arguments, 0, 0)
    assert bool((out == 7).all())
    with pytest.raises(ValueError, match="negative size"):  # arguments are looked at first
        library.cuda.seed(value.data_ptr(), column.data_ptr(), (0, -1, 3, 0), 3, 0, 0)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were one of compute capability 9.0 that the kernels run on."""
    monkeypatch.setattr(native, "load", lambda: (SimpleNamespace(cuda=None), ""))
    monkeypatch.setattr(native, "cuda_device_error", lambda index: "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))


def test_obstacles(gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cuda_obstacle("row_combine", GPU, torch.bfloat16) is None
    assert "no CUDA kernel for float64" in str(cuda_obstacle("row_combine", GPU, torch.float64))
    monkeypatch.setenv("FWDKERN_EMULATE", "0")
    assert "the tensors are on cpu" in str(cuda_obstacle("row_combine", CPU, torch.float32))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert "compute capability 7.5" in str(cuda_obstacle("row_combine", GPU, torch.float32))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(native, "cuda_device_error", lambda index: "no kernel image is available")
    assert cuda_obstacle("row_combine", GPU, torch.float32) == "no kernel image is available"
    monkeypatch.setattr(native, "load", lambda: (SimpleNamespace(), ""))
    assert cuda_obstacle("row_combine", GPU, torch.float32) == NO_CUDA
    monkeypatch.setattr(native, "load", lambda: (None, "removed by a test"))
    assert "removed by a test" in str(cuda_obstacle("row_combine", GPU, torch.float32))


def test_each_stands_in_for_the_other(gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    preferred, other = gpu_backends("row_combine")
    name, reason = choose("row_combine", GPU, torch.float32, (2, 3))
    assert name == preferred and "unmeasured" in reason
    assert choose("row_combine", GPU, torch.float32, (2, 3), other).name == other
    missing = "importlib.util.find_spec" if preferred == "triton" else "fwdkern.ops.native.cuda_device_error"
    monkeypatch.setattr(missing, lambda name: None if preferred == "triton" else "gone")
    assert choose("row_combine", GPU, torch.float32, (2, 3)).name == other
    monkeypatch.setattr(native, "load", lambda: (None, "removed by a test"))
    name, reason = choose("row_combine", GPU, torch.float32, (2, 3))
    assert name == "torch" and "triton is not installed; the compiled library is absent" in reason
    with pytest.raises(BackendError, match="removed by a test"):
        choose("row_combine", GPU, torch.float32, (2, 3), "cuda")


def test_every_op_says_what_serves_it(gpu) -> None:
    for op, (name, reason) in serving(GPU).items():
        assert name in ("torch", "triton", "cuda") and reason, op
        assert ("unmeasured" in reason) == (reason != "there is no kernel for GPUs"), "a figure needs its source"
