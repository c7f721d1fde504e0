"""Operators of transformers, plain or with their coefficients frozen by ``detach``: with them autograd is the oracle.

Frozen, a network's gradient is the Jacobian that the rules promise; plain, it is what users write.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F

_frozen = False


@contextmanager
def frozen() -> Iterator[None]:
    """Networks built of these operators run frozen inside."""
    global _frozen
    _frozen = True
    try:
        yield
    finally:
        _frozen = False


def is_frozen() -> bool:
    return _frozen


def held(value: Tensor) -> Tensor:
    """A coefficient: detached if frozen."""
    return value.detach() if _frozen else value


def smooth(function: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """f(z), frozen f(0) + r · z."""
    if not _frozen:
        return function(z)
    at_zero = function(torch.zeros((), dtype=z.dtype))
    return at_zero + z * ((function(z) - at_zero) / z).detach()


def product(a: Tensor, b: Tensor) -> Tensor:
    """a · b, frozen half of each."""
    return (a * b.detach() + a.detach() * b) / 2 if _frozen else a * b


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if not _frozen:
        return F.layer_norm(x, weight.shape, weight, bias)
    deviation = (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt().detach()
    return (x - x.mean(-1, keepdim=True)) / deviation * weight + bias


def weights(scores: Tensor) -> Tensor:
    """softmax over keys."""
    return held(scores.softmax(-1))
