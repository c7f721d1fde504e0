"""Functions that are flat but for their jumps, comparisons among them: nothing of their input is left, their value is
bias mass. As a factor such a value is a gate.
"""

import torch
from torch import Tensor

from fwdkern.rules.arithmetic import div
from fwdkern.rules.frozen import Constant, Diagonal, Frozen
from fwdkern.rules.registry import Call, Live, NoRule, plain, register

aten = torch.ops.aten

_COMPARISONS = [
    overload
    for operator in (aten.eq, aten.ne, aten.lt, aten.le, aten.gt, aten.ge)
    for overload in (operator.Scalar, operator.Tensor)
]
_ROUNDINGS = [aten.sign.default, aten.floor.default, aten.ceil.default, aten.round.default, aten.trunc.default]


@register("step", *_COMPARISONS, *_ROUNDINGS, aten.floor_divide.default, aten.isnan.default, aten.isfinite.default)
@register("step", aten.logical_not.default, aten.logical_and.default, aten.logical_or.default)
@register("step", aten.bitwise_not.default, aten.bitwise_and.Tensor, aten.bitwise_or.Tensor)
@register("step", aten.argmax.default, aten.argmin.default)
def step(call: Call) -> Frozen:
    """Comparisons, signs, roundings, positions of extremes."""
    frozen = Constant(next(a for a in call.args if isinstance(a, Live)).value.shape, call.output)
    if call.target in (aten.argmax.default, aten.argmin.default) and call.argument(1, "dim") in (None, 0):
        raise NoRule("an extreme over the batch dimension mixes examples")
    frozen.operands = (0,)
    return frozen


@register("step", aten.div.Tensor_mode, aten.div.Scalar_mode)
def rounded_quotient(call: Call) -> Frozen:
    """div(a, b, rounding_mode)."""
    return div(call) if call.argument(2, "rounding_mode") is None else step(call)


@register("remainder", aten.remainder.Scalar, aten.fmod.Scalar, aten.frac.default)
def remainder(call: Call) -> Frozen:
    """x less a multiple of a constant, which is bias mass."""
    z = plain(call.args[0])
    return Diagonal(torch.ones((), dtype=z.dtype, device=z.device), call.output - z, z.shape)


class Cast(Frozen):
    """A change of dtype."""

    def __init__(self, before: torch.dtype, after: torch.dtype) -> None:
        self.before, self.after = before, after

    def forward(self, *maps: Tensor) -> Tensor:
        return maps[0].to(self.after)

    def reverse(self, maps: Tensor) -> tuple[Tensor, ...]:
        return (maps.to(self.before),)

    def reach(self, *boxes: Tensor) -> Tensor:
        return boxes[0]


@register("change of type", aten._to_copy.default, aten.to.dtype, aten.to.dtype_layout, aten.type_as.default)
def cast(call: Call) -> Frozen:
    """The same values in another floating-point type; whole numbers hold no map."""
    if not isinstance(call.args[0], Live):
        raise NoRule("constants in the type of what depends on the input")
    x = plain(call.args[0])
    whole = not (x.is_floating_point() and call.output.is_floating_point())
    frozen = Constant(x.shape, call.output) if whole else Cast(x.dtype, call.output.dtype)
    frozen.operands = (0,)  # of what type_as is like only the type is read
    return frozen
