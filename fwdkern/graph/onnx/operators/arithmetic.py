"""Sums, products, powers, minima and maxima."""

from functools import reduce

import torch
from torch import Tensor

from fwdkern.graph.onnx.registry import Node, operator


@operator("Add")
def add(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """a + b."""
    return a + b


@operator("Sub")
def sub(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """a − b."""
    return a - b


@operator("Mul")
def mul(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """a · b."""
    return a * b


@operator("Div")
def div(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """a / b; integers are cut towards zero."""
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


@operator("Mod")
def mod(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """With the sign of b, or with fmod=1 of a."""
    return torch.fmod(a, b) if node.get("fmod", 0) else torch.remainder(a, b)


@operator("Pow")
def power(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """a to the b, in the type of a."""
    return torch.pow(a, b).to(a.dtype)


@operator("Sum")
def total(node: Node, *parts: Tensor) -> Tensor:
    """Of any number of tensors."""
    return reduce(torch.add, parts)


@operator("Mean")
def mean(node: Node, *parts: Tensor) -> Tensor:
    """Of any number of tensors."""
    return reduce(torch.add, parts) / len(parts)


@operator("Max")
def maximum(node: Node, *parts: Tensor) -> Tensor:
    """Of any number of tensors, entry by entry."""
    return reduce(torch.maximum, parts)


@operator("Min")
def minimum(node: Node, *parts: Tensor) -> Tensor:
    """Of any number of tensors, entry by entry."""
    return reduce(torch.minimum, parts)


@operator("CumSum", plain=(1,))
def cumulative(node: Node, x: Tensor, axis: int) -> Tensor:
    """Along one dimension."""
    dim = int(axis)
    if node.get("reverse", 0):
        x = x.flip(dim)
    y = torch.cumsum(x, dim).to(x.dtype)
    if node.get("exclusive", 0):
        y = y - x
    return y.flip(dim) if node.get("reverse", 0) else y
