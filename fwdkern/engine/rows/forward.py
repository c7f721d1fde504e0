"""Forward mode over active rows: block by block, layers depth first on the window that each block reaches."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fwdkern.engine.rows.blocks import Block
from fwdkern.engine.rows.geometry import mirrored_taps, taps
from fwdkern.engine.rows.lists import Window, cut
from fwdkern.engine.rows.program import Node, Product, Program
from fwdkern.ops import gathered_gemm, row_combine
from fwdkern.ops.windows import Rectangle, window_terms


@dataclass
class BlockMaps:
    """The maps of one wanted node's rows for one block: ``maps`` ``[window's rows, block's slices]``, valid until the
    next block."""

    step: int
    block: Block
    window: Window
    maps: Tensor


class Arena:
    """One buffer that the matrices of a block are cut from, so that no block allocates."""

    def __init__(self) -> None:
        self._buffer = torch.empty(0)
        self._used = 0

    def reset(self, size: int) -> None:
        """Start again with room for ``size`` floats."""
        self._used = 0
        if self._buffer.numel() < size:
            self._buffer = torch.empty(size)

    def take(self, rows: int, slices: int) -> Tensor:
        """A matrix ``[rows, slices]`` with arbitrary contents."""
        start, self._used = self._used, self._used + rows * slices
        return self._buffer[start : self._used].view(rows, slices)


def reached(fields: tuple[Tensor, Tensor], tile: Rectangle) -> Rectangle | None:
    """Rectangle of a node's positions whose receptive fields meet a tile, None if there are none."""
    ends: list[int] = []
    for axis, field in enumerate(fields):
        low, high = tile[2 * axis], tile[2 * axis + 1]
        meets = ((field[0] < high) & (field[1] > low)).nonzero()
        if len(meets) == 0:
            return None
        ends += [int(meets[0]), int(meets[-1]) + 1]
    return ends[0], ends[1], ends[2], ends[3]


def forward_blocks(
    program: Program,
    fields: dict[int, tuple[Tensor, Tensor]],
    x: Tensor,
    labels: Tensor,
    blocks: list[Block],
) -> Iterator[BlockMaps]:
    """Carry the maps of each block's slices to the wanted nodes.

    Args:
        fields: receptive fields along both axes of each node's grid; x: input ``[C, H, W]`` or ``[F]``.
        labels: int64 ``[E]``, the slice of each input element.
    """
    arena = Arena()
    column = torch.full((max(int(block.ids[-1]) for block in blocks) + 1,), -1)  # a slice's place in the block
    for block in blocks:
        slices = len(block.ids)
        column[block.ids] = torch.arange(slices)
        windows: dict[int, Window] = {}
        for i, node in program.nodes.items():
            rectangle = reached(fields[i], block.rectangle)
            if rectangle is not None:
                windows[i] = cut(node.rows, rectangle)
        arena.reset(slices * sum(len(window.rows) for window in windows.values()))
        maps: dict[int, Tensor] = {}
        local: dict[int, Tensor] = {}
        for i, window in windows.items():
            maps[i] = arena.take(len(window.rows), slices)
            if i == 0:
                unit = program.nodes[0].rows.unit[window.rows]
                _seed(maps[0], x.flatten()[unit], column[labels[unit]])
            else:
                _fill(maps[i], program.nodes[i], window, windows, maps, local, program)
        column[block.ids] = -1
        for i in program.wanted:
            if i in windows:
                yield BlockMaps(i, block, windows[i], maps[i])


def _seed(out: Tensor, values: Tensor, column: Tensor) -> None:
    """Rows of the input's own units: each has its value in its own slice, if that is in the block."""
    out.zero_()
    there = (column >= 0).nonzero().flatten()
    out[there, column[there]] = values[there]


def _fill(
    out: Tensor,
    node: Node,
    window: Window,
    windows: dict[int, Window],
    maps: dict[int, Tensor],
    local: dict[int, Tensor],
    program: Program,
) -> None:
    begun = False
    for term in node.terms:
        parent = windows.get(term.parent)
        if parent is None:
            continue
        source = maps[term.parent]
        if isinstance(term, Product):
            find = mirrored_taps if term.mirrored else taps
            gathered_gemm(
                source,
                (parent.offset, parent.channel),
                (window.offset, window.channel),
                find(term.geometry, window.rectangle, parent.rectangle),
                term.weight,
                row_scale=None if term.scale is None else term.scale[window.rows],
                groups=term.groups,
                accumulate=begun,
                out=out,
            )
        else:
            if term.parent not in local:
                local[term.parent] = torch.full((len(program.nodes[term.parent].rows),), -1, dtype=torch.int32)
                local[term.parent][parent.rows] = torch.arange(len(parent.rows), dtype=torch.int32)
            terms = window_terms(term.offset, term.index, term.coefficient, window.rows, local[term.parent])
            row_combine(source, *terms, accumulate=begun, out=out)
        begun = True
    if not begun:
        out.zero_()
