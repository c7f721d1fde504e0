"""Which positions of a layer see which pixels: windows of positions for blocks of pixels, and sums inside them."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fwdkern.engine.dense import receptive_boxes
from fwdkern.engine.rows.blocks import Block
from fwdkern.engine.rows.program import plane
from fwdkern.engine.tape import Tape


def windows(tape: Tape, steps: list[int], blocks: list[Block], side: int | None) -> Tensor:
    """Rectangles of each step's positions whose receptive fields meet each block's pixels.

    ``side`` is that of the square tiles that the blocks are, None for other blocks: windows of tiles depend on the
    geometry alone and are remembered with the network.

    Returns:
        int64 ``[blocks, steps, 4]`` on the CPU, y0, y1, x0, x1; zeros where none meets them.
    """
    if side is None:
        return torch.stack([_reached(field, blocks) for field in _axis_fields(tape, steps)], 1)
    missing = [i for i in steps if (i, side) not in tape.geometry]
    for i, field in zip(missing, _axis_fields(tape, missing), strict=True):
        tape.geometry[i, side] = _reached(field, blocks)
    return torch.stack([tape.geometry[i, side] for i in steps], 1)


def _axis_fields(tape: Tape, steps: list[int]) -> list[tuple[Tensor, Tensor]]:
    """Receptive fields along both axes of every step's grid: int ``[2, H]`` and ``[2, W]``, first and end position."""
    missing = [i for i in steps if i not in tape.geometry]
    for i, box in receptive_boxes(tape, missing).items() if missing else ():
        box = box[:, 0].cpu().reshape(4, -1, *plane(tape.steps[i])[1])  # [4, C, H, W]
        rows = torch.stack([box[0].amin((0, 2)), box[2].amax((0, 2))])
        columns = torch.stack([box[1].amin((0, 1)), box[3].amax((0, 1))])
        tape.geometry[i] = rows, columns
    return [tape.geometry[i] for i in steps]


def _reached(fields: tuple[Tensor, Tensor], blocks: list[Block]) -> Tensor:
    corners = torch.tensor([block.rectangle for block in blocks], device="cpu")
    ends = []
    for axis, field in enumerate(fields):
        sides, inverse = corners[:, 2 * axis : 2 * axis + 2].unique(dim=0, return_inverse=True)
        meets = ((field[0] < sides[:, 1:]) & (field[1] > sides[:, :1])).int()  # [sides, H]
        first, last = meets.argmax(1), meets.shape[1] - meets.flip(1).argmax(1)
        ends.append((torch.stack([first, last], 1) * meets.amax(1, keepdim=True))[inverse])
    there = (ends[0][:, 1] > 0) & (ends[1][:, 1] > 0)
    return torch.cat(ends, 1) * there[:, None]


def integral_images(planes: Tensor) -> Tensor:
    """Integral images ``[T, H + 1, W + 1]`` of planes ``[T, H, W]``, on the CPU."""
    return F.pad(planes.cpu().cumsum(1).cumsum(2), (1, 0, 1, 0))


def sums_inside(integral: Tensor, corners: Tensor) -> Tensor:
    """Sums of planes over rectangles ``[n, T, 4]`` (y0, y1, x0, x1), added up over T, by their integral images."""
    count, height, width = integral.shape
    y0, y1, x0, x1 = corners.unbind(2)
    y0, y1 = y0.clamp(0, height - 1) * width, y1.clamp(0, height - 1) * width
    x0, x1 = x0.clamp(0, width - 1), x1.clamp(0, width - 1)
    flat = integral.flatten()
    plane = torch.arange(count, device=integral.device) * (height * width)
    y0, y1 = y0 + plane, y1 + plane
    return (flat[y1 + x1] - flat[y0 + x1] - flat[y1 + x0] + flat[y0 + x0]).sum(1)
