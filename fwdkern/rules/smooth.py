"""Smooth functions of one value: f(z) = f(0) + r · z with the ratio r = (f(z) − f(0)) / z, at z = 0 the derivative
there. r multiplies, f(0) is bias mass.

Logarithms have no value at 0 and are taken from 1 instead, where they are 0: log z = r · (z − 1), and −r is bias mass.
Negative powers have none either: they divide, and divisors are frozen (see `arithmetic`).
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fwdkern.rules.frozen import Constant, Diagonal, Frozen
from fwdkern.rules.registry import Call, Live, NoRule, plain, register

aten = torch.ops.aten

Rise = Callable[[Tensor], Tensor]


def register_smooth(target: Any, slope: float, at_zero: float = 0.0, rise: Rise | None = None) -> None:
    """Give an operator that applies one smooth function to every element the ratio rule.

    Args:
        target: ``target(z, ...)`` is f(z) in the shape of z, an ATen overload or one of a custom operator.
        slope: f'(0); at_zero: f(0).
        rise: f(z) − f(0) of z alone, where a formula without cancellation near 0 is known.
    """

    @register("ratio", target)
    def rule(call: Call) -> Frozen:
        z = plain(call.args[0])
        if rise is not None or not at_zero:
            return _ratio(z, call.output if rise is None else rise(z), slope, at_zero)
        # Nearer to 0 than this f(z) − f(0) has lost half its digits, and the derivative is right to all of them.
        near = z.abs() < torch.finfo(z.dtype).eps ** 0.5
        return _ratio(z.masked_fill(near, 0), call.output - at_zero, slope, at_zero)


def _ratio(z: Tensor, rise: Tensor, slope: float, at_zero: float) -> Diagonal:
    """``rise`` is f(z) − f(0), ``slope`` f'(0) and ``at_zero`` f(0)."""
    zero = z == 0
    offset = torch.full((), at_zero, dtype=z.dtype, device=z.device) if at_zero else None
    return Diagonal(torch.where(zero, slope, rise / z.masked_fill(zero, 1)), offset, z.shape)


# f'(0) of functions with f(0) = 0.
_THROUGH_ZERO = {
    aten.asin.default: 1.0,
    aten.asinh.default: 1.0,
    aten.atan.default: 1.0,
    aten.atanh.default: 1.0,
    aten.celu.default: 1.0,
    aten.erf.default: 2 / math.sqrt(math.pi),
    aten.expm1.default: 1.0,
    aten.gelu.default: 0.5,
    aten.hardswish.default: 0.5,
    aten.log1p.default: 1.0,
    aten.mish.default: 0.6,
    aten.silu.default: 0.5,
    aten.sin.default: 1.0,
    aten.sinh.default: 1.0,
    aten.tan.default: 1.0,
    aten.tanh.default: 1.0,
}
for _target, _slope in _THROUGH_ZERO.items():
    register_smooth(_target, _slope)

register_smooth(aten.acos.default, -1.0, math.pi / 2, lambda z: -z.asin())
register_smooth(aten.cos.default, 0.0, 1.0, lambda z: -2 * (z / 2).sin().square())
register_smooth(aten.cosh.default, 0.0, 1.0, lambda z: 2 * (z / 2).sinh().square())
register_smooth(aten.erfc.default, -2 / math.sqrt(math.pi), 1.0, lambda z: -z.erf())
register_smooth(aten.exp.default, 1.0, 1.0, torch.expm1)
register_smooth(aten.hardsigmoid.default, 1 / 6, 0.5, lambda z: (z / 6).clamp(-0.5, 0.5))
register_smooth(aten.log_sigmoid.default, 0.5, -math.log(2), lambda z: -_softplus_rise(-z))
register_smooth(aten.sigmoid.default, 0.25, 0.5, lambda z: (z / 2).tanh() / 2)


