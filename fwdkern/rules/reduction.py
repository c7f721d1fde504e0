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


class WeightedSum(Reduction):
    """Σ weights · x over ``dims``, the weights ``[B, *in]`` frozen."""

    def __init__(self, weights: Tensor, dims: list[int], kept: bool) -> None:
        super().__init__(weights.shape, dims, kept, 1.0)
        self.weights = weights

    def forward(self, *maps: Tensor) -> Tensor:
        return super().forward(maps[0] * self.weights)

    def reverse(self, maps: Tensor) -> tuple[Tensor, ...]:
        return (super().reverse(maps)[0] * self.weights,)


def _dimensions(call: Call, dims: int | list[int] | None) -> list[int]:
    """The dimensions reduced, ascending, all where none is given."""
    shape = plain(call.args[0]).shape
    given = range(len(shape)) if dims in (None, []) else [dims] if isinstance(dims, int) else dims
    positive = sorted({dim % len(shape) for dim in given})
    if 0 in positive:
        raise NoRule("a mean, sum or norm over the batch dimension mixes examples")
    return positive


def _reduction(call: Call, mean: bool) -> Reduction:
    shape, positive = plain(call.args[0]).shape, _dimensions(call, call.argument(1, "dim"))
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


@register("vector norm", aten.linalg_vector_norm.default)
def vector_norm(call: Call) -> Frozen:
    """linalg_vector_norm(x, ord, dim, keepdim): ‖x‖₂ = Σ x · (x / ‖x‖), ‖x‖₁ = Σ x · sgn(x), the last factor frozen."""
    x, order, kept = plain(call.args[0]), call.argument(1, "ord", 2), call.argument(3, "keepdim", False)
    if order not in (1, 2):
        raise NoRule(f"a vector norm of order {order}; known are 1 and 2")
    dims = _dimensions(call, call.argument(2, "dim"))
    length = x.norm(order, dims, keepdim=True)
    return WeightedSum(x.sign() if order == 1 else x / length.masked_fill(length == 0, 1), dims, kept)
