"""Picking values by index."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fwdkern.graph.onnx.registry import Node, operator


def _counted(indices: Tensor, size: int) -> Tensor:
    """Indices from the end as indices from the front."""
    return torch.where(indices < 0, indices + size, indices)


@operator("Gather")
def gather(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    """Rows by index; those of a constant table are an embedding."""
    axis = node.get("axis", 0)
    axis += x.dim() if axis < 0 else 0
    if 1 not in node.constant and 0 in node.constant and x.dim() == 2 and axis == 0 and x.is_floating_point():
        return F.embedding(indices, x)
    indices = _counted(indices.long(), x.shape[axis])
    picked = x.index_select(axis, indices.reshape(-1))
    return picked.reshape([*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]]) if indices.dim() != 1 else picked


@operator("GatherElements")
def gather_elements(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    """One index for each result."""
    axis = node.get("axis", 0)
    return torch.gather(x, axis, _counted(indices.long(), x.shape[axis]))


@operator("GatherND")
def gather_nd(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    """The last dimension of the indices goes over dimensions of x."""
    if node.get("batch_dims", 0):
        node.refuse("batch_dims")
    return x[tuple(part.long() for part in indices.unbind(-1))]


@operator("Trilu", plain=(1,))
def trilu(node: Node, x: Tensor, diagonal: np.ndarray | None = None) -> Tensor:
    """The upper or the lower triangle."""
    k = 0 if diagonal is None else int(diagonal)
    return torch.triu(x, k) if node.get("upper", 1) else torch.tril(x, k)
