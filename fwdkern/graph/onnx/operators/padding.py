"""Padding as ONNX gives it to convolutions and pools: per side, or by a rule."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from fwdkern.graph.onnx.registry import Node


def sides(
    node: Node, sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Padding before and after each spatial dimension of these sizes."""
    rank, rule = len(kernel), node.get("auto_pad", "NOTSET")
    if rule == "NOTSET":
        pads = node.get("pads", [0] * (2 * rank))
        if len(pads) != 2 * rank:
            node.refuse(f"{len(pads)} pads for {rank} dimensions")
        return list(pads[:rank]), list(pads[rank:])
    if rule == "VALID":
        return [0] * rank, [0] * rank
    if rule not in ("SAME_UPPER", "SAME_LOWER"):
        node.refuse(f"auto_pad={rule}")
    total = [
        max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        for size, k, s, d in zip(sizes, kernel, stride, dilation, strict=True)
    ]
    less, more = [t // 2 for t in total], [t - t // 2 for t in total]
    return (less, more) if rule == "SAME_UPPER" else (more, less)


def pad(x: Tensor, before: Sequence[int], after: Sequence[int], value: float = 0.0) -> Tensor:
    """Pad the last dimensions with a constant."""
    widths = [width for pair in zip(reversed(before), reversed(after), strict=True) for width in pair]
    return F.pad(x, widths, value=value) if any(widths) else x
