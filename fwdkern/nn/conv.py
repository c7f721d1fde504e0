"""Drop-in convolutions."""

from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fwdkern.errors import InputError
from fwdkern.nn.layer import RelevanceLayer, Stage
from fwdkern.nn.operator import Operator, activation_operator
from fwdkern.rules.convolution import freeze_convolution
from fwdkern.rules.normalisation import batch_norm_affine

aten = torch.ops.aten


def frozen_parameter(value: Tensor) -> nn.Parameter:
    """The same memory as a parameter that asks for no gradient."""
    return nn.Parameter(value.detach(), requires_grad=False)


class RelevanceConv2d(RelevanceLayer):
    """A 2-d convolution, then an activation and a pool where given.

    Args:
        weight: ``[C_out, C_in / groups, kh, kw]``; bias: ``[C_out]`` or None. Both share memory with the argument.
        then: operators applied to the output in turn.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = (1, 1),
        padding: Any = (0, 0),
        dilation: Any = (1, 1),
        groups: int = 1,
        then: tuple[Operator, ...] = (),
    ) -> None:
        super().__init__(then)
        self.weight = frozen_parameter(weight)
        self.bias = None if bias is None else frozen_parameter(bias)
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups

    @classmethod
    def from_torch(cls, conv: nn.Conv2d, bn: nn.BatchNorm2d | None = None, activation: nn.Module | None = None) -> Self:
        """The same layer as ``activation(bn(conv(x)))`` with ``bn`` in evaluation mode folded into new weights."""
        if isinstance(conv.padding, str) or conv.padding_mode != "zeros":
            raise InputError(
                f"a convolution with padding={conv.padding!r}, padding_mode={conv.padding_mode!r} is two "
                "operators: pad with F.pad first and pass one with numeric zero padding, or use fwdkern.fuse"
            )
        weight, bias = conv.weight, conv.bias
        if bn is not None:
            weight, bias = _folded(weight, bias, bn)
        then = () if activation is None else (activation_operator(activation),)
        return cls(weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups, then)

    def first(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def freeze_first(self, x: Tensor) -> Stage:
        output = self.first(x)
        geometry = (self.stride, self.padding, self.dilation, self.groups)
        return Stage(output, freeze_convolution(x, output, self.weight, self.bias, *geometry))

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, stride={self.stride}, padding={self.padding}, groups={self.groups}"


class RelevanceConvTranspose2d(RelevanceLayer):
    """A transposed 2-d convolution; ``weight`` is ``[C_in, C_out / groups, kh, kw]``."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = (1, 1),
        padding: Any = (0, 0),
        output_padding: Any = (0, 0),
        groups: int = 1,
        dilation: Any = (1, 1),
        then: tuple[Operator, ...] = (),
    ) -> None:
        super().__init__(then)
        self.weight = frozen_parameter(weight)
        self.bias = None if bias is None else frozen_parameter(bias)
        self.stride, self.padding, self.output_padding = stride, padding, output_padding
        self.groups, self.dilation = groups, dilation

    @classmethod
    def from_torch(cls, conv: nn.ConvTranspose2d, activation: nn.Module | None = None) -> Self:
        """The same layer as ``activation(conv(x))``."""
        then = () if activation is None else (activation_operator(activation),)
        geometry = (conv.stride, conv.padding, conv.output_padding, conv.groups, conv.dilation)
        return cls(conv.weight, conv.bias, *geometry, then)

    def first(self, x: Tensor) -> Tensor:
        geometry = (self.stride, self.padding, self.output_padding, self.groups, self.dilation)
        return F.conv_transpose2d(x, self.weight, self.bias, *geometry)

    def freeze_first(self, x: Tensor) -> Stage:
        output = self.first(x)
        geometry = (self.stride, self.padding, self.dilation, self.groups, True, self.output_padding)
        return Stage(output, freeze_convolution(x, output, self.weight, self.bias, *geometry))


def _folded(weight: Tensor, bias: Tensor | None, bn: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    if bn.running_mean is None or bn.running_var is None:
        raise InputError("a batch norm without running statistics mixes examples and has no relevance rule")
    with torch.no_grad():
        scale, offset = batch_norm_affine(bn.running_mean, bn.running_var, bn.weight, bn.bias, bn.eps)
        return weight * scale.view(-1, 1, 1, 1), offset if bias is None else offset + bias * scale
