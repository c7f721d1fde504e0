"""Largest, smallest and ordered values: each output is its winner's map."""

from typing import Any

import torch
from torch import Tensor

from fwdkern.rules.arithmetic import Halves, Scaled
from fwdkern.rules.frozen import Frozen, Picked
from fwdkern.rules.registry import Call, Live, NoRule, plain, register

aten = torch.ops.aten


# Values without the indices that ATen returns beside them, as operators of their own.
def max_values(x: Tensor, dim: int, keepdim: bool = False) -> Tensor:
    """The largest values along a dimension."""
    return aten.max.dim(x, dim, keepdim)[0]


def min_values(x: Tensor, dim: int, keepdim: bool = False) -> Tensor:
    """The smallest values along a dimension."""
    return aten.min.dim(x, dim, keepdim)[0]


def median_values(x: Tensor, dim: int, keepdim: bool = False) -> Tensor:
    """The medians along a dimension."""
    return aten.median.dim(x, dim, keepdim)[0]


def kth_values(x: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Tensor:
    """The k-th smallest values along a dimension."""
    return aten.kthvalue.default(x, k, dim, keepdim)[0]


def top_values(x: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Tensor:
    """The k largest values along a dimension."""
    return aten.topk.default(x, k, dim, largest, sorted)[0]


def sorted_values(x: Tensor, dim: int = -1, descending: bool = False) -> Tensor:
    """The values of each line in order."""
    return aten.sort.default(x, dim, descending)[0]


# By the operator of values and indices: that of the values alone, and the position of its dimension.
VALUES: dict[Any, Any] = {
    aten.max.dim: max_values,
    aten.min.dim: min_values,
    aten.median.dim: median_values,
    aten.kthvalue.default: kth_values,
    aten.topk.default: top_values,
    aten.sort.default: sorted_values,
}
_BOTH = {values: both for both, values in VALUES.items()}
_DIMENSION = {max_values: 1, min_values: 1, median_values: 1, kth_values: 2, top_values: 2, sorted_values: 1}
_KEEPS = {max_values: 2, min_values: 2, median_values: 2, kth_values: 3}


@register("extremum", *_BOTH)
def picked(call: Call) -> Frozen:
    """max, min, median, kthvalue, topk and sort along one dimension: a copy of what was chosen."""
    x = plain(call.args[0])
    dim = call.argument(_DIMENSION[call.target], "dim", -1) % x.dim()
    if dim == 0:
        raise NoRule("an order along the batch dimension mixes examples")
    call.output, index = _BOTH[call.target](x, *call.args[1:], **call.kwargs)
    kept = call.target not in _KEEPS or call.argument(_KEEPS[call.target], "keepdim", False)
    return Picked(index if kept else index.unsqueeze(dim), dim, kept, x.shape)


class Extremum(Frozen):
    """The largest or smallest value over some dimensions; equal ones share alike, as in torch's derivative.

    Args:
        share: ``[B, *in]``, each input's part; dims: of ``[B, *in]``; kept: whether they stay with size 1.
    """

    def __init__(self, share: Tensor, dims: list[int], kept: bool) -> None:
        self.share, self.dims, self.kept = share, [dim + 1 for dim in dims], kept

    def forward(self, *maps: Tensor) -> Tensor:
        # What has no share may be infinite, as values under a mask are.
        return torch.where(self.share == 0, 0, maps[0] * self.share).sum(self.dims, keepdim=self.kept)

    def reverse(self, maps: Tensor) -> tuple[Tensor, ...]:
        if not self.kept:
            for dim in self.dims:
                maps = maps.unsqueeze(dim)
        return (maps * self.share,)

    def reach(self, *boxes: Tensor) -> Tensor:
        return boxes[0].amax(self.dims, keepdim=self.kept)


@register("extremum", aten.amax.default, aten.amin.default)
def extremum(call: Call) -> Frozen:
    """amax and amin(x, dims, keepdim)."""
    x, given = plain(call.args[0]), call.argument(1, "dim", [])
    dims = sorted({dim % x.dim() for dim in ([given] if isinstance(given, int) else given or range(x.dim()))})
    if 0 in dims:
        raise NoRule("an extremum over the batch dimension mixes examples")
    kept = call.argument(2, "keepdim", False)
    best = call.target(x, dims, True)
    equal = (x == best).to(x.dtype)
    return Extremum(equal / equal.sum(dims, keepdim=True), dims, kept)


@register("extremum", aten.maximum.default, aten.minimum.default)
def larger(call: Call) -> Frozen:
    """maximum and minimum(a, b): the map of the larger or smaller one, half of each where they are equal."""
    a, b = call.args[:2]
    shape, sign = call.output.shape, 1 if call.target is aten.maximum.default else -1
    share = 0.5 + 0.5 * (sign * (plain(a) - plain(b))).sign()
    if isinstance(a, Live) and isinstance(b, Live):
        return Halves(Scaled(share, a.value.shape, shape), Scaled(1 - share, b.value.shape, shape))
    live, other, own = (a, b, share) if isinstance(a, Live) else (b, a, 1 - share)
    frozen = Scaled(own, live.value.shape, shape)
    frozen.offset = torch.where(own == 1, 0, (1 - own) * other)
    return frozen
