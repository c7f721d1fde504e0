"""Reverse mode over active rows: the same program read backwards, input and output rows swapped and taps mirrored."""

import torch
from torch import Tensor

from fwdkern.engine.features import Features
from fwdkern.engine.rows.geometry import mirrored_taps, taps
from fwdkern.engine.rows.program import Combination, Node, Product, Program
from fwdkern.ops.row_program import CombinationTerm, ProductTerm, RowNode, RowPass, Seeds, Sink

# Lines of pixels that are finished at a time.
BAND = 2


def reverse_pass(
    program: Program,
    step: int,
    targets: Tensor,
    chunks: list[Tensor],
    features: Features,
    x: Tensor,
    labels: Tensor,
    scores: Tensor,
    origin: Tensor | None,
) -> RowPass:
    """A pass that pulls targets, linear forms of one step's rows, back to the input.

    Args:
        targets: int32 ``[rows]``, the target that each row of the step belongs to with weight 1, −1 for none.
        chunks: the targets of each block; x: input ``[C, H, W]`` or ``[F]``; labels: int64 ``[E]``, the slice of each
            of its elements; scores: zeros ``[targets, slices]``, or windows ``[targets, h, w]`` at ``origin``.
    """
    nodes = _Transposed(program, step).nodes
    sink = _sink(features, nodes[-1], program.nodes[0], x, labels, len(nodes))
    nodes.append(sink[0])
    width = x.shape[-1]
    target = Sink(len(nodes) - 1, sink[1], scores, transposed=True, origin=origin, image=width)
    pivot = max(k for k, node in enumerate(nodes) if k == 0 or node.grid[0] > 1)
    windows = torch.tensor([[[0, node.grid[0], 0, node.grid[1]] for node in nodes]], device="cpu")
    count = int(chunks[-1][-1]) + 1
    return RowPass(nodes, Seeds(0, targets, torch.ones(len(targets))), [target], chunks, count, windows, pivot, BAND)


def _sink(
    features: Features, last: RowNode, inputs: Node, x: Tensor, labels: Tensor, number: int
) -> tuple[RowNode, Tensor]:
    """The node behind the input's rows, x times what was pulled into them summed within each slice, and its slots."""
    unit = inputs.rows.unit
    values, own = x.flatten()[unit], labels[unit]
    first = last.first + len(last.channel)
    every = torch.arange(len(unit) + 1)
    if features.kind == "channels":
        term = CombinationTerm(number - 1, every, every[:-1].to(torch.int32), values.contiguous())
        return RowNode(inputs.rows.offset, inputs.rows.channel, inputs.rows.grid, first, [term]), own
    if features.kind == "pixels" and x.dim() == 3:
        term = CombinationTerm(number - 1, inputs.rows.offset, every[:-1].to(torch.int32), values.contiguous())
        grid = inputs.rows.grid
    else:
        order = own.argsort(stable=True)
        offset = torch.zeros(features.count + 1, dtype=torch.int64)
        torch.cumsum(own.bincount(minlength=features.count), 0, out=offset[1:])
        term = CombinationTerm(number - 1, offset, order.to(torch.int32), values[order].contiguous())
        grid = (1, features.count)
    count = grid[0] * grid[1]
    node = RowNode(torch.arange(count + 1), torch.zeros(count, dtype=torch.int32), grid, first, [term])
    return node, torch.arange(count)


class _Transposed:
    """The nodes of a program in reverse order, from the one where targets begin.

    A node that one other alone reads, each row as it is and none twice, holds no matrix: what is pulled into its rows
    stands in its reader's.
    """

    def __init__(self, program: Program, step: int) -> None:
        self.program = program
        self.nodes: list[RowNode] = []
        self._number: dict[int, int] = {}
        self._readers: dict[int, list[tuple[Node, int]]] = {i: [] for i in program.nodes}
        for node in program.nodes.values():
            for k, term in enumerate(node.terms):
                self._readers[term.parent].append((node, k))
        for i in reversed(program.nodes):
            self._add_node(i, holds=i in (0, step))

    def _add_node(self, i: int, holds: bool) -> None:
        node, readers = self.program.nodes[i], self._readers[i]
        source = None
        if not holds and len(readers) == 1:
            source = _only_readers(*readers[0], len(node.rows))
        if source is not None:
            reader = self._number[readers[0][0].step]
            count = torch.arange(len(source) + 1)
            terms: list[ProductTerm | CombinationTerm] = [
                CombinationTerm(reader, count, source.to(torch.int32), torch.ones(len(source)))
            ]
            places = self.nodes[reader].source
            source = (source + self.nodes[reader].first if places is None else places[source]).to(torch.int32)
        else:
            terms = [self._term(node, reader, reader.terms[k]) for reader, k in readers]
        self._number[i] = self._append(node, terms, source)

    def _append(self, node: Node, terms: list[ProductTerm | CombinationTerm], source: Tensor | None = None) -> int:
        first = self.nodes[-1].first + len(self.nodes[-1].channel) if self.nodes else 0
        self.nodes.append(RowNode(node.rows.offset, node.rows.channel, node.rows.grid, first, terms, source))
        return len(self.nodes) - 1

    def _term(self, node: Node, reader: Node, term: Product | Combination) -> ProductTerm | CombinationTerm:
        number = self._number[reader.step]
        if isinstance(term, Combination):
            return _transposed_combination(term, len(node.rows), number)
        if term.scale is not None:
            every = torch.arange(len(term.scale) + 1)
            scaled = CombinationTerm(number, every, every[:-1].to(torch.int32), term.scale.contiguous())
            number = self._append(reader, [scaled])
        find = taps if term.mirrored else mirrored_taps
        table = find(term.geometry, node.rows.whole, reader.rows.whole)
        return ProductTerm(number, table, term.transpose, term.groups, None)


def _only_readers(reader: Node, k: int, count: int) -> Tensor | None:
    """The row of the reader that reads each of a node's rows; None unless each is read once, as it is."""
    term = reader.terms[k]
    if isinstance(term, Product) or len(term.index) != count or not term.copies:
        return None
    rows = torch.full((count,), -1)
    rows[term.index.long()] = term.row_of_terms()
    return None if bool((rows < 0).any()) else rows


def _transposed_combination(term: Combination, rows: int, reader: int) -> CombinationTerm:
    index = term.index.long()
    order = index.argsort(stable=True)
    offset = torch.zeros(rows + 1, dtype=torch.int64)
    torch.cumsum(torch.zeros_like(offset[1:]).index_add_(0, index, torch.ones_like(index)), 0, out=offset[1:])
    own = term.row_of_terms()[order].to(torch.int32)
    return CombinationTerm(reader, offset, own, term.coefficient[order].contiguous())
