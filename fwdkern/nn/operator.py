"""One ATen operator of one tensor as a value: what follows a layer inside a drop-in module."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fwdkern.errors import UnsupportedOperatorError
from fwdkern.rules import Call, Frozen, Live, find_rule

aten = torch.ops.aten

_IN_PLACE: dict[Any, Any] = {
    aten.relu.default: aten.relu_.default,
    aten.hardtanh.default: aten.hardtanh_.default,
    aten.leaky_relu.default: aten.leaky_relu_.default,
}


@dataclass(frozen=True)
class Operator:
    """``target(x, *args, **kwargs)`` with constant arguments."""

    target: Any
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)

    def __call__(self, x: Tensor, overwrite: bool = False) -> Tensor:
        """The output at ``x``; ``overwrite``: ``x`` is not read again."""
        target = _IN_PLACE.get(self.target, self.target) if overwrite else self.target
        return target(x, *self.args, **self.kwargs)

    def freeze(self, x: Tensor, overwrite: bool = False) -> tuple[Tensor, Frozen]:
        """The output at ``x`` ``[B, *shape]`` and the operator frozen there; ``overwrite``: ``x`` is not read again."""
        found = find_rule(self.target)
        if found is None:
            raise UnsupportedOperatorError(f"{self.target} has no relevance rule")
        call = Call(self.target, (Live(x, 0), *self.args), self.kwargs)
        if overwrite and self._keeps_its_gate:
            call.output = self(x, overwrite)
        frozen = found[1](call)
        return call.output, frozen

    @property
    def _keeps_its_gate(self) -> bool:
        """Whether the rule reads the gate off the output alone."""
        clamped = self.target is aten.hardtanh.default and self.args[:1] == (0,)
        return clamped or self.target is aten.relu.default


def activation_operator(module: nn.Module) -> Operator:
    """A torch activation module as an operator; its in-place flag is ignored."""
    match module:
        case nn.ReLU():
            return Operator(aten.relu.default)
        case nn.Hardtanh():  # ReLU6 is one
            return Operator(aten.hardtanh.default, (module.min_val, module.max_val))
        case nn.LeakyReLU():
            return Operator(aten.leaky_relu.default, (module.negative_slope,))
        case nn.PReLU():
            return Operator(aten.prelu.default, (module.weight.detach(),))
    raise UnsupportedOperatorError(
        f"{type(module).__name__} cannot stand in a drop-in module; use ReLU, ReLU6, Hardtanh, LeakyReLU or PReLU"
    )
