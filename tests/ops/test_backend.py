import logging
import subprocess
import sys

import pytest
import torch

from fwdkern.errors import BackendError
from fwdkern.ops import backend, native, native_info

CPU = torch.device("cpu")


def test_environment_chooses_and_argument_wins(monkeypatch, native_library):
    assert backend.choose("active_rows", CPU, torch.bool, (2, 3)).name == "cpu"
    monkeypatch.setenv("FWDKERN_BACKEND", "torch")
    assert backend.choose("active_rows", CPU, torch.bool, (2, 3)).name == "torch"
    assert backend.choose("active_rows", CPU, torch.bool, (2, 3), "cpu").name == "cpu"


def test_other_device_or_dtype_goes_to_torch(native_library):
    name, reason = backend.choose("active_rows", torch.device("meta"), torch.bool, (2, 3))
    assert name == "torch" and "meta" in reason
    with pytest.raises(BackendError, match="float64"):
        backend.choose("active_rows", CPU, torch.float64, (2, 3), "cpu")


def test_absence_is_said_once(monkeypatch, caplog):
    monkeypatch.setattr(native, "load", lambda: (None, "removed by test_absence"))
    with caplog.at_level(logging.WARNING, "fwdkern"):
        for _ in range(3):
            assert backend.choose("active_rows", CPU, torch.bool, (2, 3)).name == "torch"
    assert len([r for r in caplog.records if "removed by test_absence" in r.message]) == 1


def test_native_info(native_library, monkeypatch):
    info = native_info()
    assert info["built"] and info["compiler"] and info["isa_available"] in native.ISA_NAMES
    monkeypatch.setenv("FWDKERN_CPU_ISA", "scalar")
    assert native_info()["isa"] == "scalar"
    monkeypatch.setenv("FWDKERN_CPU_ISA", "avx1024")
    with pytest.raises(BackendError, match="avx1024"):
        native_info()


def test_native_info_without_library(monkeypatch):
    monkeypatch.setattr(native, "load", lambda: (None, "it was not built"))
    assert native_info()["built"] is False


GPU = torch.device("cuda")


@pytest.fixture
def gpu(monkeypatch):
    """As if there were one of compute capability 9.0."""
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))


def test_triton_serves_gpu_tensors(gpu):
    name, reason = backend.choose("gathered_gemm", GPU, torch.float32, (2, 3))
    assert name == "triton" and reason.startswith("Triton kernels on a GPU tensor (unmeasured")
    assert backend.choose("gathered_gemm", GPU, torch.float32, (2, 3), "torch").name == "torch"


def test_gpu_tensors_without_a_kernel_go_to_torch(gpu, monkeypatch):
    for dtype, capability, installed, reason in [
        (torch.float64, (9, 0), True, "no Triton kernel for float64"),
        (torch.float32, (7, 5), True, "compute capability 7.5"),
        (torch.float32, (9, 0), False, "triton is not installed"),
    ]:
        monkeypatch.setattr("importlib.util.find_spec", lambda name, found=installed: found or None)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        choice = backend.choose("gathered_gemm", GPU, dtype, (2, 3))
        assert choice.name == "torch" and reason in choice.reason
        with pytest.raises(BackendError, match=reason):
            backend.choose("gathered_gemm", GPU, dtype, (2, 3), "triton")


def test_triton_needs_a_gpu_or_its_interpreter(gpu, monkeypatch):
    with pytest.raises(BackendError, match="the tensors are on cpu, and there is no GPU"):
        backend.choose("gathered_gemm", CPU, torch.float32, (2, 3), "triton")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(BackendError, match=r"the tensors are on cpu\."):
        backend.choose("gathered_gemm", CPU, torch.float32, (2, 3), "triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert backend.choose("gathered_gemm", CPU, torch.float32, (2, 3), "triton").name == "triton"
    assert backend.choose("gathered_gemm", CPU, torch.float32, (2, 3)).name != "triton"


def test_import_leaves_triton_alone():
    code = "import sys, fwdkern; assert 'fwdkern.kernels.gathered_gemm' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
