"""Functions that files of older opsets spell out, recognised so that they have the rule of the function."""

import math
from typing import Any

import numpy as np

from fwdkern.graph.onnx.constants import to_array


def join_gelu(graph: Any, constants: dict[str, np.ndarray]) -> None:
    """Rewrite x · (1 + erf(x / √2)) / 2, in the orders that exporters write, into Gelu, which opset 20 has."""
    makers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def number(name: str) -> float | None:
        node = makers.get(name)
        value = constants.get(name)
        if node is not None and node.op_type == "Constant" and node.attribute[0].name == "value":
            value = to_array(node.attribute[0].t, f"a tensor of node {node.name}")
        return float(value.reshape(-1)[0]) if value is not None and value.size == 1 else None

    def split(node: Any, kind: str, factor: float) -> str | None:
        """The operand beside a constant."""
        if node is None or node.op_type != kind or len(node.input) != 2:
            return None
        pairs = [node.input[::-1]] if kind == "Div" else [node.input[::-1], node.input]
        for constant, other in pairs:
            value = number(constant)
            if value is not None and math.isclose(value, factor, rel_tol=1e-3):
                return str(other)
        return None

    def reader(node: Any) -> Any:
        found = readers.get(node.output[0], [])
        return found[0] if len(found) == 1 else None

    for erf in [node for node in graph.node if node.op_type == "Erf"]:
        inner = makers.get(erf.input[0])
        x = split(inner, "Div", math.sqrt(2)) or split(inner, "Mul", math.sqrt(0.5))
        shifted = reader(erf)
        if x is None or split(shifted, "Add", 1.0) is None:
            continue
        product = reader(shifted)
        if product is None or product.op_type != "Mul":
            continue
        other = next((name for name in product.input if name != shifted.output[0]), "")
        last = product if split(makers.get(other), "Mul", 0.5) == x else reader(product)
        whole = last is product or (
            last is not None
            and last.op_type == "Mul"
            and ((other == x and split(last, "Mul", 0.5)) or (number(other) == 0.5 and x in last.input))
        )
        if whole:
            last.op_type = "Gelu"
            del last.input[:]
            last.input.append(x)
