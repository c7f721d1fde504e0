"""The slices of a request in blocks: forward mode carries one block at a time through the network."""

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from fwdkern.engine.features import Features
from fwdkern.ops.row_program import Rectangle

# Slices of one block: wide enough for the kernels' register tiles, few enough that a window's maps stay in L2.
SLICES = 256


@dataclass(frozen=True)
class Block:
    """Some slices: ``ids`` int64 ``[n]`` their numbers, ``rectangle`` the input positions that hold all of them."""

    rectangle: Rectangle
    ids: Tensor


def make_blocks(features: Features, shape: tuple[int, ...], labels: Tensor, side: int) -> list[Block]:
    """Blocks of all slices of one input.

    Args:
        shape: the input's, ``[C, H, W]``, ``[C, L]`` or ``[F]``; labels: int64 ``[E]``, the slice of each element.
        side: side of the square tiles in which pixels are taken.
    """
    if len(shape) == 1:
        return [Block((0, 1, 0, shape[0]), ids) for ids in torch.arange(features.count).split(SLICES)]
    if len(shape) == 2:  # lines, cut into as many positions as a tile has
        shape, side = (shape[0], 1, shape[1]), side * side
    channels, height, width = shape
    if features.kind == "segments":
        return _segment_blocks(features.count, labels.view(channels, height, width)[0])
    planes = channels if features.kind == "channels" else 1
    return _tiles(height, width, side, planes, torch.get_default_device())


@functools.lru_cache(maxsize=64)
def _tiles(height: int, width: int, side: int, planes: int, device: torch.device) -> list[Block]:
    blocks = []
    number = torch.arange(height * width, device=device).view(height, width)
    shift = torch.arange(planes, device=device)[:, None] * (height * width)
    for y in range(0, height, side):
        for x in range(0, width, side):
            tile = (y, min(y + side, height), x, min(x + side, width))
            ids = number[tile[0] : tile[1], tile[2] : tile[3]].flatten()
            blocks.append(Block(tile, (shift + ids).flatten()))
    return blocks


def _segment_blocks(count: int, plane: Tensor) -> list[Block]:
    """Segments by number, ``SLICES`` at a time, each block with the hull of its segments."""
    blocks = []
    for ids in torch.arange(count).split(SLICES):
        inside = ((plane >= ids[0]) & (plane <= ids[-1])).nonzero()
        if len(inside):
            (y0, x0), (y1, x1) = inside.amin(0).tolist(), inside.amax(0).tolist()
            blocks.append(Block((y0, y1 + 1, x0, x1 + 1), ids))
    return blocks
