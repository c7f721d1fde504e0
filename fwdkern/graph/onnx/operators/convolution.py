"""Convolutions, plain and transposed, in 1 to 3 dimensions."""

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from fwdkern.graph.onnx.operators.padding import pad, sides
from fwdkern.graph.onnx.registry import Node, operator

_PLAIN: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED: dict[int, Any] = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def _geometry(node: Node, weight: Tensor) -> tuple[int, list[int], list[int], list[int]]:
    """Number of dimensions, kernel, strides and dilations."""
    rank = weight.dim() - 2
    if rank not in _PLAIN:
        node.refuse(f"a weight of {weight.dim()} dimensions")
    kernel = list(weight.shape[2:])
    if node.get("kernel_shape", kernel) != kernel:
        node.refuse(f"kernel_shape={node.get('kernel_shape')} with a weight of shape {list(weight.shape)}")
    return rank, kernel, node.get("strides", [1] * rank), node.get("dilations", [1] * rank)


@operator("Conv", costly=True)
def conv(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Padding that differs between two sides is a padding of its own."""
    rank, kernel, stride, dilation = _geometry(node, weight)
    before, after = sides(node, x.shape[2:], kernel, stride, dilation)
    if before != after or min(before) < 0:
        x, before = pad(x, before, after), [0] * rank
    return _PLAIN[rank](x, weight, bias, stride, before, dilation, node.get("group", 1))


@operator("ConvTranspose", costly=True)
def conv_transpose(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Padding cuts the result; where it differs between two sides a slice does."""
    rank, kernel, stride, dilation = _geometry(node, weight)
    extra, sizes = node.get("output_padding", [0] * rank), x.shape[2:]
    full = [
        s * (size - 1) + e + (k - 1) * d + 1
        for size, s, e, k, d in zip(sizes, stride, extra, kernel, dilation, strict=True)
    ]
    rule, wanted = node.get("auto_pad", "NOTSET"), node.get("output_shape")
    if wanted is None and rule in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [size * s for size, s in zip(sizes, stride, strict=True)]
    if wanted is None:
        before, after = sides(node, sizes, kernel, stride, dilation)
    else:
        total = [max(f - w, 0) for f, w in zip(full, wanted[-rank:], strict=True)]
        extra = [e + max(w - f, 0) for e, f, w in zip(extra, full, wanted[-rank:], strict=True)]
        less, more = [t // 2 for t in total], [t - t // 2 for t in total]
        before, after = (less, more) if rule == "SAME_UPPER" else (more, less)
    cut = [0] * rank
    if before != after or min(before) < 0:
        cut, before, after = before, [0] * rank, [a for a in after]
        y = _TRANSPOSED[rank](x, weight, bias, stride, before, extra, node.get("group", 1), dilation)
        return pad(y, [-c for c in cut], [-a for a in after])
    return _TRANSPOSED[rank](x, weight, bias, stride, before, extra, node.get("group", 1), dilation)
