"""A network with its coefficients frozen, by torch alone: under this mode autograd's derivative is the frozen Jacobian.

Smooth functions become their detached ratio times their input, the gate of a product is detached, and of other products
each factor is detached in turn, with half of the result. Piecewise linear operators are their own frozen form. It
shares no code with fwdkern.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_SMOOTH = {"elu", "gelu", "hardswish", "mish", "silu", "sigmoid", "hardsigmoid", "softplus", "tanh"}
_GATES = {"sigmoid", "hardsigmoid"}


class FrozenCoefficients(TorchFunctionMode):
    """Within it the network's operators are called with frozen coefficients; values stay as they are."""

    def __init__(self) -> None:
        super().__init__()
        self._gates: list[Tensor] = []

    def __torch_function__(self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        name, kwargs = getattr(function, "__name__", "").rstrip("_"), kwargs or {}
        if name == "glu":
            x, dim = args[0], kwargs.get("dim", args[1] if len(args) > 1 else -1)
            first, second = x.chunk(2, dim)
            return first * second.sigmoid().detach()
        if name in _SMOOTH:
            z = args[0].clone()  # the function may act in place
            value = function(*args, **kwargs).detach()
            start = function(torch.zeros_like(z), *args[1:], **kwargs).detach()
            out = start + ((value - start) / z.detach()) * z
            if name in _GATES:
                self._gates.append(out)
            return out
        if name == "mul" and all(isinstance(a, Tensor) for a in args[:2]):
            a, b = args[:2]
            switches = [any(side is gate for gate in self._gates) for side in (a, b)]
            if switches[0] != switches[1]:
                a, b = (a.detach(), b) if switches[0] else (a, b.detach())
            elif a.requires_grad and b.requires_grad:
                return (a.detach() * b + a * b.detach()) / 2
            return function(a, b)
        return function(*args, **kwargs)
