"""Batch, instance, group, layer and RMS norms."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from fwdkern.graph.onnx.registry import Node, operator


@operator("BatchNormalization", costly=True)
def batch_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """With the statistics of the file."""
    if node.get("training_mode", 0):
        node.refuse("training_mode=1 (export the model in evaluation mode)")
    if not node.get("spatial", 1):
        node.refuse("spatial=0, statistics for each position")
    return F.batch_norm(x, mean, variance, scale, bias, False, 0.0, node.get("epsilon", 1e-5))


@operator("InstanceNormalization", costly=True)
def instance_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Over the positions of each channel."""
    return F.instance_norm(x, weight=scale, bias=bias, eps=node.get("epsilon", 1e-5))


@operator("GroupNormalization", costly=True)
def group_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Scale and bias are given for each channel, before opset 21 for each group."""
    groups = node.get("num_groups")
    if not groups or x.shape[1] % groups:
        node.refuse(f"num_groups={groups} for {x.shape[1]} channels")
    if scale.shape[0] != x.shape[1]:
        repeats = x.shape[1] // groups
        scale, bias = scale.repeat_interleave(repeats), bias.repeat_interleave(repeats)
    return F.group_norm(x, groups, scale, bias, node.get("epsilon", 1e-5))


@operator("LayerNormalization", costly=True)
def layer_norm(node: Node, x: Tensor, scale: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """Over `axis` and all dimensions behind it; those that the reader found in pieces may have no scale."""
    if node.outputs > 1:
        node.refuse("the mean or deviation of a layer norm")
    if "count" in node.attributes:
        return _over_neighbours(node, x, lambda y, shape: F.layer_norm(y, shape, eps=node.get("epsilon", 1e-5)))
    shape = list(x.shape[node.get("axis", -1) :])
    if all(given is None or list(given.shape) == shape for given in (scale, bias)):
        return F.layer_norm(x, shape, scale, bias, node.get("epsilon", 1e-5))
    y = F.layer_norm(x, shape, eps=node.get("epsilon", 1e-5))
    y = y if scale is None else y * scale
    return y if bias is None else y + bias


@operator("RMSNormalization", costly=True)
def rms_norm(node: Node, x: Tensor, scale: Tensor | None = None) -> Tensor:
    """Over `axis` and all dimensions behind it."""
    if "count" in node.attributes:
        return _over_neighbours(node, x, lambda y, shape: F.rms_norm(y, shape, eps=node.get("epsilon", 1e-5)))
    shape = list(x.shape[node.get("axis", -1) :])
    if scale is None or list(scale.shape) == shape:
        return F.rms_norm(x, shape, scale, node.get("epsilon", 1e-5))
    return F.rms_norm(x, shape, eps=node.get("epsilon", 1e-5)) * scale


def _over_neighbours(node: Node, x: Tensor, norm: Callable[[Tensor, list[int]], Tensor]) -> Tensor:
    """A norm found in pieces, over `count` dimensions from `axis` on, which need not be the last."""
    axes = list(range(node.get("axis"), node.get("axis") + node.get("count")))
    if axes[-1] == x.dim() - 1:
        return norm(x, [x.shape[axis] for axis in axes])
    order = [axis for axis in range(x.dim()) if axis not in axes] + axes
    y = norm(x.permute(order), [x.shape[axis] for axis in axes])
    return y.permute([order.index(axis) for axis in range(x.dim())])


@operator("LpNormalization")
def lp_norm(node: Node, x: Tensor) -> Tensor:
    """Divided by its 1-norm or 2-norm."""
    axis, p = node.get("axis", -1), node.get("p", 2)
    norm = x.abs().sum(axis, keepdim=True) if p == 1 else x.norm(dim=axis, keepdim=True)
    return torch.where(norm == 0, 0.0, x / norm)


@operator("MeanVarianceNormalization")
def mean_variance(node: Node, x: Tensor) -> Tensor:
    """(x − mean) / deviation, with the epsilon of the specification."""
    axes = node.get("axes", [0, 2, 3])
    centred = x - x.mean(axes, keepdim=True)
    return centred / ((centred * centred).mean(axes, keepdim=True).sqrt() + math.ldexp(1e-9, 0))
