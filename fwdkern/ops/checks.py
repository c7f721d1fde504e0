"""Argument checks that several ops share; a failure is an InputError that names the op and the argument."""

import torch
from torch import Tensor

from fwdkern.errors import InputError


def check_list(op: str, name: str, values: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """`values` is contiguous, of this dtype and shape; -1 in `shape` stands for any size."""
    fits = values.dim() == len(shape) and all(
        want in (-1, have) for want, have in zip(shape, values.shape, strict=True)
    )
    if not fits:
        wanted = ["any" if size == -1 else size for size in shape]
        raise InputError(f"{op}: {name} has shape {list(values.shape)}; expected {wanted}.".replace("'", ""))
    if values.dtype != dtype:
        raise InputError(f"{op}: {name} has dtype {values.dtype}; expected {dtype}.")
    if not values.is_contiguous():
        raise InputError(f"{op}: {name} has strides {list(values.stride())}; expected contiguous, call .contiguous().")


def check_maps(op: str, name: str, maps: Tensor) -> None:
    """`maps` is floating point [rows, slices], slices contiguous; rows may lie any distance apart."""
    if maps.dim() != 2:
        raise InputError(f"{op}: {name} has shape {list(maps.shape)}; expected [rows, slices].")
    if maps.dtype not in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        raise InputError(f"{op}: {name} has dtype {maps.dtype}; expected float32, float64, bfloat16 or float16.")
    if maps.shape[1] > 1 and maps.stride(1) != 1:
        raise InputError(
            f"{op}: {name} has strides {list(maps.stride())}; expected contiguous slices, call .contiguous()."
        )


def check_output(op: str, name: str, out: Tensor, shape: tuple[int, int], in_maps: Tensor) -> None:
    """`out` has this shape, no two elements in one place, lies apart from `in_maps` (called `name`), fits its dtype."""
    check_maps(op, "out", out)
    if out.shape != shape:
        raise InputError(f"{op}: out has shape {list(out.shape)}; expected {list(shape)}.")
    if (out.dtype == torch.float64) != (in_maps.dtype == torch.float64):
        raise InputError(f"{op}: out is {out.dtype} and {name} {in_maps.dtype}; use float64 for both or neither.")
    check_apart(op, out)
    if out.numel() and in_maps.numel():
        low, high = _extent(out)
        other_low, other_high = _extent(in_maps)
        if low < other_high and other_low < high and out.device == in_maps.device:
            raise InputError(f"{op}: out and {name} share memory; the op reads rows after writing others.")


def check_apart(op: str, out: Tensor) -> None:
    """No two rows of `out` share memory."""
    if out.shape[0] > 1 and out.stride(0) < out.shape[1]:
        raise InputError(f"{op}: the rows of out overlap (strides {list(out.stride())}); give it its own memory.")


def check_devices(op: str, first: str, device: torch.device, tensors: dict[str, Tensor | None]) -> None:
    """All tensors are on the device of the one called `first`."""
    for name, tensor in tensors.items():
        if tensor is not None and tensor.device != device:
            raise InputError(f"{op}: {name} is on {tensor.device} and {first} on {device}; move one of them.")


def coefficient_dtype(maps: Tensor) -> torch.dtype:
    """Weights and scales are float64 beside float64 maps, float32 beside all others."""
    return torch.float64 if maps.dtype == torch.float64 else torch.float32


def _extent(maps: Tensor) -> tuple[int, int]:
    start = maps.data_ptr()
    elements = 1 + sum((size - 1) * stride for size, stride in zip(maps.shape, maps.stride(), strict=True))
    return start, start + elements * maps.element_size()


def channels_last(maps: Tensor) -> tuple[Tensor, tuple[int, int, int, int], tuple[int, int, int]]:
    """How the library is told of maps [N, C, *positions] with contiguous channels.

    Returns the maps themselves, or a copy where channels lie apart, its (N, height, width, C) and the strides of the
    first three. Other than two axes of positions count as one line of them.
    """
    if maps.dim() != 4:
        maps = (maps.flatten(2) if maps.dim() > 2 else maps.unsqueeze(2)).unsqueeze(2)
    if maps.shape[1] > 1 and maps.stride(1) != 1:
        maps = empty_channels_last(maps, maps.shape).copy_(maps)
    n, channels, height, width = maps.shape
    return maps, (n, height, width, channels), (maps.stride(0), maps.stride(2), maps.stride(3))


def empty_channels_last(like: Tensor, shape: torch.Size | tuple[int, ...]) -> Tensor:
    """Uninitialised [N, C, *positions] whose channels are contiguous, in the dtype and on the device of `like`."""
    return like.new_empty(shape[0], *shape[2:], shape[1]).movedim(-1, 1)
