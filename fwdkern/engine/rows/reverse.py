"""Reverse mode over active rows: the same kernels with input and output rows swapped and taps mirrored.

The image is taken in bands of lines: a band of the input is pulled down through all layers before the next, each layer
computing the lines that the band still lacks. Every row is computed once, and is read while it is still in the caches.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fwdkern.engine.rows.forward import Arena
from fwdkern.engine.rows.geometry import mirrored_taps, taps
from fwdkern.engine.rows.lists import RowList
from fwdkern.engine.rows.program import Combination, Node, Product, Program
from fwdkern.ops import gathered_gemm, row_combine

# Bytes of all rows of one band: a share of a last-level cache.
BAND_BYTES = 4 * 2**20


@dataclass
class _ProductBand:
    """A product's part for some lines of its output: rows of the arena, and the arguments of its gathered GEMM."""

    out: slice
    source: slice
    in_rows: tuple[Tensor, Tensor]
    in_index: Tensor | None
    in_scale: Tensor | None
    out_rows: tuple[Tensor, Tensor]
    taps: Tensor
    term: Product
    begun: bool

    def run(self, arena: Tensor) -> None:
        source, index = arena[self.source], self.in_index
        if self.in_scale is not None:
            source = (source if index is None else source[index]) * self.in_scale
            index = None
        gathered_gemm(
            source,
            self.in_rows,
            self.out_rows,
            self.taps,
            self.term.transpose,
            groups=self.term.groups,
            accumulate=self.begun,
            out=arena[self.out],
            in_index=index,
        )


@dataclass
class _CombinationBand:
    """A transposed combination's part for some lines of its output."""

    out: slice
    source: slice
    terms: tuple[Tensor, Tensor, Tensor]
    begun: bool

    def run(self, arena: Tensor) -> None:
        row_combine(arena[self.source], *self.terms, accumulate=self.begun, out=arena[self.out])


@dataclass
class _ZeroBand:
    """Rows that no target reaches."""

    out: slice

    def run(self, arena: Tensor) -> None:
        arena[self.out] = 0


