"""Reverse mode over active rows: the same kernels with input and output rows swapped and taps mirrored."""

import torch
from torch import Tensor

from fwdkern.engine.rows.forward import Arena
from fwdkern.engine.rows.geometry import mirrored_taps, taps
from fwdkern.engine.rows.program import Combination, Node, Product, Program
from fwdkern.ops import gathered_gemm, row_combine


class ReversePass:
    """A program read backwards from one wanted node, ready for any number of chunks of targets.

    A node that one other alone reads, each row as it is and none twice, holds no matrix here: what is pulled into its
    rows stands in its reader's.
    """

    def __init__(self, program: Program, step: int) -> None:
        self.program, self.step = program, step
        self._arena = Arena()
        self._readers: dict[int, list[tuple[Node, int]]] = {i: [] for i in program.nodes}
        for node in program.nodes.values():
            for k, term in enumerate(node.terms):
                self._readers[term.parent].append((node, k))
        self._first: dict[int, int] = {}
        self._index: dict[int, Tensor | None] = {}
        self._pulls: dict[tuple[int, int], tuple[Tensor, Tensor, Tensor]] = {}
        held = 1  # row 0 of the arena is zero
        for i in reversed(program.nodes):
            self._index[i] = self._stand_in(i)
            if self._index[i] is None:
                self._first[i] = held
                held += len(program.nodes[i].rows)
        self.rows = held - 1

    def _stand_in(self, i: int) -> Tensor | None:
        """Arena rows that stand for the rows of a node, int32; None if it holds its own."""
        readers = self._readers[i]
        count = len(self.program.nodes[i].rows)
        if i == self.step or len(readers) != 1:
            return None
        node, k = readers[0]
        term = node.terms[k]
        if isinstance(term, Product) or len(term.index) != count or bool((term.coefficient != 1).any()):
            return None
        row = _row_of_terms(term)
        reader = torch.full((count,), -1)
        reader[term.index.long()] = row
        if bool((reader < 0).any()):
            return None
        return self._places(node.step)[reader].to(torch.int32)

    def _places(self, i: int) -> Tensor:
        """Arena row of every row of a node."""
        index = self._index[i]
        if index is not None:
            return index.long()
        return self._first[i] + torch.arange(len(self.program.nodes[i].rows))

    def pull(self, targets: Tensor) -> Tensor:
        """Pull targets back to the input.

        Args:
            targets: ``[rows of the wanted node, K]``, K linear forms of its rows.

        Returns:
            ``[input rows, K]``, valid until the next call.
        """
        nodes = self.program.nodes
        self._arena.reset(self.rows, targets.shape[1])
        arena = self._arena.maps
        for i in reversed(nodes):
            if self._index[i] is not None:
                continue
            out = arena[self._first[i] : self._first[i] + len(nodes[i].rows)]
            before = arena[: self._first[i]]  # all that a node reads lies before its own rows
            begun = i == self.step
            if begun:
                out.copy_(targets)
            for node, k in self._readers[i]:
                term = node.terms[k]
                if isinstance(term, Combination):
                    if (node.step, k) not in self._pulls:
                        self._pulls[node.step, k] = self._transposed(term, node.step, len(nodes[i].rows))
                    row_combine(before, *self._pulls[node.step, k], accumulate=begun, out=out)
                else:
                    self._pull_product(term, node, nodes[i], before, out, begun)
                begun = True
            if not begun:
                out.zero_()
        return arena[self._first[0] : self._first[0] + len(nodes[0].rows)]

    def _pull_product(self, term: Product, node: Node, parent: Node, before: Tensor, out: Tensor, begun: bool) -> None:
        own, index = node.rows, self._index[node.step]
        source = before
        if index is None:
            source = before[self._first[node.step] : self._first[node.step] + len(own)]
        if term.scale is not None:
            source, index = before[self._places(node.step)] * term.scale[:, None], None
        find = taps if term.mirrored else mirrored_taps
        gathered_gemm(
            source,
            (own.offset, own.channel),
            (parent.rows.offset, parent.rows.channel),
            find(term.geometry, parent.rows.whole, own.whole),
            term.transpose,
            groups=term.groups,
            accumulate=begun,
            out=out,
            in_index=index,
        )

    def _transposed(self, term: Combination, reader: int, parent_rows: int) -> tuple[Tensor, Tensor, Tensor]:
        """Offsets, arena rows and coefficients of the transposed combination."""
        index = term.index.long()
        order = index.argsort(stable=True)
        offset = torch.zeros(parent_rows + 1, dtype=torch.int64)
        torch.cumsum(index.bincount(minlength=parent_rows), 0, out=offset[1:])
        row = self._places(reader)[_row_of_terms(term)[order]]
        return offset, row.to(torch.int32), term.coefficient[order].contiguous()


def _row_of_terms(term: Combination) -> Tensor:
    """Which row each term of a combination belongs to."""
    return torch.arange(len(term.offset) - 1).repeat_interleave(term.offset.diff(), output_size=len(term.index))
