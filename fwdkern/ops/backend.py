"""Which implementation of a native op runs: a pure function of op, device, dtype and shape."""

import functools
import importlib.util
import logging
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from fwdkern.errors import BackendError
from fwdkern.ops import native

logger = logging.getLogger("fwdkern")

BACKENDS = ("torch", "cpu", "triton")
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
LEAST_CAPABILITY = (8, 0)


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
    else:
        candidate = name if name != "auto" else "triton" if device.type == "cuda" else "cpu"
        obstacle = (triton_obstacle if candidate == "triton" else _cpu_obstacle)(op, device, dtype)
        if obstacle is None:
            found = "compiled library on a CPU tensor" if candidate == "cpu" else "Triton kernels on a GPU tensor"
            choice = Choice(candidate, found if name == "auto" else "asked for by name")
        elif name == "auto":
            choice = Choice("torch", obstacle)
        else:
            raise BackendError(f"Backend {name!r} cannot run {op}: {obstacle}. Use backend 'auto' or 'torch'.")
    _log_once(op, choice)
    return choice


def implementation(
    choice: Choice,
    device: torch.device,
    op: Callable[..., Any],
    reference: Callable[..., Any],
    triton: Callable[..., Any],
) -> Callable[..., Any]:
    """What to call for a choice; `op` is the registered one, which dispatches on the device."""
    if choice.name == "torch":
        return reference
    # Triton's interpreter runs on CPU tensors, which the registered op hands to the compiled library.
    return triton if choice.name == "triton" and device.type == "cpu" else op


def triton_obstacle(op: str, device: torch.device, dtype: torch.dtype) -> str | None:
    """Why the Triton kernel of `op` cannot run on such tensors, or None. Does not import triton."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if dtype not in TRITON_DTYPES.get(op, ()):
        return f"there is no Triton kernel for {str(dtype).removeprefix('torch.')}"
    if device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1":
        return None
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
    if dtype not in CPU_DTYPES[op]:
        return f"there is no compiled kernel for {str(dtype).removeprefix('torch.')}"
    library, reason = native.load()
    if library is None:
        _warn_absent_once(reason)
        return f"the compiled library is absent ({reason})"
    return None


@functools.cache
def _log_once(op: str, choice: Choice) -> None:
    logger.info("%s runs on backend %s: %s", op, choice.name, choice.reason)


@functools.cache
def _warn_absent_once(reason: str) -> None:
    logger.warning(
        "fwdkern works without its compiled library, more slowly: %s. To have it, %s.", reason, native.REMEDY
    )
