"""Which implementation of a native op runs: a pure function of op, device, dtype and shape."""

import functools
import importlib.util
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

from fwdkern.errors import BackendError
from fwdkern.ops import native

logger = logging.getLogger("fwdkern")

BACKENDS = ("torch", "cpu", "triton", "cuda")
GPU_BACKENDS = BACKENDS[2:]
_MAPS = (torch.float32, torch.bfloat16)
CPU_DTYPES: dict[str, tuple[torch.dtype, ...]] = {
    "active_rows": (torch.bool,),
    "contract": (),
    "gate_bits": (torch.float32,),
    "gate_maps": (torch.float32,),
    "gathered_gemm": _MAPS,
    "max_pool": (torch.float32,),
    "max_unpool": (torch.float32,),
    "recurrent_freeze": (torch.float32,),
    "recurrent_scan": (torch.float32,),
    "row_combine": _MAPS,
    "row_sums": (torch.float32,),
    "seed": (),
    "sparse_transpose": (torch.float32,),
}
TRITON_DTYPES: dict[str, tuple[torch.dtype, ...]] = {
    "active_rows": (torch.bool,),
    "contract": (*_MAPS, torch.float16),
    "gathered_gemm": (*_MAPS, torch.float16),
    "recurrent_scan": (torch.float32,),
    "row_combine": (*_MAPS, torch.float16),
    "seed": (*_MAPS, torch.float16),
}
CUDA_DTYPES: dict[str, tuple[torch.dtype, ...]] = {
    "active_rows": (torch.bool,),
    "contract": (*_MAPS, torch.float16),
    "gate_bits": (*_MAPS, torch.float16, torch.bool),
    "gate_maps": (*_MAPS, torch.float16),
    "gathered_gemm": (*_MAPS, torch.float16),
    "max_pool": (*_MAPS, torch.float16),
    "max_unpool": (*_MAPS, torch.float16),
    "row_combine": (*_MAPS, torch.float16),
    "row_sums": (torch.float32,),
    "seed": (*_MAPS, torch.float16),
}
LEAST_CAPABILITY = (8, 0)


class Preference(NamedTuple):
    """What serves an op on GPU tensors unless asked otherwise, and the figures that say so, with the GPU they are from.

    least, precision: it is about tensors whose leading shape is at least this, and, where it names one, about products
    in that precision.
    """

    backend: str
    figures: str
    least: tuple[int, ...] = ()
    precision: str = ""

    def serves(self, shape: tuple[int, ...], precision: str) -> bool:
        large = all(size >= least for size, least in zip(shape, self.least, strict=False))
        return large and self.precision in ("", precision)

    def __str__(self) -> str:
        size = f" from {' × '.join(map(str, self.least))} on" if self.least else ""
        return size + (f" in {self.precision}" if self.precision else "")


_ROWS = (Preference("triton", "unmeasured: neither kernel has run on a GPU, and Triton's was there first"),)
_GATES = (Preference("torch", "unmeasured: the CUDA kernel has not run on a GPU, torch's operators have"),)
# The only place where kernels for GPUs are weighed against each other: of each op the first line that serves a tensor
# counts, the last one serves all. `make gpu` times the kernels side by side, by shape and precision.
ON_GPU: dict[str, tuple[Preference, ...]] = {
    "active_rows": _ROWS,
    "contract": _ROWS,
    "gate_bits": _GATES,
    "gate_maps": _GATES,
    "gathered_gemm": _ROWS,
    "max_pool": _GATES,
    "max_unpool": _GATES,
    "recurrent_freeze": (Preference("torch", "there is no kernel for GPUs: torch's operators run step by step"),),
    "recurrent_scan": (Preference("triton", "unmeasured: it has not run on a GPU, and there is no other kernel"),),
    "row_combine": _ROWS,
    "row_sums": _GATES,
    "seed": _ROWS,
    "sparse_transpose": (
        Preference("torch", "there is no kernel for GPUs: a dense transpose on tensor cores is counted to be faster"),
    ),
}


class Choice(NamedTuple):
    name: str
    reason: str


def choose(
    op: str,
    device: torch.device,
    dtype: torch.dtype,
    shape: tuple[int, ...],
    requested: str | None = None,
    precision: str = "",
) -> Choice:
    """The backend for one call of `op` on tensors of this device, dtype and (leading) shape; `precision` of products.

    `requested`, else the environment's FWDKERN_BACKEND, forces one; if that cannot run, BackendError.
    """
    name = requested or os.environ.get("FWDKERN_BACKEND") or "auto"
    if name not in ("auto", *BACKENDS):
        raise BackendError(f"Unknown backend {name!r}; expected auto, {', '.join(BACKENDS[:-1])} or {BACKENDS[-1]}.")
    if name == "torch":
        choice = Choice("torch", "asked for by name")
    elif name != "auto":
        obstacle = _OBSTACLES[name](op, device, dtype)
        if obstacle is not None:
            raise BackendError(f"Backend {name!r} cannot run {op}: {obstacle}. Use backend 'auto' or 'torch'.")
        choice = Choice(name, "asked for by name")
    else:
        choice = _by_itself(op, device, dtype, shape, precision)
    _log_once(op, choice)
    return choice


def _by_itself(op: str, device: torch.device, dtype: torch.dtype, shape: tuple[int, ...], precision: str) -> Choice:
    if device.type != "cuda":
        obstacle = _cpu_obstacle(op, device, dtype)
        return Choice("torch", obstacle) if obstacle else Choice("cpu", "compiled library on a CPU tensor")
    return _preferred(op, preference(op, shape, precision), device, dtype)


def preference(op: str, shape: tuple[int, ...], precision: str = "") -> Preference:
    """The line of the table for a call on GPU tensors of this (leading) shape."""
    return next(line for line in ON_GPU[op] if line.serves(shape, precision))