def _softplus_rise(z: Tensor) -> Tensor:
    """log((1 + e^z) / 2), without cancellation near 0 and without overflow."""
    near = torch.log1p(torch.expm1(z.clamp(-1, 1)) / 2)
    return torch.where(z.abs() < 1, near, torch.logaddexp(z, torch.zeros_like(z)) - math.log(2))


@register("ratio", aten.softplus.default)
def softplus(call: Call) -> Frozen:
    """log(1 + e^(beta z)) / beta, which is z itself where beta z is above a threshold."""
    z, beta = plain(call.args[0]), call.argument(1, "beta", 1)
    straight = z * beta > call.argument(2, "threshold", 20)
    rise = torch.where(straight, z - math.log(2) / beta, _softplus_rise(z * beta) / beta)
    return _ratio(z, rise, 0.5, math.log(2) / beta)


@register("ratio", aten.elu.default, aten.selu.default)
def elu(call: Call) -> Frozen:
    """f(z) / z; at 0 torch takes the derivative from the left."""
    alpha, scale, input_scale = (call.argument(i + 1, n, 1.0) for i, n in enumerate(("alpha", "scale", "input_scale")))
    if call.target is aten.selu.default:
        alpha, scale = 1.6732632423543772, 1.0507009873554805
    return _ratio(plain(call.args[0]), call.output, alpha * scale * input_scale, 0.0)


@register("power", aten.pow.Tensor_Scalar, aten.pow.Tensor_Tensor)
def power(call: Call) -> Frozen:
    """z^p = z^(p − 1) · z for a constant p above 0; at 0, where a root has no derivative, its coefficient is 0. A power
    of 0 or less is a constant, as a divisor is."""
    z, p = plain(call.args[0]), call.argument(1, "exponent")
    if isinstance(p, Live) or not isinstance(call.args[0], Live):
        raise NoRule("the exponent of a power must not depend on the input")
    exponent = torch.as_tensor(p, dtype=z.dtype, device=z.device)
    if bool((exponent <= 0).all()):
        return Constant(z.shape, call.output)
    if call.output.shape != z.shape or bool((exponent <= 0).any()):
        raise NoRule("exponents of a power must be all above 0 or all not, and no larger than what they act on")
    factor = z.pow(exponent - 1) if isinstance(p, Tensor) else z.pow(p - 1)
    return Diagonal(factor.masked_fill((z == 0) & (exponent < 1), 0), None, z.shape)


@register("power", aten.sqrt.default)
def root(call: Call) -> Frozen:
    """√z = z / √z, and 0 at 0."""
    z = plain(call.args[0])
    return _ratio(z, call.output, 0.0, 0.0)


@register("ratio", aten.pow.Scalar, aten.exp2.default)
def exponential(call: Call) -> Frozen:
    """c^z with a constant base above 0: its rise from 1 is e^(z log c) − 1."""
    base, z = (2.0, plain(call.args[0])) if call.target is aten.exp2.default else (call.args[0], plain(call.args[1]))
    if base <= 0:
        raise NoRule("the base of c^z must be above 0")
    exponent = z * math.log(base)
    # A large exponent would multiply its own rounding.
    rise = torch.where(exponent.abs() < 1, torch.expm1(exponent), call.output - 1)
    return _ratio(z, rise, math.log(base), 1.0)


_LOGARITHMS = {aten.log.default: math.e, aten.log2.default: 2.0, aten.log10.default: 10.0}


@register("logarithm", *_LOGARITHMS)
def logarithm(call: Call) -> Frozen:
    """log z = r · (z − 1), r = log(z) / (z − 1), at 1 the derivative there; −r is bias mass."""
    z = plain(call.args[0])
    above = z - 1
    one = above == 0
    # log1p, since near 1 log z has lost what z − 1 still has.
    risen = torch.where(above.abs() < 0.5, torch.log1p(above), z.log())
    r = torch.where(one, 1.0, risen / above.masked_fill(one, 1)) / math.log(_LOGARITHMS[call.target])
    return Diagonal(r, -r, z.shape)
