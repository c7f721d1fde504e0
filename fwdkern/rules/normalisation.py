"""Norms: the scale 1 / σ is frozen, the mean is linear; batch norm in evaluation mode is an affine map per channel.

Freezing the scale is the rule of Ali et al. 2022 (XAI for Transformers: Better Explanations through Conservative
Propagation, section 4).
"""

import torch
from torch import Tensor

from fwdkern.rules.frozen import Diagonal, Frozen
from fwdkern.rules.registry import Call, Live, NoRule, plain, register

aten = torch.ops.aten


def batch_norm_affine(
    mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor]:
    """Scale and offset ``[C]`` of y = weight · (x − mean) / √(variance + eps) + bias."""
    scale = (variance + eps).rsqrt()
    if weight is not None:
        scale = scale * weight
    offset = -mean * scale
    return scale, offset if bias is None else offset + bias


def freeze_batch_norm(scale: Tensor, offset: Tensor, shape: torch.Size) -> Diagonal:
    """Freeze y = scale · x + offset, both ``[C]``, for ``[B, C, ...]``."""
    return Diagonal(_per_channel(scale, shape), _per_channel(offset, shape), shape)


def _per_channel(values: Tensor, shape: torch.Size) -> Tensor:
    return values.view(1, -1, *[1] * (len(shape) - 2))


@register("batch norm", aten.batch_norm.default)
def batch_norm(call: Call) -> Frozen:
    """batch_norm(x, weight, bias, mean, variance, training, momentum, eps, cudnn), not training."""
    _, weight, bias, mean, variance, training, _, eps, _ = call.args
    if training or any(isinstance(value, Live) for value in (weight, bias, mean, variance)):
        raise NoRule("batch norm that uses the statistics of the batch mixes examples: call model.eval()")
    scale, offset = batch_norm_affine(mean, variance, weight, bias, eps)
    return freeze_batch_norm(scale, offset, plain(call.args[0]).shape)


class Normalised(Frozen):
    """(x − mean) · scale + offset, the mean over groups of neighbouring values.

    Args:
        scale, offset: broadcastable to ``shape`` ``[B, *shape]``; groups: how many an example has.
    """

    def __init__(self, scale: Tensor, offset: Tensor | None, shape: torch.Size, groups: int) -> None:
        self.scale, self.offset, self.shape, self.groups = scale, offset, shape, groups

    def _grouped(self, maps: Tensor) -> Tensor:
        return maps.reshape(*maps.shape[:2], self.groups, -1)

    def _centred(self, maps: Tensor) -> Tensor:
        rows = self._grouped(maps)
        return (rows - rows.mean(-1, keepdim=True)).view(maps.shape)

    def forward(self, *maps: Tensor) -> Tensor:
        return self._centred(maps[0]) * self.scale

    def reverse(self, maps: Tensor) -> tuple[Tensor, ...]:
        return (self._centred(maps * self.scale),)

    def reach(self, *boxes: Tensor) -> Tensor:
        rows = self._grouped(boxes[0])
        return rows.amax(-1, keepdim=True).expand_as(rows).reshape(4, *self.shape)


def _freeze(x: Tensor, groups: int, eps: float, weight: Tensor | None, bias: Tensor | None) -> Normalised:
    variance = x.reshape(len(x), groups, -1).var(-1, correction=0, keepdim=True)
    scale = (variance + eps).rsqrt().expand(-1, -1, x[0].numel() // groups).reshape(x.shape)
    return Normalised(scale if weight is None else scale * weight, bias, x.shape, groups)


def _parameters(call: Call, *places: tuple[int, str]) -> list[Tensor | None]:
    values = [call.argument(place, name) for place, name in places]
    if any(isinstance(value, Live) for value in values):
        raise NoRule("the weight and the bias of a norm must not depend on the input")
    return values


def _outer(x: Tensor, normalised: list[int]) -> int:
    """How many groups an example has whose values are those of the last dimensions."""
    if len(normalised) >= x.dim():
        raise NoRule("a norm over the batch dimension mixes examples")
    return int(x[0].numel() // torch.Size(normalised).numel())


@register("layer norm", aten.layer_norm.default)
def layer_norm(call: Call) -> Frozen:
    """layer_norm(x, shape, weight, bias, eps): 1 / √(var + eps) of the last dimensions is frozen."""
    x, eps = plain(call.args[0]), call.argument(4, "eps", 1e-5)
    return _freeze(x, _outer(x, call.args[1]), eps, *_parameters(call, (2, "weight"), (3, "bias")))


@register("group norm", aten.group_norm.default)
def group_norm(call: Call) -> Frozen:
    """group_norm(x, groups, weight, bias, eps): 1 / √(var + eps) of each group of channels is frozen."""
    x, eps = plain(call.args[0]), call.argument(4, "eps", 1e-5)
    weight, bias = (
        None if values is None else _per_channel(values, x.shape)
        for values in _parameters(call, (2, "weight"), (3, "bias"))
    )
    return _freeze(x, call.args[1], eps, weight, bias)


@register("instance norm", aten.instance_norm.default)
def instance_norm(call: Call) -> Frozen:
    """instance_norm(x, weight, bias, mean, variance, use_input_stats, momentum, eps, cudnn): 1 / √(var + eps) of each
    channel is frozen; with running statistics it is a batch norm."""
    x, eps = plain(call.args[0]), call.args[7]
    weight, bias, mean, variance = _parameters(
        call, (1, "weight"), (2, "bias"), (3, "running_mean"), (4, "running_var")
    )
    if not call.args[5]:
        assert mean is not None and variance is not None
        return freeze_batch_norm(*batch_norm_affine(mean, variance, weight, bias, eps), x.shape)
    sides = (None if values is None else _per_channel(values, x.shape) for values in (weight, bias))
    return _freeze(x, x.shape[1], eps, *sides)


@register("rms norm", aten.rms_norm.default)
def rms_norm(call: Call) -> Frozen:
    """rms_norm(x, shape, weight, eps): 1 / √(mean of x² + eps) of the last dimensions is frozen."""
    x, eps = plain(call.args[0]), call.argument(3, "eps")
    (weight,) = _parameters(call, (2, "weight"))
    _outer(x, call.args[1])
    dims = list(range(-len(call.args[1]), 0))
    scale = (x.pow(2).mean(dims, keepdim=True) + (torch.finfo(x.dtype).eps if eps is None else eps)).rsqrt()
    return Diagonal(scale if weight is None else scale * weight, None, x.shape)
