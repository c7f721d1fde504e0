"""Operators that move values: reshapes, permutations, slices, padding, copies."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fwdkern.graph.onnx.operators.shapes import window_of
from fwdkern.graph.onnx.registry import Node, operator

# Of a padding that is laid out by index.
_WIDEST = 2**16


def _axes(node: Node, axes: np.ndarray | None) -> list[int] | None:
    return node.get("axes") if axes is None else axes.reshape(-1).tolist()


@operator("Reshape", plain=(1,))
def reshape(node: Node, x: Tensor, shape: np.ndarray) -> Tensor:
    """A 0 keeps the input's size unless allowzero is set; one -1 is what is left."""
    sizes: list[Any] = shape.reshape(-1).tolist()
    if not node.get("allowzero", 0):
        sizes = [x.shape[i] if isinstance(size, int) and size == 0 else size for i, size in enumerate(sizes)]
    return x.reshape(sizes)


@operator("Flatten")
def flatten(node: Node, x: Tensor) -> Tensor:
    """To a matrix: dimensions before `axis`, and the others."""
    axis = node.get("axis", 1)
    if axis == 1 and x.dim() > 1:
        return x.flatten(1)
    axis += x.dim() if axis < 0 else 0
    rows = 1
    for size in x.shape[:axis]:
        rows = rows * size
    return x.reshape(rows, -1)


@operator("Transpose")
def transpose(node: Node, x: Tensor) -> Tensor:
    """Dimensions in the order `perm`, by default reversed."""
    return x.permute(node.get("perm", list(reversed(range(x.dim())))))


@operator("Squeeze", plain=(1,))
def squeeze(node: Node, x: Tensor, axes: np.ndarray | None = None) -> Tensor:
    """Without dimensions of size 1."""
    given = _axes(node, axes)
    if given is None:
        return x.squeeze()
    if any(x.shape[axis] != 1 for axis in given):
        node.refuse(f"axes={given} on a tensor of shape {list(x.shape)}")
    return x.squeeze(tuple(given))


@operator("Unsqueeze", plain=(1,))
def unsqueeze(node: Node, x: Tensor, axes: np.ndarray | None = None) -> Tensor:
    """New dimensions of size 1; axes count in the result."""
    given = _axes(node, axes) or []
    rank = x.dim() + len(given)
    for axis in sorted(axis % rank for axis in given):
        x = x.unsqueeze(axis)
    return x


@operator("Concat")
def concat(node: Node, *parts: Tensor) -> Tensor:
    """Along one dimension; a constant part made for a batch of 1 is part of every example."""
    axis = node.get("axis")
    batch = next((part.shape[0] for i, part in enumerate(parts) if i not in node.constant), 1)
    if node.constant and axis % parts[0].dim():
        parts = tuple(
            part.expand(batch, *part.shape[1:]) if i in node.constant and part.shape[0] == 1 else part
            for i, part in enumerate(parts)
        )
    return torch.cat(parts, axis)


