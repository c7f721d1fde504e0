"""Drop-in batch norm, activations and pools: layers without a matrix."""

from typing import Self

import torch
from torch import Tensor, nn

from fwdkern.errors import InputError
from fwdkern.nn.layer import RelevanceLayer, Stage
from fwdkern.nn.operator import Operator, activation_operator
from fwdkern.rules.normalisation import batch_norm_affine, freeze_batch_norm

aten = torch.ops.aten


class RelevanceBatchNorm2d(RelevanceLayer):
    """Batch norm in evaluation mode that no convolution precedes: scale · x + offset, both ``[C]``."""

    scale: Tensor
    offset: Tensor

    def __init__(self, scale: Tensor, offset: Tensor, then: tuple[Operator, ...] = ()) -> None:
        super().__init__(then)
        self.register_buffer("scale", scale.detach())
        self.register_buffer("offset", offset.detach())

    @classmethod
    def from_torch(cls, bn: nn.BatchNorm1d | nn.BatchNorm2d, activation: nn.Module | None = None) -> Self:
        """The same layer as ``activation(bn(x))`` in evaluation mode."""
        if bn.running_mean is None or bn.running_var is None:
            raise InputError("a batch norm without running statistics mixes examples and has no relevance rule")
        affine = batch_norm_affine(bn.running_mean, bn.running_var, bn.weight, bn.bias, bn.eps)
        return cls(*affine, () if activation is None else (activation_operator(activation),))

    def first(self, x: Tensor) -> Tensor:
        sides = (1, -1, *[1] * (x.dim() - 2))
        return x * self.scale.view(sides) + self.offset.view(sides)

    def freeze_first(self, x: Tensor) -> Stage:
        return Stage(self.first(x), freeze_batch_norm(self.scale, self.offset, x.shape))


class RelevanceOperator(RelevanceLayer):
    """One operator without parameters."""

    def __init__(self, operator: Operator, then: tuple[Operator, ...] = ()) -> None:
        super().__init__(then)
        self.operator = operator

    def first(self, x: Tensor) -> Tensor:
        return self.operator(x)

    def freeze_first(self, x: Tensor) -> Stage:
        return Stage(*self.operator.freeze(x))

    def extra_repr(self) -> str:
        return f"{self.operator.target}{self.operator.args}"


class RelevanceReLU(RelevanceOperator):
    """ReLU and its piecewise linear relatives."""

    @classmethod
    def from_torch(cls, activation: nn.Module) -> Self:
        """The same activation."""
        return cls(activation_operator(activation))


class RelevanceMaxPool2d(RelevanceOperator):
    """Max pooling: the winner's map."""

    @classmethod
    def from_torch(cls, pool: nn.MaxPool2d) -> Self:
        """The same pool."""
        args = (pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode)
        pairs = [list(a) if isinstance(a, tuple) else [a, a] for a in args[:4]]
        return cls(Operator(aten.max_pool2d.default, (*pairs, args[4])))


class RelevanceAvgPool2d(RelevanceOperator):
    """Average pooling, also to a given output size."""

    @classmethod
    def from_torch(cls, pool: nn.AvgPool2d | nn.AdaptiveAvgPool2d) -> Self:
        """The same pool."""
        if isinstance(pool, nn.AdaptiveAvgPool2d):
            size = pool.output_size
            if size is None or (isinstance(size, tuple) and None in size):
                raise InputError("an adaptive pool with an open size (None) needs fwdkern.fuse, which knows the input")
            return cls(
                Operator(aten.adaptive_avg_pool2d.default, ([size, size] if isinstance(size, int) else list(size),))
            )
        pairs = [list(a) if isinstance(a, tuple) else [a, a] for a in (pool.kernel_size, pool.stride, pool.padding)]
        rest = (pool.ceil_mode, pool.count_include_pad, pool.divisor_override)
        return cls(Operator(aten.avg_pool2d.default, (*pairs, *rest)))
