"""Which function runs which ONNX operator."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from fwdkern.errors import UnsupportedOperatorError


@dataclass(frozen=True)
class Node:
    """One node of a file.

    Attributes:
        name: as messages call it; kind: the operator; opset: the version of the operators that the file was written
        for; attributes: by name, tensors as arrays; outputs: how many of its results are read;
        constant: positions of the inputs that do not depend on the network's input.
    """

    name: str
    kind: str
    opset: int
    attributes: Mapping[str, Any] = field(default_factory=dict)
    outputs: int = 1
    constant: frozenset[int] = frozenset()

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, or `default` where the file does not give it."""
        return self.attributes.get(name, default)

    def refuse(self, what: str) -> NoReturn:
        """Raise UnsupportedOperatorError for a use of the operator that fwdkern does not read."""
        raise UnsupportedOperatorError(
            f"node {self.name} ({self.kind}) of the ONNX file uses {what}, which is not read"
        )


@dataclass(frozen=True)
class Operator:
    """How an operator runs.

    Attributes:
        run: ``run(node, *inputs)``; inputs are tensors, None where the file leaves one out, and at the positions in
        ``plain`` arrays of numbers, which must not depend on the values of the network's input.
        plain: those positions; typed: whether ``run`` also takes ``dtype``, the network's floating point type;
        costly: never run while a file is read, where it could take any time.
    """

    run: Callable[..., Any]
    plain: frozenset[int] = frozenset()
    typed: bool = False
    costly: bool = False


OPERATORS: dict[str, Operator] = {}
# The same operators over arrays of numbers, which is what becomes of shapes.
SHAPE_OPERATORS: dict[str, Callable[..., np.ndarray]] = {}


def operator(
    *kinds: str, plain: tuple[int, ...] = (), typed: bool = False, costly: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: the function runs these operators; the keywords are the attributes of ``Operator``."""

    def add(run: Callable[..., Any]) -> Callable[..., Any]:
        OPERATORS.update(dict.fromkeys(kinds, Operator(run, frozenset(plain), typed, costly)))
        return run

    return add


def shape_operator(*kinds: str) -> Callable[[Callable[..., np.ndarray]], Callable[..., np.ndarray]]:
    """Decorator: the function runs these operators where all inputs are arrays of numbers."""

    def add(run: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        SHAPE_OPERATORS.update(dict.fromkeys(kinds, run))
        return run

    return add
