"""Interpolation: torch's own where it has the mode, else copies by index and products with a matrix of weights."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fwdkern.graph.onnx.registry import Node, operator

# Of places, and of weights for one dimension.
_LARGEST = 2**24
_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


@operator("Resize", plain=(1, 2, 3))
def resize(
    node: Node,
    x: Tensor,
    roi: np.ndarray | None = None,
    scales: np.ndarray | None = None,
    sizes: np.ndarray | None = None,
) -> Tensor:
    """Nearest and linear in nearly all coordinate modes, cubic in those that torch has: half pixels
    and aligned corners."""
    if node.opset < 11:
        return _asymmetric(node, x, roi if roi is not None else np.zeros(0))
    spatial, mode = x.dim() - 2, node.get("mode", "nearest")
    by, length = _wanted(node, x, scales, sizes)
    where = node.get("coordinate_transformation_mode", "half_pixel")
    if node.get("antialias", 0):
        node.refuse("antialias")
    if not 1 <= spatial <= 3 or length[1] != x.shape[1] or by[0] != 1:
        node.refuse("a change of the batch or of the channels")
    given, target = by[2:], length[2:]
    exact = (sizes is not None and bool(sizes.size)) or all(
        t == have * scale for t, have, scale in zip(target, x.shape[2:], given, strict=True)
    )
    if where == "align_corners" and not exact:
        node.refuse(f"coordinate_transformation_mode={where} with a scale that gives no whole size")
    if mode == "nearest":
        return _nearest(node, x, where, given, target)
    if where == "pytorch_half_pixel" and 1 not in target:
        where = "half_pixel"
    if mode == "linear" and where not in ("half_pixel", "align_corners"):
        return _linear(node, x, where, given, target)
    if mode == "linear":
        kind = _LINEAR[spatial]
    elif mode == "cubic" and spatial == 2 and node.get("cubic_coeff_a", -0.75) == -0.75:
        kind = "bicubic"
    else:
        node.refuse(f"mode={mode} on {spatial} dimensions")
    if where not in ("half_pixel", "align_corners") or node.get("exclude_outside", 0):
        node.refuse(f"mode={mode} with coordinate_transformation_mode={where}")
    if where == "align_corners":
        return F.interpolate(x, target, mode=kind, align_corners=True)
    if exact:
        return F.interpolate(x, target, mode=kind, align_corners=False)
    return F.interpolate(x, scale_factor=given, mode=kind, align_corners=False, recompute_scale_factor=False)


@operator("Upsample", plain=(1,))
def upsample(node: Node, x: Tensor, scales: np.ndarray | None = None) -> Tensor:
    """What Resize was before opset 10; the scales are an attribute before opset 9."""
    return _asymmetric(node, x, np.array(node.get("scales", []), np.float32) if scales is None else scales)


def _asymmetric(node: Node, x: Tensor, scales: np.ndarray) -> Tensor:
    if node.get("mode", "nearest") == "nearest" and (scales < 1).any():
        node.refuse("a nearest entry for a smaller size, whose place this opset leaves open")
    rule = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    current = Node(node.name, node.kind, 11, {**node.attributes, **rule}, node.outputs, node.constant)
    return resize(current, x, None, scales)


def _wanted(
    node: Node, x: Tensor, scales: np.ndarray | None, sizes: np.ndarray | None
) -> tuple[list[float], list[Any]]:
    """The scale and the new size of every dimension; 1 and the old size of those that are not resized."""
    axes = [axis % x.dim() for axis in node.get("axes", range(x.dim()))]
    by, length = [1.0] * x.dim(), list(x.shape)
    if node.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        node.refuse(f"keep_aspect_ratio_policy={node.get('keep_aspect_ratio_policy')}")
    if sizes is not None and sizes.size:
        for axis, size in zip(axes, sizes.reshape(-1).tolist(), strict=True):
            if axis > 0:
                by[axis], length[axis] = size / x.shape[axis], size
        return by, length
    if scales is None or not scales.size:
        node.refuse("neither scales nor sizes")
    for axis, scale in zip(axes, scales.reshape(-1).tolist(), strict=True):
        if not 0 < scale < math.inf:
            node.refuse(f"a scale of {scale}")
        if scale != 1:
            by[axis], length[axis] = scale, math.floor(x.shape[axis] * scale)
    return by, length


def _nearest(node: Node, x: Tensor, where: str, scales: list[float], target: list[int]) -> Tensor:
    rounding = node.get("nearest_mode", "round_prefer_floor")
    if where == "half_pixel_symmetric":
        # Its places lie half between two entries often, and the specification does not say how they are rounded.
        node.refuse(f"mode=nearest with coordinate_transformation_mode={where}")
    whole = all(scale == int(scale) for scale in scales)
    # Copies of whole pixels are the same by every rule that is symmetric about a pixel.
    symmetric = where in ("half_pixel", "pytorch_half_pixel") and rounding in (
        "round_prefer_floor",
        "round_prefer_ceil",
    )
    if whole and (symmetric or (where == "asymmetric" and rounding == "floor")):
        return F.interpolate(x, target, mode="nearest")
    for axis, (scale, size) in enumerate(zip(scales, target, strict=True), 2):
        if size != x.shape[axis]:
            index = _copied(node, rounding, _positions(node, where, scale, size, x.shape[axis]), x.shape[axis])
            x = x.index_select(axis, torch.tensor(index, device=x.device))
    return x


def _linear(node: Node, x: Tensor, where: str, scales: list[float], target: list[int]) -> Tensor:
    for axis, (scale, size) in enumerate(zip(scales, target, strict=True), 2):
        have = x.shape[axis]
        if scale != 1:
            _refuse_long(node, size * have)
            at = _positions(node, where, scale, size, have).clip(0, have - 1)
            low = np.floor(at).astype(int)
            weight = np.zeros((size, have))
            rows = np.arange(size)
            weight[rows, low] = 1 - (at - low)
            weight[rows, np.minimum(low + 1, have - 1)] += at - low
            matrix = torch.tensor(weight, dtype=x.dtype, device=x.device)
            x = F.linear(x.transpose(axis, -1), matrix).transpose(axis, -1)
    return x


def _refuse_long(node: Node, size: int) -> None:
    if size > _LARGEST:
        node.refuse(f"a resize by {size} weights; at most {_LARGEST} are")


def _positions(node: Node, where: str, scale: float, size: int, have: int) -> np.ndarray:
    """Where each of the `size` new entries lies among the old ones, in float32 as onnxruntime computes it: a place
    half between two entries is rounded by that."""
    _refuse_long(node, size)
    at, by, half = np.arange(size, dtype=np.float32), np.float32(scale), np.float32(0.5)
    if where == "half_pixel" or (where == "pytorch_half_pixel" and size > 1):
        return (at + half) / by - half
    if where == "half_pixel_symmetric":
        centre = np.float32(have) / 2
        return centre * (1 - np.float32(size) / (by * np.float32(have))) + (at + half) / by - half
    if where == "tf_half_pixel_for_nn":
        return (at + half) / by
    if where == "pytorch_half_pixel" or (where == "align_corners" and size == 1):
        return at * 0
    if where == "asymmetric":
        return at / by
    if where == "align_corners":
        return at * np.float32(have - 1) / np.float32(size - 1)
    node.refuse(f"coordinate_transformation_mode={where}")


def _copied(node: Node, rounding: str, at: np.ndarray, have: int) -> list[int]:
    """Which entry each new one is a copy of."""
    rules: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "floor": np.floor,
        "ceil": np.ceil,
        "round_prefer_floor": lambda p: np.ceil(p - np.float32(0.5)),
        "round_prefer_ceil": lambda p: np.floor(p + np.float32(0.5)),
    }
    if rounding not in rules:
        node.refuse(f"nearest_mode={rounding}")
    found: list[int] = rules[rounding](at).clip(0, have - 1).astype(int).tolist()
    return found
