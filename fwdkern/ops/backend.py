"""Which implementation of a native op runs: a pure function of op, device, dtype and shape."""

import functools
import logging
import os
from typing import NamedTuple

import torch

from fwdkern.errors import BackendError
from fwdkern.ops import native

logger = logging.getLogger("fwdkern")

BACKENDS = ("torch", "cpu")
CPU_DTYPES = {
    "active_rows": (torch.bool,),
    "gate_bits": (torch.float32,),
    "gate_maps": (torch.float32,),
    "gathered_gemm": (torch.float32, torch.bfloat16),
    "max_pool": (torch.float32,),
    "max_unpool": (torch.float32,),
    "row_combine": (torch.float32, torch.bfloat16),
    "row_sums": (torch.float32,),
    "sparse_transpose": (torch.float32,),
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
        raise BackendError(f"Unknown backend {name!r}; expected auto, {' or '.join(BACKENDS)}.")
    if name == "torch":
        choice = Choice("torch", "asked for by name")
    else:
        obstacle = _cpu_obstacle(op, device, dtype)
        if obstacle is None:
            choice = Choice("cpu", "asked for by name" if name == "cpu" else "compiled library on a CPU tensor")
        elif name == "cpu":
            raise BackendError(f"Backend 'cpu' cannot run {op}: {obstacle}. Use backend 'auto' or 'torch'.")
        else:
            choice = Choice("torch", obstacle)
    _log_once(op, choice)
    return choice


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
