"""Functions that files spell out, recognised so that they have the rule of the function.

Older opsets have no GELU, Mish or layer norm, and converters write these and others operator by operator. The last
node of such a group becomes the function; what nobody reads any more is left out when the network is built.
"""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from fwdkern.graph.onnx.constants import to_array

# What a group becomes: an operator, its inputs and its attributes.
_Found = tuple[str, list[str], dict[str, Any]] | None

# Factors of a product are looked for this far up.
_DEEPEST = 4
# Of an index, which is computed once to see what it is.
_MOST_PLACES = 2**16


def join_functions(graph: Any, constants: dict[str, np.ndarray]) -> None:
    """Rewrite groups of nodes into the function that they compute; `constants` are the file's tensors by name."""
    import onnx

    view = _View(graph, constants)
    constants.update(_restored(view, graph))
    for node in graph.node:
        for pattern in _PATTERNS.get(node.op_type, ()):
            found = pattern(view, node)
            if found is None:
                continue
            # Where the name was the operator's, it is so still.
            scope, slash, last = node.name.rpartition("/")
            if re.fullmatch(rf"{node.op_type}(_\d+)?", last):
                node.name = scope + slash + found[0]
            node.op_type = found[0]
            del node.input[:], node.attribute[:]
            node.input.extend(found[1])
            node.attribute.extend(onnx.helper.make_attribute(name, value) for name, value in found[2].items())
            break


class _View:
    """A graph by its names."""

    def __init__(self, graph: Any, constants: dict[str, np.ndarray]) -> None:
        self.makers = {name: node for node in graph.node for name in node.output if name}
        self.constants = dict(constants)
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute and node.output:
                given = node.attribute[0]
                if given.name == "value" and len(given.t.dims) <= 1:
                    self.constants[node.output[0]] = to_array(given.t, f"a tensor of node {node.name}")
                elif given.name in ("value_float", "value_int"):
                    self.constants[node.output[0]] = np.asarray(given.f if given.name == "value_float" else given.i)

    def number(self, name: str) -> float | None:
        """The value of a constant of one entry."""
        value = self.constants.get(name)
        scalar = value is not None and value.size == 1 and value.ndim <= 1
        return float(value.reshape(-1)[0]) if scalar and value is not None else None

    def vector(self, name: str) -> bool:
        """Whether this is a constant [n]."""
        return name in self.constants and self.constants[name].ndim == 1

    def made(self, name: str | None, *kinds: str) -> Any:
        """The node that makes a value, if it is of one of these kinds."""
        node = self.makers.get(name or "")
        return node if node is not None and node.op_type in kinds and node.input else None

    def plus(self, name: str | None, number: float) -> str | None:
        """x of x + number."""
        node = self.made(name, "Add")
        return None if node is None else next((x for x, c in _orders(node) if self._close(c, number)), None)

    def times(self, name: str | None, number: float) -> str | None:
        """x of x · number."""
        node = self.made(name, "Mul", "Div")
        if node is None:
            return None
        if node.op_type == "Div":
            return str(node.input[0]) if self._close(node.input[1], 1 / number) else None
        return next((x for x, c in _orders(node) if self._close(c, number)), None)

    def counted(self, name: str) -> tuple[int, ...] | None:
        """Sizes [n, ...] of an index that is, for each example b of a batch, b · n + 0 ... n − 1."""
        names, constant, count = [name], np.zeros((), np.int64), None
        for _ in range(2 * _DEEPEST):
            if not names:
                break
            last = names.pop()
            node = self.made(last, "Add", "Unsqueeze", "Mul")
            value = self.constants.get(last)
            if value is not None:
                if not _fits(constant, value):
                    return None
                constant = constant + value
            elif node is not None and node.op_type == "Add":
                names.extend(node.input)
            elif node is not None and node.op_type == "Unsqueeze" and count is None:
                node = self.made(node.input[0], "Mul")
                numbers = [] if node is None else [self.number(c) for x, c in _orders(node) if self._from_zero(x)]
                count = numbers[0] if numbers else None
                if count is None:
                    return None
            else:
                return None
        shape = constant.shape[1:] if constant.shape[:1] == (1,) else constant.shape
        whole = not names and count == constant.size and np.array_equal(constant.reshape(-1), np.arange(constant.size))
        return shape if whole else None

    def _from_zero(self, name: str) -> bool:
        """Whether a value is 0, 1, 2 and so on."""
        node = self.made(name, "Range")
        return node is not None and [self.number(node.input[i]) for i in (0, 2)] == [0, 1]

    def _close(self, name: str, number: float) -> bool:
        value = self.number(name)
        # Half precision has three digits.
        return value is not None and math.isclose(value, number, rel_tol=1e-3)

    def factors(self, name: str, stop: tuple[str, ...] = (), depth: int = _DEEPEST) -> tuple[float, list[str]]:
        """The constant and the other factors of a product, where those of `stop` are not taken apart."""
        value, node = self.number(name), self.makers.get(name)
        if value is not None:
            return value, []
        if node is None or name in stop or not depth or len(node.input) != 2:
            return 1.0, [name]
        if node.op_type == "Mul":
            (a, left), (b, right) = (self.factors(part, stop, depth - 1) for part in node.input)
            return a * b, left + right
        second = self.number(node.input[1])
        if node.op_type == "Div" and second:
            a, left = self.factors(node.input[0], stop, depth - 1)
            return a / second, left
        if node.op_type == "Pow" and second in (2.0, 3.0):
            a, left = self.factors(node.input[0], stop, depth - 1)
            return math.prod([a] * int(second)), left * int(second)
        return 1.0, [name]

    def is_product(self, name: str, number: float, *parts: str) -> bool:
        """Whether a value is the number times these parts."""
        value, found = self.factors(name, parts)
        return math.isclose(value, number, rel_tol=1e-3) and sorted(found) == sorted(parts)

    def clipped(self, name: str | None, low: float, high: float) -> str | None:
        """x of clip(x, low, high)."""
        node = self.made(name, "Clip")
        if node is None:
            return None
        # Before opset 11 the bounds are attributes.
        given = {a.name: a.f for a in node.attribute}
        bounds = [self.number(n) for n in node.input[1:]] or [given.get("min"), given.get("max")]
        return str(node.input[0]) if bounds == [low, high] else None


