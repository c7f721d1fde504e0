"""Choices between values: where they come from is frozen."""

import torch
from torch import Tensor

from fwdkern.rules.frozen import Constant, Frozen, sum_to
from fwdkern.rules.registry import Call, Live, plain, register

aten = torch.ops.aten


class Choice(Frozen):
    """Every output is a copy of one of some values, broadcast to it.

    Args:
        shapes: of those that depend on the input, ``[B, *in]``; masks: bool, where each of them is taken, broadcastable
            to the output ``[B, *out]``; offset: what the others bring.
    """

    unbounded = True

    def __init__(self, shapes: list[torch.Size], masks: list[Tensor], offset: Tensor | None, out: torch.Size) -> None:
        self.shapes, self.masks, self.offset, self.out = shapes, masks, offset, out

    def forward(self, *maps: Tensor) -> Tensor:
        parts = []
        for part, mask in zip(maps, self.masks, strict=True):
            missing = len(self.out) + 1 - part.dim()
            wide = part.reshape(len(part), *[1] * missing, *part.shape[1:])
            parts.append(torch.where(mask, wide, 0).expand(-1, *self.out))
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    def reverse(self, maps: Tensor) -> tuple[Tensor, ...]:
        return tuple(
            sum_to(torch.where(mask, maps, 0), shape) for mask, shape in zip(self.masks, self.shapes, strict=True)
        )

    def reach(self, *boxes: Tensor) -> Tensor:
        # Which value is taken differs from input to input, and fields are those of all inputs.
        wide = [box.reshape(4, *[1] * (len(self.out) + 1 - box.dim()), *box.shape[1:]) for box in boxes]
        return torch.stack([box.expand(4, *self.out) for box in wide]).amax(0)


def _choice(call: Call, condition: object, sides: tuple[object, object]) -> Choice:
    """``sides`` are taken where the condition holds and where it does not."""
    mask = plain(condition).bool()
    shapes, masks, offset = [], [], None
    for side, own in zip(sides, (mask, ~mask), strict=True):
        if isinstance(side, Live):
            shapes.append(side.value.shape)
            masks.append(own)
        else:
            value = torch.as_tensor(side, dtype=call.output.dtype, device=call.output.device)
            offset = torch.where(own, value, 0)
    return Choice(shapes, masks, offset, call.output.shape)


def _read(arguments: tuple[object, ...], condition: int) -> tuple[int, ...]:
    """Which live arguments are read, without a condition."""
    live = [place for place, value in enumerate(arguments) if isinstance(value, Live)]
    return tuple(number for number, place in enumerate(live) if place != condition)


@register("choice", aten.where.self, aten.where.ScalarOther, aten.where.ScalarSelf)
def where(call: Call) -> Frozen:
    """where(condition, a, b): the condition is frozen."""
    condition, a, b = call.args
    if not (isinstance(a, Live) or isinstance(b, Live)):
        return _constant(call)
    frozen = _choice(call, condition, (a, b))
    frozen.operands = _read(call.args, 0)
    return frozen


@register("choice", aten.masked_fill.Scalar, aten.masked_fill.Tensor)
def masked_fill(call: Call) -> Frozen:
    """masked_fill(x, mask, value): the mask is frozen; a constant value goes to the bias mass."""
    x, mask, value = call.args
    if not (isinstance(x, Live) or isinstance(value, Live)):
        return _constant(call)
    frozen = _choice(call, mask, (value, x))
    # Maps come in the order of the sides.
    live = [operand for operand in call.args if isinstance(operand, Live)]
    frozen.operands = tuple(live.index(side) for side in (value, x) if isinstance(side, Live))
    return frozen


def _constant(call: Call) -> Frozen:
    """Of a choice between constants nothing is left that depends on the input."""
    condition = next(value for value in call.args if isinstance(value, Live))
    return Constant(condition.value.shape, call.output)
