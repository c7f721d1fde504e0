"""Rows carried through a whole network: blocks of slices from seeds to sinks, layer by layer.

Nodes are numbered in the order in which they are listed, parents before readers; the rows of all nodes are numbered
through in that order too.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from fwdkern.errors import BackendError
from fwdkern.ops import native

Rectangle = tuple[int, int, int, int]  # y0, y1, x0, x1, half open

# One row of maps begins every so many floats, so that vectors do not cross cache lines.
ALIGNMENT = 16


@dataclass
class ProductTerm:
    """Rows of a convolution or linear layer, as in ``gathered_gemm``.

    ``parent``: a node; ``taps`` int32 ``[positions, T]``; ``weight`` ``[T, C_in, C_out / groups]``; ``scale``: None or
    ``[rows]``.
    """

    parent: int
    taps: Tensor
    weight: Tensor
    groups: int
    scale: Tensor | None


@dataclass
class CombinationTerm:
    """Sparse combinations of rows of one parent, as in ``row_combine``."""

    parent: int
    offset: Tensor
    index: Tensor
    coefficient: Tensor


@dataclass
class RowNode:
    """Rows on a grid ``[H, W]`` and what they are made of.

    ``offset`` int64 ``[H·W + 1]``, ``channel`` int32 ``[rows]``: as made by ``active_rows``; ``first``: number of the
    first row among the rows of all nodes.
    ``source`` int32 ``[rows]``: rows of other nodes that these rows are copies of, and which are read instead; the
    terms then only say where the sources are. None for a node that holds its rows.
    """

    offset: Tensor
    channel: Tensor
    grid: tuple[int, int]
    first: int
    terms: list[ProductTerm | CombinationTerm] = field(default_factory=list)
    source: Tensor | None = None


@dataclass
class Seeds:
    """Rows that are given: row r of the node has ``value[r]`` in slice ``slice[r]`` (int32), or is zero where that is
    −1."""

    node: int
    slice: Tensor
    value: Tensor


@dataclass
class Sink:
    """Where a node's maps go: row r is called ``slot[r]`` (int64 ``[rows]``, −1 if nobody wants it).

    ``result`` is zeros ``[slots, slices]``, or ``[slices, slots]`` where ``transposed``. With ``origin`` int64
    ``[first axis, 2]`` it is ``[first axis, h, w]``, windows on an image ``image`` pixels wide whose pixels are the
    second axis; in forward mode (not transposed) the slices of a block are then the pixels of its first window.
    ``accumulate``: rows of one slot add up.
    """

    node: int
    slot: Tensor
    result: Tensor
    transposed: bool = False
    accumulate: bool = False
    origin: Tensor | None = None
    image: int = 0


@dataclass
class RowPass:
    """What to carry: slices in blocks, each block through all nodes.

    ``blocks``: the slices of each block, int32; ``slice_count``: of all.
    ``windows``: int64 ``[blocks or 1, nodes, 4]``, y0, y1, x0, x1 of the positions outside which a node's rows are zero
    in the block's slices. ``pivot``: the node by whose lines work may be cut; ``band``: how many of them at a time.
    """

    nodes: list[RowNode]
    seeds: Seeds
    sinks: list[Sink]
    blocks: list[Tensor]
    slice_count: int
    windows: Tensor
    pivot: int
    band: int


class CompiledPass:
    """A pass ready to run on the CPU, with rows of float32 or bfloat16.

    Raises:
        BackendError: there is no compiled library.
    """

    def __init__(self, carried: RowPass, storage: torch.dtype) -> None:
        nodes, seeds, sinks, blocks = carried.nodes, carried.seeds, carried.sinks, carried.blocks
        library, reason = native.load()
        if library is None:
            raise BackendError(f"rows are carried by the compiled library, which is absent ({reason})")
        self._library = library
        self.blocks = len(blocks)
        self.slice_count = carried.slice_count
        self.row_count = sum(len(node.channel) for node in nodes)
        widest = max(len(block) for block in blocks)
        self.stride = -(-widest // ALIGNMENT) * ALIGNMENT
        offset = torch.tensor([0, *(len(block) for block in blocks)]).cumsum(0)
        slices = torch.cat(blocks)
        lines = [_term_lines(nodes, node) for node in nodes]
        read = [[places(nodes, term) for term in node.terms] for node in nodes]
        # The addresses below are of these.
        self._kept = (carried, offset, slices, lines, read)
        self._pass = library.RowPass(
            [_node_argument(*each) for each in zip(nodes, lines, read, strict=True)],
            (seeds.node, seeds.slice.data_ptr(), seeds.value.data_ptr()),
            [_sink_argument(sink) for sink in sinks],
            (offset.data_ptr(), slices.data_ptr(), len(blocks), carried.slice_count),
            carried.windows.data_ptr(),
            len(carried.windows) == 1,
            carried.pivot,
            carried.band,
            storage is torch.bfloat16,
        )
        self.storage = storage
        self.rows: int = self._pass.rows()

    def run(self) -> int:
        """Fill the results, some blocks at a time so that an interruption is heard; returns the multiply-adds done."""
        threads = max(1, min(native.threads(), self.blocks))
        maps = torch.empty(threads, max(self.rows, 1), self.stride, dtype=self.storage)
        place = torch.full((threads, self.row_count), -1, dtype=torch.int32)
        column = torch.full((threads, self.slice_count), -1, dtype=torch.int32)
        memory = (maps.data_ptr(), maps.shape[1], self.stride, place.data_ptr(), self.row_count, column.data_ptr())
        at_a_time, work = 8 * threads, 0
        for first in range(0, self.blocks, at_a_time):
            last = min(first + at_a_time, self.blocks)
            work += self._pass.run(first, last, *memory, native.isa(self._library), threads)
        return work


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def places(nodes: list[RowNode], term: ProductTerm | CombinationTerm) -> Tensor | None:
    """What a combination reads, int32, among the rows of all nodes, copies resolved; None for a product."""
    if isinstance(term, ProductTerm):
        return None
    parent = nodes[term.parent]
    return term.index + parent.first if parent.source is None else parent.source[term.index.long()]


def _node_argument(
    node: RowNode, lines: list[tuple[Tensor, Tensor]], places: list[Tensor | None]
) -> tuple[object, ...]:
    rows = (node.offset.data_ptr(), node.channel.data_ptr(), len(node.offset) - 1)
    terms = [_term_argument(*each) for each in zip(node.terms, lines, places, strict=True)]
    return rows, node.grid[1], node.first, _address(node.source), terms


def _term_argument(
    term: ProductTerm | CombinationTerm, lines: tuple[Tensor, Tensor], places: Tensor | None
) -> tuple[int, ...]:
    read = (lines[0].data_ptr(), lines[1].data_ptr())
    if isinstance(term, CombinationTerm):
        addresses = (term.offset.data_ptr(), _address(places), term.coefficient.data_ptr())
        return term.parent, 0, 0, 0, 0, 0, 1, 0, *addresses, *read
    count, inputs, width = term.weight.shape
    product = (term.taps.data_ptr(), count, term.weight.data_ptr(), inputs, width * term.groups, term.groups)
    return term.parent, *product, _address(term.scale), 0, 0, 0, *read


def _sink_argument(sink: Sink) -> tuple[object, ...]:
    size = tuple(sink.result.shape[1:]) if sink.origin is not None else (0, 0)
    columns = 0 if sink.origin is not None else sink.result.shape[1]
    result = (sink.node, sink.slot.data_ptr(), sink.result.data_ptr(), columns, sink.transposed, sink.accumulate)
    return *result, _address(sink.origin), *size, sink.image


def _term_lines(nodes: list[RowNode], node: RowNode) -> list[tuple[Tensor, Tensor]]:
    """For every term and line of the node's grid, int32 ``[H]``: one more than the last line of the parent that lines
    up to it read, and the first that it or later ones read."""
    lines = []
    for term in node.terms:
        parent = nodes[term.parent]
        if isinstance(term, ProductTerm):
            read = torch.where(term.taps >= 0, term.taps // parent.grid[1], -1).view(node.grid[0], -1)
            last, first = read.amax(1), torch.where(read >= 0, read, parent.grid[0]).amin(1)
        else:
            last, first = _combination_lines(term, node, parent)
        until = (last + 1).cummax(0).values
        start = first.flip(0).cummin(0).values.flip(0)
        lines.append((until.to(torch.int32).contiguous(), start.to(torch.int32).contiguous()))
    return lines


def _combination_lines(term: CombinationTerm, node: RowNode, parent: RowNode) -> tuple[Tensor, Tensor]:
    """Last (−1 if none) and first (the parent's height if none) line of the parent that each line's terms read."""
    own = _line_of_rows(node).repeat_interleave(term.offset.diff(), output_size=len(term.index))
    read = _line_of_rows(parent)[term.index.long()]
    last = torch.full((node.grid[0],), -1).scatter_reduce_(0, own, read, "amax")
    first = torch.full((node.grid[0],), parent.grid[0]).scatter_reduce_(0, own, read, "amin")
    return last, first


def _line_of_rows(node: RowNode) -> Tensor:
    ends = node.offset[:: node.grid[1]]
    return torch.arange(node.grid[0]).repeat_interleave(ends.diff(), output_size=len(node.channel))
