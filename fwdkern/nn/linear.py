"""Drop-in fully connected layer."""

from typing import Self

import torch.nn.functional as F
from torch import Tensor, nn

from fwdkern.nn.conv import frozen_parameter
from fwdkern.nn.layer import RelevanceLayer, Stage
from fwdkern.nn.operator import Operator, activation_operator
from fwdkern.rules.linear import Linear


class RelevanceLinear(RelevanceLayer):
    """x Wᵀ + b over the last dimension; ``weight`` is ``[out, in]``."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None, then: tuple[Operator, ...] = ()) -> None:
        super().__init__(then)
        self.weight = frozen_parameter(weight)
        self.bias = None if bias is None else frozen_parameter(bias)

    @classmethod
    def from_torch(cls, linear: nn.Linear, activation: nn.Module | None = None) -> Self:
        """The same layer as ``activation(linear(x))``."""
        then = () if activation is None else (activation_operator(activation),)
        return cls(linear.weight, linear.bias, then)

    def first(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def freeze_first(self, x: Tensor) -> Stage:
        return Stage(self.first(x), Linear(self.weight, self.bias))

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}"
