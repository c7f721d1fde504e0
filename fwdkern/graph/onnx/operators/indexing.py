"""Picking values by index, and putting them there."""

from collections.abc import Sequence

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
    if "place" in node.attributes:
        return x.select(axis, node.get("place"))
    indices = _counted(indices.long(), x.shape[axis])
    picked = x.index_select(axis, indices.reshape(-1))
    return picked.reshape([*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]]) if indices.dim() != 1 else picked


@operator("GatherElements")
def gather_elements(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    """One index for each result."""
    axis = node.get("axis", 0)
    return torch.gather(x, axis, _counted(indices.long(), x.shape[axis]))


def _flat(indices: Tensor, sizes: Sequence[int]) -> Tensor:
    """Places [..., k] in the first k dimensions, of these sizes, as places in one dimension."""
    flat = torch.zeros_like(indices[..., 0])
    for part, size in zip(indices.unbind(-1), sizes, strict=True):
        flat = flat * size + _counted(part, size)
    return flat


@operator("GatherND")
def gather_nd(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    """The last dimension of the indices goes over dimensions of x."""
    if node.get("batch_dims", 0):
        node.refuse("batch_dims")
    indices, count = indices.long(), indices.shape[-1]
    if 1 not in node.constant:
        return x[tuple(indices.unbind(-1))]
    flat = _flat(indices, x.shape[:count])
    picked = x.reshape(-1, *x.shape[count:]).index_select(0, flat.reshape(-1))
    return picked.reshape(*flat.shape, *x.shape[count:])


@operator("ScatterND", plain=(1,))
def scatter_nd(node: Node, x: Tensor, places: np.ndarray, updates: Tensor) -> Tensor:
    """x with some places replaced, as exporters write assignments to slices; the last of several counts."""
    if node.get("reduction", "none") != "none":
        node.refuse(f"reduction={node.get('reduction')}")
    if places.dtype == object and any(isinstance(place, torch.SymInt) for place in places.reshape(-1)):
        node.refuse("places counted from an open batch size")
    indices, count = torch.from_numpy(places.astype(np.int64)).to(x.device), places.shape[-1]
    flat = _flat(indices, x.shape[:count]).reshape(-1)
    kept = x.reshape(-1, *x.shape[count:])
    source = torch.arange(kept.shape[0], device=x.device)
    source[flat] = torch.arange(flat.shape[0], device=x.device) + kept.shape[0]
    given = updates.reshape(-1, *x.shape[count:])
    return torch.cat([kept, given]).index_select(0, source).reshape(x.shape)


@operator("Trilu", plain=(1,))
def trilu(node: Node, x: Tensor, diagonal: np.ndarray | None = None) -> Tensor:
    """The upper or the lower triangle."""
    k = 0 if diagonal is None else int(diagonal)
    return torch.triu(x, k) if node.get("upper", 1) else torch.tril(x, k)


@operator("ArgMax", "ArgMin")
def extreme_place(node: Node, x: Tensor) -> Tensor:
    """Where the largest or smallest value is."""
    if node.get("select_last_index", 0):
        node.refuse("select_last_index=1")
    find = torch.argmax if node.kind == "ArgMax" else torch.argmin
    return find(x, node.get("axis", 0), bool(node.get("keepdims", 1)))


@operator("TopK", plain=(1,))
def top(node: Node, x: Tensor, count: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
    """The k largest or smallest values in their order, and where they are; before opset 10 k is an attribute."""
    k = node.get("k", 0) if count is None else int(count.reshape(-1)[0])
    values, places = torch.topk(x, k, node.get("axis", -1), bool(node.get("largest", 1)), True)
    return values, places
