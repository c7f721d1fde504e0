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
    "seed": (*_MAPS, torch.float16),
}
LEAST_CAPABILITY = (8, 0)
NO_CUDA = "the library was built without CUDA: nvcc was not found or did not work, or FWDKERN_CUDA was 0"


class Preference(NamedTuple):
    """What serves an op on GPU tensors unless asked otherwise, and where the figure that says so came from."""

    backend: str
    source: str


_ROWS = Preference("triton", "unmeasured: neither kernel has run on a GPU, and Triton's was there first")
_GATES = Preference("torch", "unmeasured: the CUDA kernel has not run on a GPU, torch's operators have")
# The only place where kernels for GPUs are weighed against each other. `make gpu` times them side by side.
ON_GPU: dict[str, Preference] = {
    "active_rows": _ROWS,
    "contract": _ROWS,
    "gate_bits": _GATES,
    "gate_maps": _GATES,
    "gathered_gemm": _ROWS,
    "max_pool": _GATES,
    "max_unpool": _GATES,
    "recurrent_scan": Preference("triton", "unmeasured: it has not run on a GPU, and there is no other kernel"),
    "row_combine": _ROWS,
    "seed": _ROWS,
}


class Choice(NamedTuple):
    name: str
    reason: str


def choose(
    op: str, device: torch.device, dtype: torch.dtype, shape: tuple[int, ...], requested: str | None = None
) -> Choice:
    """The backend for one call of `op` on tensors of this device, dtype and (leading) shape.

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
        choice = _by_itself(op, device, dtype)
    _log_once(op, choice)
    return choice


def _by_itself(op: str, device: torch.device, dtype: torch.dtype) -> Choice:
    """The first backend that can run, in the order of preference for the device."""
    if device.type != "cuda":
        obstacle = _cpu_obstacle(op, device, dtype)
        return Choice("torch", obstacle) if obstacle else Choice("cpu", "compiled library on a CPU tensor")
    obstacles: list[str] = []
    for name in gpu_backends(op):
        obstacle = _OBSTACLES[name](op, device, dtype)
        if obstacle is None:
            return Choice(name, f"{_KERNELS[name]} on a GPU tensor ({'; '.join(obstacles) or ON_GPU[op].source})")
        obstacles.append(obstacle)
    if obstacles:
        return Choice("torch", "; ".join(dict.fromkeys(obstacles)))
    return Choice("torch", ON_GPU[op].source if op in ON_GPU else "there is no kernel for GPUs")


def gpu_backends(op: str) -> tuple[str, ...]:
    """The backends whose kernels for GPUs may serve an op unasked, the preferred one first."""
    preferred = ON_GPU[op].backend if op in ON_GPU else "torch"
    return {"torch": (), "triton": ("triton", "cuda"), "cuda": ("cuda", "triton")}[preferred]


def implementation(
    choice: Choice,
    name: str,
    tensor: torch.Tensor,
    op: Callable[..., Any],
    reference: Callable[..., Any],
    kernels: Mapping[str, Callable[..., Any]],
) -> Callable[..., Any]:
    """What to call for a choice made for the op called `name` on tensors like this one; `op` is the registered one,
    which dispatches on the device, `kernels` are those for GPUs by their backend."""
    if choice.name == "torch":
        return reference
    # On CPU tensors, which the registered op hands to the compiled library, GPU kernels are interpreted or emulated.
    own = choice.name == "cpu" or choice.name == _by_itself(name, tensor.device, tensor.dtype).name
    return op if own else kernels[choice.name]


def on_gpu(
    name: str, tensor: torch.Tensor, reference: Callable[..., Any], kernels: Mapping[str, Callable[..., Any]]
) -> Callable[..., Any]:
    """What the registered op called `name` runs on GPU tensors like this one."""
    chosen = _by_itself(name, tensor.device, tensor.dtype).name
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
    if not hasattr(library, "cuda"):
        return NO_CUDA
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
    """What serves each op on a device's tensors unless asked otherwise: of float32, for active_rows of bool."""
    return {
        op: _by_itself(op, device, torch.bool if op == "active_rows" else torch.float32) for op in sorted(CPU_DTYPES)
    }


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
