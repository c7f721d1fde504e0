"""Reverse mode over active rows: the same kernels with input and output rows swapped and taps mirrored."""

import torch
from torch import Tensor

from fwdkern.engine.rows.forward import Arena
from fwdkern.engine.rows.geometry import mirrored_taps, taps
from fwdkern.engine.rows.program import Combination, Product, Program
from fwdkern.ops import gathered_gemm, row_combine


class ReversePass:
    """A program read backwards, ready for any number of chunks of targets."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._arena = Arena()
        self._transposed = {
            (i, k): _transpose(term, len(program.nodes[term.parent].rows))
            for i, node in program.nodes.items()
            for k, term in enumerate(node.terms)
            if isinstance(term, Combination)
        }

    def floats(self) -> int:
        """Floats that one target holds."""
        return sum(len(node.rows) for node in self.program.nodes.values())

    def pull(self, step: int, targets: Tensor) -> Tensor:
        """Pull targets back to the input.

        Args:
            step: the wanted node; targets: ``[its rows, K]``, K linear forms of its rows.

        Returns:
            ``[input rows, K]``, valid until the next call.
        """
        nodes = self.program.nodes
        count = targets.shape[1]
        self._arena.reset(self.floats() * count)
        maps = {step: targets}
        for i in reversed(nodes):
            if i not in maps:
                continue
            for k, term in enumerate(nodes[i].terms):
                begun = term.parent in maps
                if not begun:
                    maps[term.parent] = self._arena.take(len(nodes[term.parent].rows), count)
                self._pull_term(i, k, term, maps, begun)
        return maps[0] if 0 in maps else self._arena.take(len(nodes[0].rows), count).zero_()

    def _pull_term(self, i: int, k: int, term: Product | Combination, maps: dict[int, Tensor], begun: bool) -> None:
        nodes, out = self.program.nodes, maps[term.parent]
        if isinstance(term, Combination):
            row_combine(maps[i], *self._transposed[i, k], accumulate=begun, out=out)
            return
        own, parent = nodes[i].rows, nodes[term.parent].rows
        find = taps if term.mirrored else mirrored_taps
        gathered_gemm(
            maps[i] if term.scale is None else maps[i] * term.scale[:, None],
            (own.offset, own.channel),
            (parent.offset, parent.channel),
            find(term.geometry, parent.whole, own.whole),
            term.transpose,
            groups=term.groups,
            accumulate=begun,
            out=out,
        )


def _transpose(term: Combination, parent_rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Offsets, indices and coefficients of the transposed combination."""
    row = torch.arange(len(term.offset) - 1).repeat_interleave(term.offset.diff(), output_size=len(term.index))
    index = term.index.long()
    order = index.argsort(stable=True)
    offset = torch.zeros(parent_rows + 1, dtype=torch.int64)
    torch.cumsum(index.bincount(minlength=parent_rows), 0, out=offset[1:])
    return offset, row[order].to(torch.int32), term.coefficient[order].contiguous()