def _preferred(op: str, line: Preference, device: torch.device, dtype: torch.dtype) -> Choice:
    """The first backend that can run: the preferred kernel, the other one, torch."""
    if line.backend == "torch":
        return Choice("torch", line.figures)
    obstacles: list[str] = []
    for name in (line.backend, *(other for other in GPU_BACKENDS if other != line.backend)):
        obstacle = _OBSTACLES[name](op, device, dtype)
        if obstacle is None:
            return Choice(name, f"{_KERNELS[name]} on a GPU tensor ({'; '.join(obstacles) or line.figures})")
        obstacles.append(obstacle)
    return Choice("torch", "; ".join(dict.fromkeys(obstacles)))


def implementation(
    choice: Choice,
    name: str,
    tensor: torch.Tensor,
    op: Callable[..., Any],
    reference: Callable[..., Any],
    kernels: Mapping[str, Callable[..., Any]],
    precision: str = "",
) -> Callable[..., Any]:
    """What to call for a choice made for the op called `name` on tensors like this one; `op` is the registered one,
    which dispatches on the device, `kernels` are those for GPUs by their backend."""
    if choice.name == "torch":
        return reference
    # On CPU tensors, which the registered op hands to the compiled library, GPU kernels are interpreted or emulated.
    if choice.name == "cpu":
        return op
    if tensor.device.type == "cpu":
        return kernels[choice.name]
    by_itself = _by_itself(name, tensor.device, tensor.dtype, tuple(tensor.shape), precision)
    return op if choice.name == by_itself.name else kernels[choice.name]


def on_gpu(
    name: str,
    tensor: torch.Tensor,
    reference: Callable[..., Any],
    kernels: Mapping[str, Callable[..., Any]],
    precision: str = "",
) -> Callable[..., Any]:
    """What the registered op called `name` runs on GPU tensors like this one."""
    chosen = _by_itself(name, tensor.device, tensor.dtype, tuple(tensor.shape), precision).name
    return reference if chosen == "torch" else kernels[chosen]


def triton_obstacle(op: str, device: torch.device, dtype: torch.dtype) -> str | None:
    """Why the Triton kernel of `op` cannot run on such tensors, or None. Does not import triton."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if dtype not in TRITON_DTYPES.get(op, ()):
        return f"there is no Triton kernel for {str(dtype).removeprefix('torch.')}"
    if device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1":
        return None
    return _gpu_obstacle(device)


def cuda_obstacle(op: str, device: torch.device, dtype: torch.dtype) -> str | None:
    """Why the CUDA kernel of `op` cannot run on such tensors, or None. Calls the driver only for tensors on a GPU.

    With FWDKERN_EMULATE=1 the kernels' bodies run on CPU tensors, thread by thread: a check, not a way to be fast.
    """
    library, reason = native.load()
    if library is None:
        return f"the compiled library is absent ({reason})"
    absent = native.without_cuda(library)
    if absent:
        return absent
    if dtype not in CUDA_DTYPES.get(op, ()):
        return f"there is no CUDA kernel for {str(dtype).removeprefix('torch.')}"
    if device.type == "cpu" and os.environ.get("FWDKERN_EMULATE") == "1":
        return None
    return _gpu_obstacle(device) or native.cuda_device_error(device.index or 0) or None


def _gpu_obstacle(device: torch.device) -> str | None:
    if device.type != "cuda":
        where = f"the tensors are on {device.type}"
        return where if torch.cuda.is_available() else f"{where}, and there is no GPU that torch can use"
    capability = torch.cuda.get_device_capability(device)
    if capability < LEAST_CAPABILITY:
        return "the GPU has compute capability {}.{}; the kernels need 8.0".format(*capability)
    return None


def _cpu_obstacle(op: str, device: torch.device, dtype: torch.dtype) -> str | None:
    if device.type != "cpu":
        return f"the tensors are on {device.type}"
    if not CPU_DTYPES[op]:
        return "the compiled library does it inside whole passes only"
    if dtype not in CPU_DTYPES[op]:
        return f"there is no compiled kernel for {str(dtype).removeprefix('torch.')}"
    library, reason = native.load()
    if library is None:
        _warn_absent_once(reason)
        return f"the compiled library is absent ({reason})"
    return None


def gpu_obstacle(backend: str, op: str, device: torch.device, dtype: torch.dtype) -> str | None:
    """Why the kernel of `op` for GPUs, Triton's or CUDA's, cannot run on such tensors, or None."""
    return _OBSTACLES[backend](op, device, dtype)


def serving(device: torch.device) -> dict[str, Choice]:
    """What serves each op on a device's tensors unless asked otherwise: of float32, for active_rows of bool. An op with
    several lines in the table has one entry for each, which says what it is about."""
    choices = {}
    for op in sorted(CPU_DTYPES):
        dtype = torch.bool if op == "active_rows" else torch.float32
        if device.type != "cuda":
            choices[op] = _by_itself(op, device, dtype, (), "")
            continue
        for line in ON_GPU[op]:
            choices[f"{op}{line}"] = _preferred(op, line, device, dtype)
    return choices


_OBSTACLES = {"cpu": _cpu_obstacle, "triton": triton_obstacle, "cuda": cuda_obstacle}
_KERNELS = {"triton": "Triton kernels", "cuda": "CUDA kernels"}


@functools.cache
def _log_once(op: str, choice: Choice) -> None:
    logger.info("%s runs on backend %s: %s", op, choice.name, choice.reason)


@functools.cache
def _warn_absent_once(reason: str) -> None:
    logger.warning(
        "fwdkern works without its compiled library, more slowly: %s. To have it, %s.", reason, native.REMEDY
    )
