"""Batch norm in evaluation mode: an affine map per channel."""

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
    sides = (1, -1, *[1] * (len(shape) - 2))
    return Diagonal(scale.view(sides), offset.view(sides), shape)


@register("batch norm", aten.batch_norm.default)
def batch_norm(call: Call) -> Frozen:
    """batch_norm(x, weight, bias, mean, variance, training, momentum, eps, cudnn), not training."""
    _, weight, bias, mean, variance, training, _, eps, _ = call.args
    if training or any(isinstance(value, Live) for value in (weight, bias, mean, variance)):
        raise NoRule("batch norm that uses the statistics of the batch mixes examples: call model.eval()")
    scale, offset = batch_norm_affine(mean, variance, weight, bias, eps)
    return freeze_batch_norm(scale, offset, plain(call.args[0]).shape)