def _fits(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays can be added, to one that is not large."""
    try:
        return math.prod(np.broadcast_shapes(a.shape, b.shape)) <= _MOST_PLACES
    except ValueError:
        return False


def _orders(node: Any) -> list[tuple[str, str]]:
    """The two operands of a sum or product, in both orders."""
    return [(str(node.input[0]), str(node.input[1])), (str(node.input[1]), str(node.input[0]))]


def _restored(view: _View, graph: Any) -> dict[str, np.ndarray]:
    """Turn places computed as batch · n + 0 ... n − 1 in a flattened value, which torch's exporter makes of strides,
    into a reshape. Returns the shapes by name."""
    shapes = {}
    for node in graph.node:
        flat = view.made(node.input[0], "Reshape") if node.op_type == "Gather" else None
        if flat is None or any(a.name == "axis" and a.i for a in node.attribute):
            continue
        sizes = view.constants.get(flat.input[1])
        places = view.counted(node.input[1])
        if sizes is not None and sizes.reshape(-1).tolist() == [-1] and places is not None:
            name = f"{node.output[0]}/shape"
            shapes[name] = np.array([0, *places], np.int64)
            node.op_type = "Reshape"
            del node.input[:], node.attribute[:]
            node.input.extend([flat.input[0], name])
    return shapes


def _gelu(view: _View, node: Any) -> _Found:
    """x · (1 + erf(x / √2)) / 2, or x · (1 + tanh(√(2/π) · (x + 0.044715 x³))) / 2."""
    for part in view.factors(node.output[0])[1]:
        source = view.made(view.plus(part, 1.0), "Erf", "Tanh")
        if source is None:
            continue
        exact = source.op_type == "Erf"
        x = view.times(source.input[0], math.sqrt(0.5)) if exact else _cubic(view, source.input[0])
        if x is not None and view.is_product(node.output[0], 0.5, x, part):
            return "Gelu", [x], {"approximate": "none" if exact else "tanh"}
    return None


def _cubic(view: _View, name: str) -> str | None:
    """x of √(2/π) · (x + 0.044715 x³)."""
    total = view.made(view.times(name, math.sqrt(2 / math.pi)), "Add")
    if total is None:
        return None
    return next((x for x, cube in _orders(total) if view.is_product(cube, 0.044715, x, x, x)), None)


def _gated(view: _View, node: Any) -> _Found:
    """x · sigmoid(x), x · tanh(softplus(x)) and x · hardsigmoid(x)."""
    for x, gate in _orders(node):
        made = view.made(gate, "Sigmoid", "Tanh", "HardSigmoid")
        if made is None:
            continue
        if made.op_type == "Sigmoid" and made.input[0] == x:
            return "Swish", [x], {}
        softplus = view.made(made.input[0], "Softplus")
        if made.op_type == "Tanh" and softplus is not None and softplus.input[0] == x:
            return "Mish", [x], {}
        slope = next((a.f for a in made.attribute if a.name == "alpha"), 0.2)
        if made.op_type == "HardSigmoid" and made.input[0] == x and math.isclose(slope, 1 / 6, rel_tol=1e-3):
            return "HardSwish", [x], {}
    return None


def _hard(view: _View, node: Any) -> _Found:
    """clip(x + 3, 0, 6) / 6, also times x."""
    clipped = view.times(node.output[0], 1 / 6)
    x = view.plus(view.clipped(clipped, 0, 6), 3.0)
    if x is not None:
        return "HardSigmoid", [x], {"alpha": 1 / 6, "beta": 0.5}
    for part in view.factors(node.output[0])[1]:
        x = view.plus(view.clipped(part, 0, 6), 3.0)
        if x is not None and view.is_product(node.output[0], 1 / 6, x, part):
            return "HardSwish", [x], {}
    return None


def _hard_sigmoid(view: _View, node: Any) -> _Found:
    """clip(alpha · x + 1/2, 0, 1), with the slopes that go by this name."""
    line = view.plus(view.clipped(node.output[0], 0, 1), 0.5)
    for alpha in (0.2, 1 / 6):
        x = view.times(line, alpha)
        if x is not None:
            return "HardSigmoid", [x], {"alpha": alpha, "beta": 0.5}
    return None


def _softplus(view: _View, node: Any) -> _Found:
    """log(1 + exp x)."""
    exponential = view.made(view.plus(node.input[0], 1.0), "Exp")
    return None if exponential is None else ("Softplus", [exponential.input[0]], {})


def _norm(view: _View, node: Any) -> _Found:
    """(x − mean) / √(mean of (x − mean)² + eps), and the same without the mean, over the last dimensions."""
    pairs = [tuple(node.input)] if node.op_type == "Div" else _orders(node)
    for value, deviation in pairs:
        inverse = node.op_type == "Mul"
        variance = view.made(_under_root(view, deviation, inverse), "Add")
        if variance is None:
            continue
        eps = next((view.number(n) for n in variance.input if view.number(n) is not None), None)
        squares = next((n for n in variance.input if view.number(n) is None), None)
        axes = _mean_axes(view, squares)
        if eps is None or not axes:
            continue
        square = view.makers[squares or ""].input[0]
        attributes = {"epsilon": eps, "axis": axes[0], **({"count": len(axes)} if axes[0] > 0 else {})}
        centred = view.made(value, "Sub")
        if centred is not None and _centred(view, centred, axes):
            # Some exporters subtract the mean twice.
            power = view.made(square, "Pow", "Mul")
            twin = None if power is None else view.made(power.input[0], "Sub")
            if twin is not None and twin.input == centred.input:
                if view.is_product(square, 1.0, twin.output[0], twin.output[0]):
                    return "LayerNormalization", [centred.input[0]], attributes
        if view.is_product(square, 1.0, value, value):
            return "RMSNormalization", [value], attributes
    return None


def _under_root(view: _View, name: str, inverse: bool) -> str | None:
    """x of √x, or of 1 / √x."""
    if inverse:
        power = view.made(name, "Pow")
        if power is not None and view.number(power.input[1]) == -0.5:
            return str(power.input[0])
        divided = view.made(name, "Reciprocal", "Div")
        if divided is None or (divided.op_type == "Div" and view.number(divided.input[0]) != 1):
            return None
        name = divided.input[-1]
    root = view.made(name, "Sqrt", "Pow")
    if root is None or (root.op_type == "Pow" and view.number(root.input[1]) != 0.5):
        return None
    return str(root.input[0])


def _centred(view: _View, node: Any, axes: list[int]) -> bool:
    """Whether a difference is x less its mean."""
    mean = view.makers.get(node.input[1])
    return mean is not None and mean.input[:1] == node.input[:1] and _mean_axes(view, node.input[1]) == axes


def _mean_axes(view: _View, name: str | None) -> list[int]:
    """Over which neighbours, the last dimensions or some counted from the front, a value is the mean that keeps them;
    none where it is no such mean."""
    node = view.made(name, "ReduceMean")
    if node is None:
        return []
    attributes = {a.name: a for a in node.attribute}
    keeps = "keepdims" not in attributes or attributes["keepdims"].i
    axes = list(attributes["axes"].ints) if "axes" in attributes else []
    if len(node.input) > 1 and node.input[1] in view.constants:
        axes = [int(axis) for axis in view.constants[node.input[1]].reshape(-1)]
    axes = sorted(axes)
    neighbours = axes == list(range(axes[0], axes[0] + len(axes))) if axes else False
    return axes if keeps and neighbours and (axes[0] > 0 or axes[-1] == -1) else []


def _scaled_norm(view: _View, node: Any) -> _Found:
    """A norm that was found, times a vector."""
    for normed, scale in _orders(node):
        norm = view.made(normed, "LayerNormalization", "RMSNormalization")
        if norm is not None and len(norm.input) == 1 and view.vector(scale) and _over_last(norm):
            return norm.op_type, [norm.input[0], scale], _attributes(norm)
    return None


def _shifted_norm(view: _View, node: Any) -> _Found:
    """A layer norm that was found, plus a vector."""
    for normed, shift in _orders(node):
        norm = view.made(normed, "LayerNormalization")
        if norm is not None and len(norm.input) == 2 and view.vector(shift) and _over_last(norm):
            return norm.op_type, [*norm.input, shift], _attributes(norm)
    return None


def _linear(view: _View, node: Any) -> _Found:
    """x · matrix + vector."""
    for product, shift in _orders(node):
        made = view.made(product, "MatMul")
        weight = None if made is None else view.constants.get(made.input[1])
        bias = view.constants.get(shift)
        if weight is not None and weight.ndim == 2 and bias is not None and bias.shape == weight.shape[1:]:
            return "Gemm", [*made.input, shift], {}
    return None


def _attributes(norm: Any) -> dict[str, Any]:
    return {a.name: a.i if a.name == "axis" else a.f for a in norm.attribute if a.name in ("axis", "epsilon")}


def _over_last(norm: Any) -> bool:
    return _attributes(norm).get("axis", -1) == -1


_PRODUCTS = (_gelu, _hard, _norm)
_PATTERNS: dict[str, tuple[Callable[[_View, Any], _Found], ...]] = {
    "Mul": (_gated, *_PRODUCTS, _scaled_norm),
    "Div": _PRODUCTS,
    "Add": (_shifted_norm, _linear),
    "Clip": (_hard_sigmoid,),
    "Log": (_softplus,),
}
