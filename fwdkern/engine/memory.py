"""Sizes in bytes: read, written, and checked against what is free."""

import re

import numpy as np
import torch
from torch import Tensor

from fwdkern.errors import InputError

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}


def parse_bytes(memory: int | str) -> int:
    """``"2GiB"``, ``"500MB"`` or a number of bytes."""
    if isinstance(memory, int) and not isinstance(memory, bool) and memory > 0:
        return memory
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", str(memory))
    if match is None or match[2].lower() not in _UNITS or float(match[1]) <= 0:
        raise InputError(f'memory={memory!r} is not a size such as "2GiB", "500MB" or a number of bytes')
    return int(float(match[1]) * _UNITS[match[2].lower()])


def format_bytes(count: float) -> str:
    """``2.0 GiB`` for 2147483648."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def free_bytes(device: torch.device) -> int:
    """Bytes that are free on a device; on a GPU those among them that torch keeps for reuse."""
    if device.type == "cuda":
        reusable = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reusable
    import psutil  # here, since a machine that only has what torch for CUDA brings may lack it

    return int(psutil.virtual_memory().available)


def require_memory(size: int, what: str, device: torch.device) -> None:
    """Refuse a result that would not fit in the free memory of its device before any of it is computed."""
    free = free_bytes(device)
    if size > free:
        raise InputError(
            f"{what} take {format_bytes(size)}, more than the {format_bytes(free)} that are free; ask for fewer "
            'units, for windows with layout="window", for parts with iter_units(memory="2GiB"), or for features as '
            "segments"
        )


def release(device: torch.device) -> None:
    """Give back what torch keeps for reuse on a GPU."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def zeros(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Zeros of the dtype and on the device of another tensor. On the CPU the system hands out their pages when they are
    first written, by the threads that write them; torch itself would write all of them here, by one thread."""
    if like.device.type != "cpu":
        return like.new_zeros(shape)
    size = torch.Size(shape).numel() * like.element_size()
    return torch.from_numpy(np.zeros(size, np.uint8)).view(like.dtype).view(shape)
