"""What all launchers share."""

import contextlib

import torch
from torch import Tensor

from fwdkern.kernels.tiles import Capability


def on_device_of(tensor: Tensor) -> contextlib.AbstractContextManager[object]:
    """Triton launches on the current device; make it the tensor's."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()


def capability_of(tensor: Tensor) -> Capability:
    """Compute capability; (9, 0) for tensors on the CPU, which Triton's interpreter runs on."""
    return torch.cuda.get_device_capability(tensor.device) if tensor.is_cuda else (9, 0)


def aligned(*maps: Tensor) -> bool:
    """Whether Triton sees that maps [rows, slices] can be moved 16 bytes at a time."""
    return all(each.data_ptr() % 16 == each.stride(0) % 16 == each.shape[1] % 16 == 0 for each in maps)


def blocks(count: int, block: int) -> int:
    """How many blocks hold ``count`` things."""
    return -(-count // block)
