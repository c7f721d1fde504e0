"""Fully connected layers: linear, the bias is bias mass."""

import torch
from torch import Tensor

from fwdkern.rules.frozen import Frozen
from fwdkern.rules.registry import Call, Live, NoRule, register

aten = torch.ops.aten


class Linear(Frozen):
    """y = x Wᵀ + b over the last dimension; ``weight`` is ``[out, in]``, ``bias`` ``[out]`` or None."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.offset = weight, bias

    def forward(self, *maps: Tensor) -> Tensor:
        return maps[0] @ self.weight.mT

    def reverse(self, maps: Tensor) -> tuple[Tensor, ...]:
        return (maps @ self.weight,)

    def reach(self, *boxes: Tensor) -> Tensor:
        return boxes[0].amax(-1, keepdim=True).expand(*boxes[0].shape[:-1], self.weight.shape[0])


def _constant(value: object, what: str) -> Tensor | None:
    if isinstance(value, Live):
        raise NoRule(f"the {what} of a linear layer must not depend on the input")
    return value  # type: ignore[return-value]


@register("linear", aten.linear.default)
def linear(call: Call) -> Frozen:
    """linear(x, weight, bias)."""
    weight = _constant(call.argument(1, "weight"), "weight")
    assert weight is not None
    return Linear(weight, _constant(call.argument(2, "bias"), "bias"))


@register("linear", aten.addmm.default)
def addmm(call: Call) -> Frozen:
    """addmm(bias, x, weight): bias + x @ weight, unscaled."""
    if call.kwargs:
        raise NoRule("addmm with alpha or beta")
    bias = _constant(call.args[0], "bias")
    weight = _constant(call.args[2], "weight")
    assert weight is not None
    return Linear(weight.mT, bias)
