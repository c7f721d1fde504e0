"""Pools, local and global, and the local response norm."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fwdkern.graph.onnx.operators.padding import pad, sides
from fwdkern.graph.onnx.registry import Node, operator

_MAX: dict[int, Any] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE: dict[int, Any] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_GLOBAL_MAX: dict[int, Any] = {1: F.adaptive_max_pool1d, 2: F.adaptive_max_pool2d, 3: F.adaptive_max_pool3d}
_GLOBAL_AVERAGE: dict[int, Any] = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}
_WIDEST_RESPONSE = 64


def _rank(node: Node, x: Tensor) -> int:
    if x.dim() - 2 not in _MAX:
        node.refuse(f"an input of {x.dim()} dimensions")
    return x.dim() - 2


class _Windows:
    """Where the windows of a pool lie."""

    def __init__(self, node: Node, x: Tensor) -> None:
        rank = _rank(node, x)
        self.kernel = node.get("kernel_shape")
        if self.kernel is None or len(self.kernel) != rank:
            node.refuse(f"kernel_shape={self.kernel} for an input of {x.dim()} dimensions")
        self.stride = node.get("strides", [1] * rank)
        self.dilation = node.get("dilations", [1] * rank)
        self.ceil = bool(node.get("ceil_mode", 0)) and node.get("auto_pad", "NOTSET") in ("NOTSET", "VALID")
        self.before, self.after = sides(node, x.shape[2:], self.kernel, self.stride, self.dilation)
        # What torch's own padding can do.
        self.simple = self.before == self.after and all(
            0 <= 2 * b <= k for b, k in zip(self.before, self.kernel, strict=True)
        )

    def filled(self, sizes: Any) -> list[int]:
        """Padding behind each dimension up to the end of the last window; a window must begin before the end."""
        widths = []
        for size, k, s, d, b, a in zip(
            sizes, self.kernel, self.stride, self.dilation, self.before, self.after, strict=True
        ):
            span = (k - 1) * d + 1
            free = size + b + a - span
            count = (-(-free // s) if self.ceil else free // s) + 1
            if self.ceil and (count - 1) * s >= size + b:
                count -= 1
            widths.append((count - 1) * s + span - size - b)
        return widths


@operator("MaxPool")
def max_pool(node: Node, x: Tensor) -> Tensor:
    """Padding never wins."""
    if node.outputs > 1:
        node.refuse("the indices of a max pool")
    windows = _Windows(node, x)
    pool = _MAX[_rank(node, x)]
    if windows.simple:
        return pool(x, windows.kernel, windows.stride, windows.before, windows.dilation, windows.ceil)
    x = pad(x, windows.before, windows.filled(x.shape[2:]), -torch.inf)
    return pool(x, windows.kernel, windows.stride, 0, windows.dilation)


@operator("AveragePool")
def average_pool(node: Node, x: Tensor) -> Tensor:
    """Padding counts or not, as the file says; what lies behind it never does."""
    rank, windows, counted = _rank(node, x), _Windows(node, x), bool(node.get("count_include_pad", 0))
    if any(d != 1 for d in windows.dilation):
        node.refuse(f"dilations={windows.dilation}")
    pool = _AVERAGE[rank]
    if windows.simple:
        return pool(x, windows.kernel, windows.stride, windows.before, windows.ceil, counted)
    end = windows.filled(x.shape[2:])
    ones = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype, device=x.device)
    if counted:
        inside = [min(a, e) for a, e in zip(windows.after, end, strict=True)]
        ones = pad(ones, windows.before, inside, 1.0)
        ones = pad(ones, [0] * rank, [e - i for e, i in zip(end, inside, strict=True)])
    else:
        ones = pad(ones, windows.before, end)
    share = pool(ones, windows.kernel, windows.stride)
    return pool(pad(x, windows.before, end), windows.kernel, windows.stride) / share


@operator("GlobalAveragePool")
def global_average_pool(node: Node, x: Tensor) -> Tensor:
    """One number a channel."""
    return _GLOBAL_AVERAGE[_rank(node, x)](x, 1)


@operator("GlobalMaxPool")
def global_max_pool(node: Node, x: Tensor) -> Tensor:
    """One number a channel."""
    return _GLOBAL_MAX[_rank(node, x)](x, 1)


@operator("LRN")
def lrn(node: Node, x: Tensor) -> Tensor:
    """x / (bias + alpha / size · Σ x²)^beta, the sum over `size` neighbouring channels."""
    size = node.get("size", 0)
    if not 1 <= size <= _WIDEST_RESPONSE:
        node.refuse(f"size={size}; from 1 to {_WIDEST_RESPONSE} are")
    widths = [0, 0] * (x.dim() - 2) + [(size - 1) // 2, size // 2]
    squares, channels = F.pad(x * x, widths), x.shape[1]
    total = squares[:, :channels]
    for shift in range(1, size):
        total = total + squares[:, shift : shift + channels]
    return x / (total * (node.get("alpha", 1e-4) / size) + node.get("bias", 1.0)) ** node.get("beta", 0.75)