@operator("Split", plain=(1,))
def split(node: Node, x: Tensor, sizes: np.ndarray | None = None) -> tuple[Tensor, ...]:
    """By sizes, or into equal parts of which the last may be smaller."""
    axis = node.get("axis", 0)
    given = node.get("split") if sizes is None else sizes.reshape(-1).tolist()
    if given is None:
        count = node.get("num_outputs")
        each = -(-x.shape[axis] // count)
        given = [each] * (count - 1)
        given.append(x.shape[axis] - each * (count - 1))
    return tuple(torch.split(x, given, axis))


@operator("Slice", plain=(1, 2, 3, 4))
def slices(
    node: Node,
    x: Tensor,
    starts: np.ndarray | None = None,
    ends: np.ndarray | None = None,
    axes: np.ndarray | None = None,
    steps: np.ndarray | None = None,
) -> Tensor:
    """Along each axis from start to end; a negative step goes backwards."""
    starts, ends, axes = window_of(node, starts, ends, axes)
    count = starts.size
    along = list(range(count)) if axes is None else axes.reshape(-1).tolist()
    stride = [1] * count if steps is None else steps.reshape(-1).tolist()
    for start, end, axis, step in zip(
        starts.reshape(-1).tolist(), ends.reshape(-1).tolist(), along, stride, strict=True
    ):
        if step == 0:
            node.refuse("a step of 0")
        if step < 0:
            # Position p from the front is n - 1 - p from the back.
            size = x.shape[axis]
            start = min(start + size if start < 0 else start, size - 1)
            end = max(end + size if end < 0 else end, -1)
            x, start, end, step = x.flip(axis), size - 1 - start, size - 1 - end, -step
        x = torch.ops.aten.slice.Tensor(x, axis, start, end, step)
    return x


@operator("Expand", plain=(1,))
def expand(node: Node, x: Tensor, shape: np.ndarray) -> Tensor:
    """Broadcast with a shape, both ways."""
    sizes = shape.reshape(-1).tolist()
    sizes = [1] * (x.dim() - len(sizes)) + sizes
    lead = len(sizes) - x.dim()
    return x.expand(
        [*sizes[:lead], *(have if size == 1 else size for size, have in zip(sizes[lead:], x.shape, strict=True))]
    )


@operator("Tile", plain=(1,))
def tile(node: Node, x: Tensor, repeats: np.ndarray) -> Tensor:
    """Repeat along every dimension."""
    return x.repeat(repeats.reshape(-1).tolist())


@operator("Pad", plain=(1, 2, 3))
def pad(
    node: Node,
    x: Tensor,
    pads: np.ndarray | None = None,
    value: np.ndarray | None = None,
    axes: np.ndarray | None = None,
) -> Tensor:
    """By a constant, reflection, border values or wrapping around; a negative width cuts. Before opset 11 the widths
    and the constant are attributes."""
    given = node.get("pads", []) if pads is None else pads.reshape(-1).tolist()
    along = list(range(x.dim())) if axes is None else [int(axis) % x.dim() for axis in axes.reshape(-1)]
    if len(given) != 2 * len(along):
        node.refuse(f"{len(given)} pads for {len(along)} axes")
    widths = [0] * (2 * x.dim())
    for i, axis in enumerate(along):
        place = 2 * (x.dim() - 1 - axis)
        widths[place], widths[place + 1] = given[i], given[i + len(along)]
    while len(widths) > 2 and not any(widths[-2:]):
        widths = widths[:-2]
    mode = node.get("mode", "constant")
    if mode == "constant":
        fill = node.get("value", 0.0) if value is None else value.item()
        return F.pad(x, widths, value=fill) if any(widths) else x
    modes = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    spatial = x.dim() - 2
    if mode not in modes:
        node.refuse(f"mode={mode}")
    if not 1 <= spatial <= 3 or len(widths) > 2 * spatial:
        return _copied(node, x, widths, mode)
    widths += [0] * (2 * spatial - len(widths))
    return F.pad(x, widths, mode=modes[mode])


def _copied(node: Node, x: Tensor, widths: list[int], mode: str) -> Tensor:
    """Padding of dimensions that torch does not pad so, by index; widths from the last dimension to the front."""
    for i in range(0, len(widths), 2):
        axis, (before, after) = x.dim() - 1 - i // 2, widths[i : i + 2]
        if (mode == "reflect" and max(before, after) >= x.shape[axis]) or max(before, after) > _WIDEST:
            node.refuse(f"pads of {before} and {after} for a dimension of {x.shape[axis]}")
        kept = np.arange(x.shape[axis])[max(-before, 0) : x.shape[axis] - max(-after, 0)]
        # The name's own type is a literal for mypy.
        places: Any = np.pad(kept, (max(before, 0), max(after, 0)), mode=mode)  # type: ignore[call-overload]
        x = x.index_select(axis, torch.from_numpy(places).to(x.device))
    return x


@operator("DepthToSpace")
def depth_to_space(node: Node, x: Tensor) -> Tensor:
    """Channels to positions, in one of two orders."""
    block = node.get("blocksize")
    if node.get("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, block)
    batch, channels, height, width = x.shape
    y = x.reshape(batch, block, block, channels // block**2, height, width)
    return y.permute(0, 3, 4, 1, 5, 2).reshape(batch, channels // block**2, height * block, width * block)


@operator("SpaceToDepth")
def space_to_depth(node: Node, x: Tensor) -> Tensor:
    """Positions to channels."""
    block = node.get("blocksize")
    batch, channels, height, width = x.shape
    y = x.reshape(batch, channels, height // block, block, width // block, block)
    return y.permute(0, 3, 5, 1, 2, 4).reshape(batch, channels * block**2, height // block, width // block)
