"""Which input position a tap of an output position reads, for whole layers and for windows of them."""

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from fwdkern.engine.rows.lists import Rectangle


class Geometry(NamedTuple):
    """A sliding window: output q reads input q · stride − padding + tap · dilation on either axis."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]


POINT = Geometry((1, 1), (1, 1), (0, 0), (1, 1))


def taps(geometry: Geometry, outputs: Rectangle, inputs: Rectangle) -> Tensor:
    """int32 ``[outputs inside, kh · kw]``: the number, inside its rectangle, of the input that each tap reads, −1 for
    none."""
    return _taps(geometry, outputs, inputs, torch.get_default_device())


@functools.lru_cache(maxsize=4096)
def _taps(geometry: Geometry, outputs: Rectangle, inputs: Rectangle, device: torch.device) -> Tensor:
    sides = []
    for axis in (0, 1):
        first, last = outputs[2 * axis], outputs[2 * axis + 1]
        low, high = inputs[2 * axis], inputs[2 * axis + 1]
        tap = torch.arange(geometry.kernel[axis], device=device) * geometry.dilation[axis] - geometry.padding[axis]
        read = torch.arange(first, last, device=device)[:, None] * geometry.stride[axis] + tap
        sides.append(torch.where((read >= low) & (read < high), read - low, -1))
    return _cross(sides[0], sides[1], inputs[3] - inputs[2])


def mirrored_taps(geometry: Geometry, inputs: Rectangle, outputs: Rectangle) -> Tensor:
    """int32 ``[inputs inside, kh · kw]``: the output that reads an input through each tap, −1 for none."""
    return _mirrored_taps(geometry, inputs, outputs, torch.get_default_device())


@functools.lru_cache(maxsize=4096)
def _mirrored_taps(geometry: Geometry, inputs: Rectangle, outputs: Rectangle, device: torch.device) -> Tensor:
    sides = []
    for axis in (0, 1):
        first, last = inputs[2 * axis], inputs[2 * axis + 1]
        low, high = outputs[2 * axis], outputs[2 * axis + 1]
        tap = torch.arange(geometry.kernel[axis], device=device) * geometry.dilation[axis] - geometry.padding[axis]
        numerator = torch.arange(first, last, device=device)[:, None] - tap
        reader = numerator.div(geometry.stride[axis], rounding_mode="floor")
        exact = reader * geometry.stride[axis] == numerator
        sides.append(torch.where(exact & (reader >= low) & (reader < high), reader - low, -1))
    return _cross(sides[0], sides[1], outputs[3] - outputs[2])


def _cross(rows: Tensor, columns: Tensor, width: int) -> Tensor:
    """Taps of a plane from those of its axes, ``[h, kh]`` and ``[w, kw]``."""
    position = rows[:, None, :, None] * width + columns[None, :, None, :]
    missing = (rows < 0)[:, None, :, None] | (columns < 0)[None, :, None, :]
    table = position.masked_fill(missing, -1).to(torch.int32)
    return table.reshape(rows.shape[0] * columns.shape[0], -1).contiguous()
