"""Sums and means over dimensions: linear."""

import torch
from torch import Tensor

from fwdkern.rules.frozen import Frozen
from fwdkern.rules.registry import Call, NoRule, plain, register

aten = torch.ops.aten


class Reduction(Frozen):
    """factor · Σ over ``dims`` (of ``[B, *in]``, never the batch); ``kept`` says whether they stay with size 1."""

    def __init__(self, in_shape: torch.Size, dims: list[int], kept: bool, factor: float) -> None:
        self.in_shape, self.kept, self.factor = in_shape, kept, factor
        self.dims = [dim + 1 for dim in dims]

    def forward(self, *maps: Tensor) -> Tensor:
        return maps[0].sum(self.dims, keepdim=self.kept) * self.factor

    def reverse(self, maps: Tensor) -> tuple[Tensor, ...]:
        if not self.kept:
            for dim in sorted(self.dims):
                maps = maps.unsqueeze(dim)
        return ((maps * self.factor).expand(maps.shape[0], *self.in_shape),)

    def reach(self, *boxes: Tensor) -> Tensor:
        return boxes[0].amax(self.dims, keepdim=self.kept)


def _reduction(call: Call, mean: bool) -> Reduction:
    shape = plain(call.args[0]).shape
    dims = call.argument(1, "dim")
    given = range(len(shape)) if dims in (None, []) else [dims] if isinstance(dims, int) else dims
    positive = sorted({dim % len(shape) for dim in given})
    if 0 in positive:
        raise NoRule("a mean or sum over the batch dimension mixes examples")
    count = 1
    for dim in positive:
        count *= shape[dim]
    return Reduction(shape, positive, call.argument(2, "keepdim", False), 1 / count if mean else 1.0)


@register("mean", aten.mean.dim, aten.mean.default)
def mean(call: Call) -> Frozen:
    """mean(x, dim, keepdim)."""
    return _reduction(call, mean=True)


@register("sum over dimensions", aten.sum.dim_IntList, aten.sum.default)
def total(call: Call) -> Frozen:
    """sum(x, dim, keepdim)."""
    return _reduction(call, mean=False)
