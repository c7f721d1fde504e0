"""Activations. Piecewise linear ones: the slope at z, and an offset where the piece does not pass through the origin.
At a kink the slope is the one that torch's own derivative takes, so that maps agree with input × gradient.

Smooth ones: f(z) = f(0) + r · z with the ratio r = (f(z) − f(0)) / z, at z = 0 the derivative there. r multiplies, f(0)
is bias mass.
"""

import math

import torch
from torch import Tensor

from fwdkern.rules.frozen import Diagonal, Frozen, Gate
from fwdkern.rules.registry import Call, Live, NoRule, plain, register

aten = torch.ops.aten


@register("relu", aten.relu.default)
def relu(call: Call) -> Frozen:
    """max(z, 0): |sgn(out)|, open exactly where the output is positive."""
    return Gate(call.output)


def _sloped(z: Tensor, slope: Tensor | float) -> Diagonal:
    ones = torch.ones((), dtype=z.dtype, device=z.device)
    return Diagonal(torch.where(z > 0, ones, slope), None, z.shape)


@register("leaky relu", aten.leaky_relu.default)
def leaky_relu(call: Call) -> Frozen:
    """z where z > 0, else slope · z."""
    return _sloped(plain(call.args[0]), call.argument(1, "negative_slope", 0.01))


@register("leaky relu", aten.rrelu.default)
def rrelu(call: Call) -> Frozen:
    """Outside training a leaky ReLU with the mean of its two bounds."""
    if call.argument(3, "training", False):
        raise NoRule("rrelu in training mode draws random slopes")
    return _sloped(plain(call.args[0]), (call.argument(1, "lower", 1 / 8) + call.argument(2, "upper", 1 / 3)) / 2)


@register("prelu", aten.prelu.default)
def prelu(call: Call) -> Frozen:
    """z where z > 0, else a slope per channel (dimension 1)."""
    z, slope = plain(call.args[0]), call.args[1]
    if isinstance(slope, Live):
        raise NoRule("the slope of prelu must not depend on the input")
    if z.dim() > 1:
        slope = slope.view(-1, *[1] * (z.dim() - 2))
    return _sloped(z, slope)


def _clamped(z: Tensor, open_: Tensor, output: Tensor) -> Gate:
    return Gate(open_, torch.where(open_, torch.zeros((), dtype=z.dtype, device=z.device), output))


@register("hardtanh", aten.hardtanh.default, aten.relu6.default)
def hardtanh(call: Call) -> Frozen:
    """Slope 1 strictly between the bounds; on a plateau slope 0 and the plateau itself as offset."""
    z = plain(call.args[0])
    low, high = (0.0, 6.0) if call.target is aten.relu6.default else (-1.0, 1.0)
    low, high = call.argument(1, "min_val", low), call.argument(2, "max_val", high)
    if low == 0:
        # ReLU6 is in every layer of mobile networks: one comparison, and a gate of floats, which is packed natively.
        below = torch.where(call.output < high, call.output, 0)
        return Gate(below, call.output - below)
    return _clamped(z, (z > low) & (z < high), call.output)


@register("clamp", aten.clamp.default, aten.clip.default, aten.clamp_min.default, aten.clamp_max.default)
def clamp(call: Call) -> Frozen:
    """Slope 1 between constant bounds, bounds included; outside the bound is the offset."""
    z = plain(call.args[0])
    low, high = call.argument(1, "min"), call.argument(2, "max")
    if call.target is aten.clamp_max.default:
        low, high = None, call.argument(1, "max")
    inside = torch.ones_like(z, dtype=torch.bool)
    if low is not None:
        inside &= z >= low
    if high is not None:
        inside &= z <= high
    return _clamped(z, inside, call.output)


@register("threshold", aten.threshold.default)
def threshold(call: Call) -> Frozen:
    """z where z > threshold, else a constant, which is the offset."""
    z = plain(call.args[0])
    return _clamped(z, z > call.args[1], call.output)


@register("abs", aten.abs.default)
def absolute(call: Call) -> Frozen:
    """|z| = sgn(z) · z."""
    z = plain(call.args[0])
    return Diagonal(z.sign(), None, z.shape)


def _ratio(z: Tensor, rise: Tensor, slope: float, at_zero: float) -> Diagonal:
    """``rise`` is f(z) − f(0), ``slope`` f'(0) and ``at_zero`` f(0)."""
    zero = z == 0
    offset = torch.full((), at_zero, dtype=z.dtype, device=z.device) if at_zero else None
    return Diagonal(torch.where(zero, slope, rise / z.masked_fill(zero, 1)), offset, z.shape)


# f'(0) of functions with f(0) = 0.
_THROUGH_ZERO = {
    aten.tanh.default: 1.0,
    aten.gelu.default: 0.5,
    aten.silu.default: 0.5,
    aten.hardswish.default: 0.5,
    aten.mish.default: 0.6,
    aten.erf.default: 2 / math.sqrt(math.pi),
    aten.celu.default: 1.0,
}


@register("ratio", *_THROUGH_ZERO)
def through_zero(call: Call) -> Frozen:
    """f(z) / z."""
    return _ratio(plain(call.args[0]), call.output, _THROUGH_ZERO[call.target], 0.0)


@register("ratio", aten.elu.default, aten.selu.default)
def elu(call: Call) -> Frozen:
    """f(z) / z; at 0 torch takes the derivative from the left."""
    alpha, scale, input_scale = (call.argument(i + 1, n, 1.0) for i, n in enumerate(("alpha", "scale", "input_scale")))
    if call.target is aten.selu.default:
        alpha, scale = 1.6732632423543772, 1.0507009873554805
    return _ratio(plain(call.args[0]), call.output, alpha * scale * input_scale, 0.0)


@register("ratio", aten.sigmoid.default)
def sigmoid(call: Call) -> Frozen:
    """1/2 + tanh(z / 2) / 2: the ratio without the cancellation of f(z) − f(0)."""
    z = plain(call.args[0])
    return _ratio(z, (z / 2).tanh() / 2, 0.25, 0.5)


@register("ratio", aten.hardsigmoid.default)
def hardsigmoid(call: Call) -> Frozen:
    """1/2 + z / 6 between −3 and 3."""
    z = plain(call.args[0])
    return _ratio(z, (z / 6).clamp(-0.5, 0.5), 1 / 6, 0.5)


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


@register("ratio", aten.log_sigmoid.default)
def log_sigmoid(call: Call) -> Frozen:
    """−log(1 + e^(−z))."""
    z = plain(call.args[0])
    return _ratio(z, -_softplus_rise(-z), 0.5, -math.log(2))
