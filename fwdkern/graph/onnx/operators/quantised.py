"""Weights that a file keeps as whole numbers."""

import torch
from torch import Tensor

from fwdkern.graph.onnx.registry import Node, operator


@operator("DequantizeLinear")
def dequantize(node: Node, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    """(x − zero) · scale of a constant x, with one scale for all, for each place along `axis`, or for each block of
    places there."""
    if not {0, 1} <= node.constant:
        node.refuse("values that are rounded while the network runs (save the model before it is quantised)")
    if scale.dim():
        axis = node.get("axis", 1) % x.dim()
        block = node.get("block_size", 0)
        scale = _along(scale, x, axis, block)
        zero = None if zero is None else _along(zero, x, axis, block)
    whole = x if zero is None else x.to(torch.int64) - zero.to(torch.int64)
    return whole.to(scale.dtype) * scale


def _along(part: Tensor, x: Tensor, axis: int, block: int) -> Tensor:
    if block:
        return part.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])
    return part.reshape([-1 if i == axis else 1 for i in range(x.dim())])
