"""How the library's refusals and the driver's errors arrive in Python."""

import sys
from types import SimpleNamespace

import pytest
import torch

from fwdkern.errors import BackendError, InputError
from fwdkern.ops import backend, native
from fwdkern.ops.backend import ON_GPU, Choice, Preference, choose, cuda_obstacle, preference, serving

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def library():
    library, reason = native.load()
    if library is None:
        pytest.skip(f"compiled library: {reason}")
    absent = native.without_cuda(library)
    if absent:
        pytest.skip(absent)
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
    monkeypatch.setattr(native, "load", lambda: (SimpleNamespace(no_cuda="nvcc was not found"), ""))
    assert str(cuda_obstacle("row_combine", GPU, torch.float32)).endswith("built without CUDA: nvcc was not found")
    monkeypatch.setattr(native, "load", lambda: (None, "removed by a test"))
    assert "removed by a test" in str(cuda_obstacle("row_combine", GPU, torch.float32))


def test_each_stands_in_for_the_other(gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    preferred = preference("row_combine", (2, 3)).backend
    other = "cuda" if preferred == "triton" else "triton"
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
        assert ("unmeasured" in reason) != reason.startswith("there is no kernel for GPUs"), "a figure needs its source"


def test_the_table_chooses_by_shape_and_precision(gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (
        Preference("cuda", "figure 1", least=(0, 256), precision="bf16"),
        Preference("torch", "figure 2", least=(64, 128)),
        Preference("triton", "figure 3"),
    )
    monkeypatch.setitem(ON_GPU, "gathered_gemm", lines)
    for shape, precision, name, figure in [
        ((9, 256), "bf16", "cuda", "figure 1"),
        ((9, 255), "bf16", "triton", "figure 3"),
        ((9, 256), "tf32", "triton", "figure 3"),
        ((64, 256), "tf32", "torch", "figure 2"),
        ((64, 128), "", "torch", "figure 2"),
        ((63, 128), "", "triton", "figure 3"),
    ]:
        choice = choose("gathered_gemm", GPU, torch.float32, shape, precision=precision)
        assert choice.name == name and figure in choice.reason
    told = {op: choice.name for op, choice in serving(GPU).items() if op.startswith("gathered_gemm")}
    assert told == {
        "gathered_gemm from 0 × 256 on in bf16": "cuda",
        "gathered_gemm from 64 × 128 on": "torch",
        "gathered_gemm": "triton",
    }


def test_the_registered_op_follows_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a call of torch.ops on GPU tensors runs, precision given or not."""
    lines = Preference("cuda", "one", precision="bf16"), Preference("triton", "another")
    monkeypatch.setitem(ON_GPU, "gathered_gemm", lines)
    monkeypatch.setattr(
        backend, "_by_itself", lambda op, device, dtype, *call: Choice(preference(op, *call).backend, "")
    )
    ran: list[str] = []
    kernels = {name: lambda *arguments, name=name: ran.append(name) for name in ("triton", "cuda")}
    module = sys.modules["fwdkern.ops.gathered_gemm"]  # the package has a function of this name
    monkeypatch.setattr(module, "_KERNELS", kernels)
    for last in ((), (None,), (None, "ieee"), (None, "bf16")):
        module._gathered_gemm_gpu(torch.empty(2, 3), *[None] * 10, *last)
    assert ran == ["triton", "triton", "triton", "cuda"]


def test_every_line_of_the_table_can_serve() -> None:
    """The last one serves all; a backend that it names has the kernel."""
    assert set(ON_GPU) == set(backend.CPU_DTYPES)
    kernels = {"triton": backend.TRITON_DTYPES, "cuda": backend.CUDA_DTYPES, "torch": ON_GPU}
    for op, lines in ON_GPU.items():
        assert not lines[-1].least and not lines[-1].precision
        assert all(op in kernels[line.backend] and line.figures for line in lines), op
