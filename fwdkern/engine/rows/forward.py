"""Forward mode over active rows: block by block, layers depth first on the window that each block reaches."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fwdkern.engine.rows.blocks import Block
from fwdkern.engine.rows.geometry import mirrored_taps, taps
from fwdkern.engine.rows.lists import Window, cut
from fwdkern.engine.rows.program import Combination, Node, Product, Program
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
    """One matrix that all maps of a block or chunk lie in, allocated once; its row 0 is zero."""

    def __init__(self) -> None:
        self._buffer = torch.empty(0)
        self._used = 0
        self.maps = torch.empty(0, 0)

    def reset(self, rows: int, slices: int) -> None:
        """Start again with room for ``rows`` rows of ``slices`` beside the zero row."""
        size = (rows + 1) * slices
        if self._buffer.numel() < size:
            self._buffer = torch.empty(size)
        self.maps = self._buffer[:size].view(rows + 1, slices)
        self.maps[0] = 0
        self._used = 1

    def take(self, rows: int) -> tuple[int, Tensor]:
        """The next rows, with arbitrary contents: number of the first, and the maps ``[rows, slices]``."""
        first, self._used = self._used, self._used + rows
        return first, self.maps[first : self._used]


def reached(fields: tuple[Tensor, Tensor], rectangles: list[Rectangle]) -> list[Rectangle]:
    """Rectangles of a node's positions whose receptive fields meet rectangles of input pixels; (0, 0, 0, 0) where
    none does.

    Args:
        fields: int ``[2, H]`` and ``[2, W]``, first and end pixel that each line and column of the grid sees.
    """
    corners = torch.tensor(rectangles)
    ends = []
    for axis, field in enumerate(fields):
        sides, inverse = corners[:, 2 * axis : 2 * axis + 2].unique(dim=0, return_inverse=True)
        meets = ((field[0] < sides[:, 1:]) & (field[1] > sides[:, :1])).int()  # [sides, H]
        first, last = meets.argmax(1), meets.shape[1] - meets.flip(1).argmax(1)
        ends.append((torch.stack([first, last], 1) * meets.amax(1, keepdim=True))[inverse])
    there = (ends[0][:, 1] > 0) & (ends[1][:, 1] > 0)
    return [tuple(row) for row in (torch.cat(ends, 1) * there[:, None]).tolist()]


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
    place = torch.full((program.row_count,), -1, dtype=torch.int32)  # where the arena holds each row of each node
    indices = _term_indices(program)
    rectangles = [block.rectangle for block in blocks]
    inside = {i: reached(fields[i], rectangles) for i in program.nodes}
    for number, block in enumerate(blocks):
        slices = len(block.ids)
        column[block.ids] = torch.arange(slices)
        windows = {i: cut(node.rows, inside[i][number]) for i, node in program.nodes.items() if any(inside[i][number])}
        held = [i for i in windows if program.nodes[i].source is None]
        arena.reset(sum(len(windows[i].rows) for i in held), slices)
        maps: dict[int, Tensor] = {}
        for i in held:
            node, window = program.nodes[i], windows[i]
            first, maps[i] = arena.take(len(window.rows))
            if i == 0:
                unit = node.rows.unit[window.rows]
                _seed(maps[0], x.flatten()[unit], column[labels[unit]])
            else:
                # All that a node reads lies before its own rows.
                _fill(maps[i], node, windows, maps, arena.maps[:first], place, indices, program)
            place[node.first + window.rows] = torch.arange(first, first + len(window.rows), dtype=torch.int32)
        column[block.ids] = -1
        for i in held:
            place[program.nodes[i].first + windows[i].rows] = -1
        for i in program.wanted:
            if i in windows:
                yield BlockMaps(i, block, windows[i], maps[i])


def _term_indices(program: Program) -> dict[tuple[int, int], Tensor]:
    """Input rows of every combination by their numbers among all rows."""
    return {
        (i, k): program.global_index(term)
        for i, node in program.nodes.items()
        for k, term in enumerate(node.terms)
        if isinstance(term, Combination)
    }


def _seed(out: Tensor, values: Tensor, column: Tensor) -> None:
    """Rows of the input's own units: each has its value in its own slice, if that is in the block."""
    out.zero_()
    there = (column >= 0).nonzero().flatten()
    out[there, column[there]] = values[there]


def _fill(
    out: Tensor,
    node: Node,
    windows: dict[int, Window],
    maps: dict[int, Tensor],
    before: Tensor,
    place: Tensor,
    indices: dict[tuple[int, int], Tensor],
    program: Program,
) -> None:
    """Compute a node's rows ``out`` inside its window from its parents' rows, which lie in ``before``."""
    window = windows[node.step]
    begun = False
    for k, term in enumerate(node.terms):
        parent = windows.get(term.parent)
        if parent is None:
            continue
        if isinstance(term, Product):
            source = program.nodes[term.parent].source
            # A copied row outside its own window is zero there: row 0 of the arena.
            index = None if source is None else place[source[parent.rows]].clamp_min_(0)
            find = mirrored_taps if term.mirrored else taps
            gathered_gemm(
                before if source is not None else maps[term.parent],
                (parent.offset, parent.channel),
                (window.offset, window.channel),
                find(term.geometry, window.rectangle, parent.rectangle),
                term.weight,
                row_scale=None if term.scale is None else term.scale[window.rows],
                groups=term.groups,
                accumulate=begun,
                out=out,
                in_index=index,
            )
        else:
            terms = window_terms(term.offset, indices[node.step, k], term.coefficient, window.rows, place)
            row_combine(before, *terms, accumulate=begun, out=out)
        begun = True
    if not begun:
        out.zero_()
