"""Shapes: they are made from tensors, computed with as arrays of numbers, and turned back into tensors."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fwdkern.errors import InputError
from fwdkern.graph.onnx.registry import Node, operator, shape_operator

_LONGEST = 4096
_HIGHEST_POWER = 64


def array(values: Any) -> np.ndarray:
    """Numbers, of which some may stand for an open batch size."""
    result = np.empty(np.shape(values), dtype=object)
    result[...] = values
    return result


@operator("Shape")
def shape(node: Node, x: Tensor) -> np.ndarray:
    """The sizes of a tensor, or some of them."""
    return array(list(x.shape[node.get("start", 0) : node.get("end")]))


@operator("Size")
def size(node: Node, x: Tensor) -> np.ndarray:
    """The number of entries."""
    return array(x.numel())


@operator("ConstantOfShape", plain=(0,), typed=True)
def constant_of_shape(node: Node, sizes: np.ndarray, dtype: torch.dtype) -> Tensor:
    """A tensor of one value."""
    value = node.get("value", np.zeros(1, np.float32)).reshape(-1)[0]
    kind = dtype if isinstance(value, np.floating) else torch.from_numpy(np.array(value)).dtype
    return torch.full(sizes.reshape(-1).tolist(), value.item(), dtype=kind)


@operator("Range", plain=(0, 1, 2), typed=True)
def ranges(node: Node, start: np.ndarray, limit: np.ndarray, delta: np.ndarray, dtype: torch.dtype) -> Tensor:
    """Numbers from start to before limit."""
    numbers = [value.item() for value in (start, limit, delta)]
    if numbers[2] == 0:
        node.refuse("a step of 0")
    return torch.arange(*numbers, dtype=dtype if any(isinstance(n, float) for n in numbers) else torch.int64)


def _along(node: Node, axes: np.ndarray | None) -> list[int]:
    return [int(axis) for axis in (node.get("axes", []) if axes is None else axes.reshape(-1))]


shape_operator("Add")(lambda node, a, b: a + b)
shape_operator("Sub")(lambda node, a, b: a - b)
shape_operator("Mul")(lambda node, a, b: a * b)
shape_operator("Neg")(lambda node, x: -x)
shape_operator("Identity")(lambda node, x: x)


def result_size(node: Node, *parts: np.ndarray | None) -> int:
    """At least how many numbers the operator makes of these, where a small file may ask for very many."""
    given = [part for part in parts if part is not None]
    if node.kind in _ELEMENTWISE:
        return math.prod(np.broadcast_shapes(*(part.shape for part in given)))
    if node.kind == "Concat":
        return sum(part.size for part in given)
    if node.kind == "Gather" and given[0].ndim:
        return given[1].size * (given[0].size // max(given[0].shape[node.get("axis", 0)], 1))
    return 0


def _power(a: Any, b: Any) -> Any:
    if isinstance(b, int) and b > _HIGHEST_POWER:
        raise InputError(f"a size to the power of {b}")
    return a**b


def _each(function: Callable[..., Any], *parts: np.ndarray) -> np.ndarray:
    """A function of numbers, entry by entry."""
    # Python's numbers, as numpy's wrap around.
    whole = np.broadcast_arrays(*(part.astype(object) for part in parts))
    flat = zip(*(part.reshape(-1) for part in whole), strict=True)
    return array(np.array([function(*values) for values in flat], dtype=object).reshape(whole[0].shape))


def _register(kind: str, function: Callable[..., Any]) -> None:
    shape_operator(kind)(lambda node, *parts: _each(function, *parts))


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Sqrt": lambda a: math.sqrt(a),
    "Pow": _power,
    "Equal": lambda a, b: bool(a == b),
    "Less": lambda a, b: bool(a < b),
    "LessOrEqual": lambda a, b: bool(a <= b),
    "Greater": lambda a, b: bool(a > b),
    "GreaterOrEqual": lambda a, b: bool(a >= b),
    "Not": lambda a: not a,
}
for _kind, _function in _FUNCTIONS.items():
    _register(_kind, _function)
_ELEMENTWISE = {*_FUNCTIONS, "Add", "Sub", "Mul", "Div", "Mod", "Max", "Where"}


@shape_operator("Div")
def shape_div(node: Node, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Whole numbers stay whole."""
    whole = not any(isinstance(value, (float, torch.SymFloat)) for part in (a, b) for value in part.reshape(-1))
    if any(value == 0 for value in b.reshape(-1)):
        node.refuse("a division of a size by 0")
    return a // b if whole else a / b


