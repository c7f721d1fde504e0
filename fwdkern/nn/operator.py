"""One ATen operator of one tensor as a value: what follows a layer inside a drop-in module."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fwdkern.errors import UnsupportedOperatorError
from fwdkern.rules import Call, Frozen, Live, find_rule

aten = torch.ops.aten


@dataclass(frozen=True)
class Operator:
    """``target(x, *args, **kwargs)`` with constant arguments."""

    target: Any
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)

    def __call__(self, x: Tensor) -> Tensor:
        return self.target(x, *self.args, **self.kwargs)

    def freeze(self, x: Tensor, overwrite: bool = False) -> tuple[Tensor, Frozen]:
        """The output at ``x`` ``[B, *shape]`` and the operator frozen there; ``overwrite``: ``x`` is not read again."""
        found = find_rule(self.target)
        if found is None:
            raise UnsupportedOperatorError(f"{self.target} has no relevance rule")
        call = Call(self.target, (Live(x, 0), *self.args), self.kwargs)
        if overwrite and self.target is aten.relu.default:
            call.output = x.relu_()
        frozen = found[1](call)
        return call.output, frozen


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
