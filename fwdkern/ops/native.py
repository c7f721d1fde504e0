"""The compiled library: loaded on first use, absent without harm."""

import contextlib
import functools
import importlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from fwdkern.errors import BackendError, InputError

ISA_NAMES = ("scalar", "avx2", "avx512")
REMEDY = "install a C++17 compiler and run `pip install --force-reinstall --no-deps .` in the source tree"


@functools.cache
def load() -> tuple[ModuleType | None, str]:
    """(library, "") or (None, one sentence without paths that says why there is none)."""
    try:
        return importlib.import_module("fwdkern._native"), ""
    except ModuleNotFoundError:
        failure = Path(__file__).parents[1] / "_native_failure.txt"
        if failure.exists():
            return None, f"it was not built, {failure.read_text().strip()}"
        return None, "it was not built"
    except ImportError:
        return None, "it was built for another platform or Python and does not load"


def isa_limit() -> str | None:
    """The upper bound FWDKERN_CPU_ISA, or None where it is not set. An unknown name is a BackendError."""
    limit = os.environ.get("FWDKERN_CPU_ISA")
    if not limit:
        return None
    if limit not in ISA_NAMES:
        raise BackendError(f"FWDKERN_CPU_ISA is {limit!r}; expected one of {', '.join(ISA_NAMES)}, or leave it unset.")
    return limit


def isa(library: ModuleType) -> int:
    """Index into ISA_NAMES of the instruction set that CPU kernels use now."""
    available: int = library.available_isa()
    limit = isa_limit()
    return available if limit is None else min(available, ISA_NAMES.index(limit))


_kernel_threads: ContextVar[int | None] = ContextVar("kernel_threads", default=None)


def threads() -> int:
    """How many threads a kernel may use: those of torch, whoever is lending them out."""
    lent = _kernel_threads.get()
    return torch.get_num_threads() if lent is None else lent


@contextlib.contextmanager
def lend_threads() -> Iterator[None]:
    """Give torch's threads to the kernels inside; torch uses one meanwhile, since its idle ones spin on the cores."""
    count = torch.get_num_threads()
    token = _kernel_threads.set(threads())
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(count)
        _kernel_threads.reset(token)


def holds(*maps: Tensor) -> bool:
    """Whether the library has kernels for maps of these dtypes."""
    return all(each.dtype in (torch.float32, torch.bfloat16) for each in maps)


def maps_argument(maps: Tensor) -> tuple[int, int, int, bool]:
    """How the library is told of maps [rows, slices]: address, rows, row stride, whether bfloat16."""
    return maps.data_ptr(), maps.shape[0], maps.stride(0), maps.dtype == torch.bfloat16


CUDA_TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2, torch.bool: 3}


def cuda_maps(maps: Tensor) -> tuple[int, int, int, int]:
    """How the CUDA kernels are told of maps [rows, slices]: address, rows, row stride, type."""
    return maps.data_ptr(), maps.shape[0], maps.stride(0), CUDA_TYPES[maps.dtype]


def run_cuda(name: str, tensor: Tensor, *arguments: Any) -> None:
    """Launch a CUDA kernel on the tensor's device and torch's current stream there, without waiting; for a tensor on
    the CPU, run the kernel's body there.

    Raises InputError for arguments that the library refuses, BackendError where the driver fails.
    """
    library, _ = load()
    assert library is not None, "choose() looks for it"
    function = getattr(library.cuda, name)
    try:
        if not tensor.is_cuda:
            function(*arguments, -1, 0)
            return
        with torch.cuda.device(tensor.device):
            function(*arguments, tensor.device.index, torch.cuda.current_stream().cuda_stream)
    except ValueError as error:
        raise InputError(f"{name}: {error}.") from None
    except RuntimeError as error:
        raise BackendError(f"{name}: the CUDA kernel was not launched: {error}.") from None


def without_cuda(library: ModuleType) -> str | None:
    """Why the library has no CUDA kernels, None if it has."""
    return None if hasattr(library, "cuda") else f"the library was built without CUDA: {library.no_cuda}"


@functools.cache
def cuda_device_error(index: int) -> str:
    """Why the CUDA kernels cannot run on a GPU, "" if they can."""
    library, reason = load()
    if library is None:
        return f"the compiled library is absent ({reason})"
    error: str = library.cuda.device_error(index)
    return error


def native_info() -> dict[str, Any]:
    """The compiled library here: built, reason, compiler, nvcc, without_cuda, isa, isa_available, isa_limit."""
    library, reason = load()
    if library is None:
        return {"built": False, "reason": reason, "compiler": None, "nvcc": None, "without_cuda": reason,
                "isa": None, "isa_available": None, "isa_limit": isa_limit()}  # fmt: skip
    release = library.cuda.compiler_version() if hasattr(library, "cuda") else 0
    return {
        "built": True,
        "reason": "loaded",
        "compiler": library.compiler(),
        "nvcc": f"{release // 1000}.{release % 1000 // 10}" if release else None,
        "without_cuda": without_cuda(library),
        "isa": ISA_NAMES[isa(library)],
        "isa_available": ISA_NAMES[library.available_isa()],
        "isa_limit": isa_limit(),
    }
