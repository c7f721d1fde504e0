"""Sums and means over dimensions, and sums so far: linear. Their smooth relatives with frozen weights."""

import torch
from torch import Tensor

from fwdkern.rules.frozen import Constant, Frozen
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
        return super().forward(_weighted(maps[0], self.weights))

    def reverse(self, maps: Tensor) -> tuple[Tensor, ...]:
        return (super().reverse(maps)[0] * self.weights,)


def _weighted(maps: Tensor, weights: Tensor) -> Tensor:
    # What has no weight may be infinite, as scores under a mask are.
    return torch.where(weights == 0, 0, maps * weights)


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


class RunningSum(Frozen):
    """Every output is the sum of the inputs up to its place along ``dim`` (of ``[B, *shape]``)."""

    def __init__(self, dim: int) -> None:
        self.dim = dim + 1

    def forward(self, *maps: Tensor) -> Tensor:
        return maps[0].cumsum(self.dim)

    def reverse(self, maps: Tensor) -> tuple[Tensor, ...]:
        return (maps.flip(self.dim).cumsum(self.dim).flip(self.dim),)

    def reach(self, *boxes: Tensor) -> Tensor:
        return boxes[0].cummax(self.dim).values


@register("running sum", aten.cumsum.default)
def running_sum(call: Call) -> Frozen:
    """cumsum(x, dim); whole numbers, counts mostly, hold no map."""
    x = plain(call.args[0])
    (dim,) = _dimensions(call, call.argument(1, "dim"))
    return RunningSum(dim) if x.is_floating_point() else Constant(x.shape, call.output)


def _entropy(log_p: Tensor, dims: list[int], kept: bool) -> Tensor:
    """-Σ p log p, where p = 0 adds nothing."""
    return -(log_p.exp() * log_p.masked_fill(log_p == -torch.inf, 0)).sum(dims, keepdim=kept)


@register("log-sum-exp", aten.logsumexp.default)
def log_sum_exp(call: Call) -> Frozen:
    """logsumexp(z, dims, keepdim) = Σ p · z + H with p = softmax(z) frozen and their entropy H = −Σ p log p bias mass.

    Of all p that sum to 1 this one makes Σ p · z + H largest (the Gibbs variational principle), so that p is also the
    derivative, and where one z is far above the others it is that of a maximum.
    """
    z, kept = plain(call.args[0]), call.argument(2, "keepdim", False)
    dims = _dimensions(call, call.argument(1, "dim"))
    total = z.logsumexp(dims, keepdim=True)
    nothing = total == -torch.inf  # all under a mask
    log_p = (z - total).masked_fill(nothing, -torch.inf)
    frozen = WeightedSum(log_p.exp(), dims, kept)
    frozen.offset = torch.where(nothing if kept else nothing.squeeze(dims), -torch.inf, _entropy(log_p, dims, kept))
    frozen.unbounded = True
    return frozen


class LogSoftmax(Frozen):
    """z less its frozen log-sum-exp: z_i − Σ p · z − H.

    Args:
        log_p: the output ``[B, *shape]``; dim: of it.
    """

    unbounded = True

    def __init__(self, log_p: Tensor, dim: int) -> None:
        self.p, self.dim = log_p.exp(), dim + 1
        self.offset = -_entropy(log_p, [dim], True)

    def forward(self, *maps: Tensor) -> Tensor:
        return maps[0] - _weighted(maps[0], self.p).sum(self.dim, keepdim=True)

    def reverse(self, maps: Tensor) -> tuple[Tensor, ...]:
        return (maps - maps.sum(self.dim, keepdim=True) * self.p,)

    def reach(self, *boxes: Tensor) -> Tensor:
        return boxes[0].amax(self.dim, keepdim=True).expand_as(boxes[0])


@register("log-sum-exp", aten.log_softmax.int, aten._log_softmax.default)
def log_softmax(call: Call) -> Frozen:
    """log_softmax(z, dim): z less its ``log_sum_exp``. At the end of a network the maps are those of the logits."""
    (dim,) = _dimensions(call, call.args[1])
    return LogSoftmax(call.output, dim)