@shape_operator("Gather")
def shape_gather(node: Node, x: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Some of the sizes."""
    return array(np.take(x, indices.astype(np.int64), axis=node.get("axis", 0)))


def window_of(
    node: Node, starts: np.ndarray | None, ends: np.ndarray | None, axes: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Starts, ends and axes of a slice, which before opset 10 are attributes."""
    if starts is None or ends is None:
        starts, ends = (np.array(node.get(name, []), np.int64) for name in ("starts", "ends"))
        axes = None if node.get("axes") is None else np.array(node.get("axes"), np.int64)
    return starts, ends, axes


@shape_operator("Slice")
def shape_slice(
    node: Node,
    x: np.ndarray,
    starts: np.ndarray | None = None,
    ends: np.ndarray | None = None,
    axes: np.ndarray | None = None,
    steps: np.ndarray | None = None,
) -> np.ndarray:
    """Some of the sizes."""
    starts, ends, axes = window_of(node, starts, ends, axes)
    along = range(starts.size) if axes is None else axes.reshape(-1)
    strides = [1] * starts.size if steps is None else steps.reshape(-1)
    window = [slice(None)] * x.ndim
    for axis, start, end, step in zip(along, starts.reshape(-1), ends.reshape(-1), strides, strict=True):
        if int(step) == 0:
            node.refuse("a step of 0")
        window[int(axis)] = slice(int(start), int(end), int(step))
    return x[tuple(window)]


@shape_operator("Shape")
def shape_of_shape(node: Node, x: np.ndarray) -> np.ndarray:
    """How many sizes there are."""
    return array(list(x.shape[node.get("start", 0) : node.get("end")]))


@shape_operator("Transpose")
def shape_transpose(node: Node, x: np.ndarray) -> np.ndarray:
    """Pairs of numbers in another order."""
    return x.transpose(node.get("perm"))


@shape_operator("Concat")
def shape_concat(node: Node, *parts: np.ndarray) -> np.ndarray:
    """A shape from parts."""
    return np.concatenate(parts, node.get("axis", 0))


@shape_operator("Unsqueeze")
def shape_unsqueeze(node: Node, x: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray:
    """A number as a shape of one."""
    return np.expand_dims(x, tuple(_along(node, axes)))


@shape_operator("Squeeze")
def shape_squeeze(node: Node, x: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray:
    """A shape of one as a number."""
    along = _along(node, axes)
    return np.squeeze(x, tuple(along) if along else None)


def _numbers(sizes: np.ndarray) -> list[int]:
    """Sizes of a shape that is computed with; an open one would be fixed by it."""
    if any(isinstance(size, torch.SymInt) for size in sizes.reshape(-1)):
        raise NotImplementedError
    return [int(size) for size in sizes.reshape(-1)]


@shape_operator("Reshape")
def shape_reshape(node: Node, x: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The same numbers under another shape."""
    return x.reshape(_numbers(sizes))


@shape_operator("Cast")
def shape_cast(node: Node, x: np.ndarray) -> np.ndarray:
    """Whole numbers or not."""
    floating = node.get("to") in (1, 10, 11, 16)
    convert = (lambda v: v * 1.0) if floating else (lambda v: v if isinstance(v, torch.SymInt) else int(v))
    return array(np.array([convert(v) for v in x.reshape(-1)], dtype=object).reshape(x.shape))


@shape_operator("ReduceProd")
def shape_product(node: Node, x: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray:
    """The product of all sizes."""
    product: Any = 1
    for value in x.reshape(-1):
        product = product * value
    return array([product] if node.get("keepdims", 1) else product)


@shape_operator("Where")
def shape_where(node: Node, chosen: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """One size or the other."""
    return array(np.where(chosen.astype(bool), a, b))


@shape_operator("ConstantOfShape")
def shape_constant(node: Node, sizes: np.ndarray) -> np.ndarray:
    """A shape of ones, say."""
    wanted = _numbers(sizes)
    if any(not 0 <= size <= _LONGEST for size in wanted) or math.prod(wanted) > _LONGEST:
        raise NotImplementedError
    return array(np.full(wanted, node.get("value", np.zeros(1, np.float32)).reshape(-1)[0].item(), dtype=object))


@shape_operator("Range")
def shape_range(node: Node, *numbers: np.ndarray) -> np.ndarray:
    """A short run of whole numbers; long ones are made as tensors."""
    start, limit, delta = (part.item() for part in numbers)
    if not all(isinstance(value, int) for value in (start, limit, delta)):
        raise NotImplementedError
    if delta == 0 or abs((limit - start) / delta) > _LONGEST:
        raise NotImplementedError
    return array(list(range(start, limit, delta)))


@shape_operator("Mod")
def shape_mod(node: Node, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """What is left of a division."""
    if any(value == 0 for value in b.reshape(-1)):
        node.refuse("a division of a size by 0")
    return a % b


@shape_operator("Expand")
def shape_expand(node: Node, x: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Copies of a number."""
    wanted = np.broadcast_shapes(x.shape, tuple(_numbers(sizes)))
    if math.prod(wanted) > _LONGEST:
        raise NotImplementedError
    return array(np.broadcast_to(x, wanted))


@shape_operator("Max")
def shape_max(node: Node, *parts: np.ndarray) -> np.ndarray:
    """Entry by entry."""
    result = parts[0]
    for part in parts[1:]:
        result = np.maximum(result, part)
    return array(result)