class ReversePass:
    """A program read backwards from one wanted node, ready for any number of chunks of targets.

    A node that one other alone reads, each row as it is and none twice, holds no matrix here: what is pulled into its
    rows stands in its reader's.
    """

    def __init__(self, program: Program, step: int, targets: int) -> None:
        self.program, self.step = program, step
        self._arena = Arena()
        self._readers: dict[int, list[tuple[Node, int]]] = {i: [] for i in program.nodes}
        for node in program.nodes.values():
            for k, term in enumerate(node.terms):
                self._readers[term.parent].append((node, k))
        self._first: dict[int, int] = {}
        self._index: dict[int, Tensor | None] = {}
        held = 1  # row 0 of the arena is zero
        for i in reversed(program.nodes):
            self._index[i] = self._stand_in(i)
            if self._index[i] is None:
                self._first[i] = held
                held += len(program.nodes[i].rows)
        self.rows = held - 1
        bands = -(-self.rows * targets * 4 // BAND_BYTES)
        self._work = self._plan_bands(max(1, min(bands, program.nodes[0].rows.grid[0] // 4)))

    def pull(self, targets: Tensor) -> Tensor:
        """Pull targets back to the input.

        Args:
            targets: ``[rows of the wanted node, K]``, K linear forms of its rows.

        Returns:
            ``[input rows, K]``, valid until the next call.
        """
        self._arena.reset(self.rows, targets.shape[1])
        arena = self._arena.maps
        arena[self._rows_of(self.step)] = targets
        for part in self._work:
            part.run(arena)
        return arena[self._rows_of(0)]

    def _rows_of(self, i: int) -> slice:
        return slice(self._first[i], self._first[i] + len(self.program.nodes[i].rows))

    def _stand_in(self, i: int) -> Tensor | None:
        """Arena rows that stand for the rows of a node; None if it holds its own."""
        readers = self._readers[i]
        count = len(self.program.nodes[i].rows)
        if i in (0, self.step) or len(readers) != 1:
            return None
        node, k = readers[0]
        term = node.terms[k]
        if isinstance(term, Product) or len(term.index) != count or bool((term.coefficient != 1).any()):
            return None
        reader = torch.full((count,), -1)
        reader[term.index.long()] = _row_of_terms(term)
        return None if bool((reader < 0).any()) else self._places(node.step, reader)

    def _places(self, i: int, rows: Tensor) -> Tensor:
        """Arena rows of some rows of a node."""
        index = self._index[i]
        return self._first[i] + rows if index is None else index[rows]

    def _plan_bands(self, count: int) -> list[_ProductBand | _CombinationBand | _ZeroBand]:
        """All calls in order: bands of the input's lines, in each the nodes from the wanted one down."""
        nodes = self.program.nodes
        height = nodes[0].rows.grid[0]
        transposed = {
            (node.step, k): _transpose(term, nodes[term.parent].rows, node.rows)
            for node in nodes.values()
            for k, term in enumerate(node.terms)
            if isinstance(term, Combination)
        }
        done = dict.fromkeys(nodes, 0)
        work: list[_ProductBand | _CombinationBand | _ZeroBand] = []
        for band in range(1, count + 1):
            due = {0: height * band // count}
            for i, node in nodes.items():  # from the input up: lines that those below will read
                lines = due.setdefault(i, 0) if band < count else node.rows.grid[0]
                due[i] = max(lines, done[i])
                for reader, k in self._readers[i]:
                    needed = _lines_read(node, reader, k, due[i], transposed)
                    due[reader.step] = max(due.get(reader.step, 0), needed)
            for i in reversed(nodes):
                if i != self.step and self._index[i] is None and due[i] > done[i]:
                    work += self._band(nodes[i], done[i], due[i], transposed)
                done[i] = due[i]
        return work

    def _band(
        self, node: Node, start: int, stop: int, transposed: "dict[tuple[int, int], _Transposed]"
    ) -> list[_ProductBand | _CombinationBand | _ZeroBand]:
        """The calls that compute lines start..stop of a node."""
        first, last = node.rows.line[start], node.rows.line[stop]
        out = slice(self._first[node.step] + first, self._first[node.step] + last)
        parts: list[_ProductBand | _CombinationBand | _ZeroBand] = []
        if first == last:
            return parts
        for reader, k in self._readers[node.step]:
            term, begun = reader.terms[k], bool(parts)
            if isinstance(term, Combination):
                offset, row, coefficient, _ = transposed[reader.step, k]
                own = slice(int(offset[first]), int(offset[last]))
                index = self._places(reader.step, row[own]).to(torch.int32)
                terms = (offset[first : last + 1] - offset[first], index, coefficient[own])
                parts.append(_CombinationBand(out, slice(0, self._first[node.step]), terms, begun))
            else:
                parts.append(self._product_band(term, reader, node, start, stop, out, begun))
        return parts or [_ZeroBand(out)]

    def _product_band(
        self, term: Product, reader: Node, node: Node, start: int, stop: int, out: slice, begun: bool
    ) -> _ProductBand:
        low, high = _reader_lines(term, reader.rows.grid[0], start, stop)
        source = (low, max(high, low), 0, reader.rows.grid[1])
        find = taps if term.mirrored else mirrored_taps
        table = find(term.geometry, (start, stop, 0, node.rows.grid[1]), source)
        in_rows, listed = _lines(reader.rows, source[0], source[1])
        index = self._index[reader.step]
        if index is None:
            first = self._first[reader.step]
            place, held = None, slice(first + listed.start, first + listed.stop)
        else:
            place, held = index[listed].to(torch.int32), slice(0, self._first[node.step])
        scale = None if term.scale is None else term.scale[listed, None]
        out_rows, _ = _lines(node.rows, start, stop)
        return _ProductBand(out, held, in_rows, place, scale, out_rows, table, term, begun)


_Transposed = tuple[Tensor, Tensor, Tensor, list[int]]


def _transpose(term: Combination, parent: RowList, reader: RowList) -> _Transposed:
    """Offsets per row of the parent, rows of the reader and coefficients of the transposed combination; and for every
    line of the parent's grid how many lines of the reader must be done before all lines up to it can be."""
    index = term.index.long()
    order = index.argsort(stable=True)
    offset = torch.zeros(len(parent) + 1, dtype=torch.int64)
    torch.cumsum(index.bincount(minlength=len(parent)), 0, out=offset[1:])
    row = _row_of_terms(term)[order]
    # Rows of a list stand in the order of their positions, so the last row read lies on the last line read.
    line = reader.unit.remainder(reader.grid[0] * reader.grid[1]) // reader.grid[1]
    last = torch.cat([torch.zeros(1, dtype=torch.int64), line[row].cummax(0).values + 1])
    ends = offset[parent.line[1:]]
    return offset, row, term.coefficient[order].contiguous(), last[ends].tolist()


def _row_of_terms(term: Combination) -> Tensor:
    """Which row each term of a combination belongs to."""
    return torch.arange(len(term.offset) - 1).repeat_interleave(term.offset.diff(), output_size=len(term.index))


def _lines(rows: RowList, start: int, stop: int) -> tuple[tuple[Tensor, Tensor], slice]:
    """The row list of lines start..stop of a grid, and which rows of the whole list they are."""
    own = slice(rows.line[start], rows.line[stop])
    return (rows.offset[start * rows.grid[1] : stop * rows.grid[1] + 1] - own.start, rows.channel[own]), own


def _reader_lines(term: Product, height: int, start: int, stop: int) -> tuple[int, int]:
    """Lines of a product's output that read lines start..stop of its input, as far as they exist."""
    kernel, stride, padding, dilation = (side[0] for side in term.geometry)
    reach = dilation * (kernel - 1)
    if term.mirrored:  # output q is input p · stride − padding + tap · dilation
        low, high = start * stride - padding, (stop - 1) * stride - padding + reach
    else:
        low, high = -((reach - padding - start) // stride), (stop - 1 + padding) // stride
    return max(0, min(low, height)), max(0, min(high + 1, height))


def _lines_read(node: Node, reader: Node, k: int, stop: int, transposed: dict[tuple[int, int], _Transposed]) -> int:
    """How many lines of a reader must be done before lines ..stop of a node can be."""
    if stop == 0:
        return 0
    term = reader.terms[k]
    if isinstance(term, Product):
        return _reader_lines(term, reader.rows.grid[0], 0, stop)[1]
    return transposed[reader.step, k][3][stop - 1]
