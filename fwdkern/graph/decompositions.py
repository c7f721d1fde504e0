"""Operators that need no rule of their own: what they are made of has one."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten


def glu(x: Tensor, dim: int = -1) -> Tensor:
    """The first half times the sigmoid of the second, which is a gate."""
    size = x.shape[dim] // 2
    return x.narrow(dim, 0, size) * x.narrow(dim, size, size).sigmoid()


def square(x: Tensor) -> Tensor:
    """x²."""
    return x.pow(2)


def addcmul(x: Tensor, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
    """x + value · a · b."""
    return x + a * b * value


def addcdiv(x: Tensor, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
    """x + value · a / b."""
    return x + a / b * value


def lerp(x: Tensor, y: Tensor, weight: Any) -> Tensor:
    """x + weight · (y − x)."""
    return x + (y - x) * weight


def variance(
    x: Tensor, dim: list[int] | None = None, *, correction: float | None = None, keepdim: bool = False
) -> Tensor:
    """The mean square of what differs from the mean, times n / (n − correction)."""
    dims = dim or list(range(x.dim()))
    count = 1
    for d in dims:
        count *= x.shape[d]
    taken = count - (1 if correction is None else correction)
    return (x - x.mean(dims, True)).pow(2).sum(dims, keepdim) / taken


def variance_over(x: Tensor, dim: list[int] | None, unbiased: bool = True, keepdim: bool = False) -> Tensor:
    """The same with 1 or 0 as the correction."""
    return variance(x, dim, correction=int(unbiased), keepdim=keepdim)


def deviation(
    x: Tensor, dim: list[int] | None = None, *, correction: float | None = None, keepdim: bool = False
) -> Tensor:
    """The root of the variance."""
    return variance(x, dim, correction=correction, keepdim=keepdim).sqrt()


def deviation_over(x: Tensor, dim: list[int] | None, unbiased: bool = True, keepdim: bool = False) -> Tensor:
    """The root of that."""
    return variance_over(x, dim, unbiased, keepdim).sqrt()


DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    aten.addcdiv.default: addcdiv,
    aten.addcmul.default: addcmul,
    aten.glu.default: glu,
    aten.lerp.Scalar: lerp,
    aten.lerp.Tensor: lerp,
    aten.fliplr.default: lambda x: x.flip(1),
    aten.square.default: square,
    aten.std.correction: deviation,
    aten.std.dim: deviation_over,
    aten.var.correction: variance,
    aten.var.dim: variance_over,
}
