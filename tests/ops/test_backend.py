import logging

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
