"""Batch, instance, group, layer and RMS norms."""

import math

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
    shape = list(x.shape[node.get("axis", -1) :])
    if all(given is None or list(given.shape) == shape for given in (scale, bias)):
        return F.layer_norm(x, shape, scale, bias, node.get("epsilon", 1e-5))
    y = F.layer_norm(x, shape, eps=node.get("epsilon", 1e-5))
    y = y if scale is None else y * scale
    return y if bias is None else y + bias


@operator("RMSNormalization", costly=True)
def rms_norm(node: Node, x: Tensor, scale: Tensor | None = None) -> Tensor:
    """Over `axis` and all dimensions behind it."""
    shape = list(x.shape[node.get("axis", -1) :])
    if scale is None or list(scale.shape) == shape:
        return F.rms_norm(x, shape, scale, node.get("epsilon", 1e-5))
    return F.rms_norm(x, shape, eps=node.get("epsilon", 1e-5)) * scale


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
