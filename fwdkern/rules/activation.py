"""Piecewise linear activations: the slope at z, and an offset where the piece does not pass through the origin.
At a kink the slope is the one that torch's own derivative takes, so that maps agree with input × gradient.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

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
    if low == 0 and high in range(1, 257):
        # ReLU6 is in every layer of mobile networks, and threshold several times as fast as where. A small whole number
        # is the same in every type, so that this lies between it and the number before it.
        plateau = F.threshold(call.output, high * (1 - torch.finfo(z.dtype).eps / 2), 0)
        return Gate(call.output - plateau, plateau)
    return _clamped(z, (z > low) & (z < high), call.output)


@register("clamp", aten.clamp.default, aten.clip.default, aten.clamp_min.default, aten.clamp_max.default)
@register("clamp", aten.clamp.Tensor)
def clamp(call: Call) -> Frozen:
    """Slope 1 between constant bounds, bounds included; outside the bound is the offset."""
    z = plain(call.args[0])
    low, high = call.argument(1, "min"), call.argument(2, "max")
    if isinstance(low, Live) or isinstance(high, Live):
        raise NoRule("the bounds of a clamp must not depend on the input")
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


@register("nan to number", aten.nan_to_num.default)
def nan_to_num(call: Call) -> Frozen:
    """z where it is finite; what stands for the others is the offset."""
    z = plain(call.args[0])
    return _clamped(z, z.isfinite(), call.output)
