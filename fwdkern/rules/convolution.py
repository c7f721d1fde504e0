"""Convolutions of any dimension, grouped, dilated, strided and transposed: linear, the bias is bias mass."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fwdkern.ops.backend import choose
from fwdkern.ops.sparse_transpose import sparse_transpose
from fwdkern.rules.frozen import Frozen, Gate, fold
from fwdkern.rules.pooling import PlacedWinner
from fwdkern.rules.reach import window_max
from fwdkern.rules.registry import Call, Live, NoRule, plain, register

aten = torch.ops.aten

# Below these shares of open units multiplying single entries is faster than gating and a dense transposed convolution.
_SPARSE, _SPARSE_POINT = 0.5, 0.9


class Convolution(Frozen):
    """Algorithm 1's layer: the same convolution over every slice, without its bias.

    Args:
        weight: ``[C_out, C_in / groups, *kernel]``, or ``[C_in, C_out / groups, *kernel]`` if transposed.
        bias: ``[C_out]`` or None.
        in_size, out_size: spatial sizes before and after.
        output_padding: as in torch; zeros unless transposed.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        in_size: tuple[int, ...],
        out_size: tuple[int, ...],
        stride: tuple[int, ...],
        padding: tuple[int, ...],
        dilation: tuple[int, ...],
        groups: int,
        transposed: bool = False,
        output_padding: tuple[int, ...] = (),
    ) -> None:
        self.weight, self.in_size, self.out_size = weight, in_size, out_size
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        self.transposed = transposed
        self.output_padding = output_padding or (0,) * len(in_size)
        self.kernel = tuple(weight.shape[2:])
        if bias is not None:
            self.offset = bias.reshape(1, -1, *[1] * len(in_size))

    def _apply(self, x: Tensor, transposed: bool, output_padding: tuple[int, ...]) -> Tensor:
        return aten.convolution(
            x,
            self.weight,
            None,
            self.stride,
            self.padding,
            self.dilation,
            transposed,
            output_padding,
            self.groups,
        )

    def forward(self, *maps: Tensor) -> Tensor:
        return fold(maps[0], lambda x: self._apply(x, self.transposed, self.output_padding))

    def reverse(self, maps: Tensor) -> tuple[Tensor, ...]:
        if self.transposed:
            pulled = fold(maps, lambda x: self._apply(x, False, (0,) * len(self.in_size)))
            # Output padding beyond the stride holds positions that no input reaches.
            return (pulled[(slice(None),) * 3 + tuple(slice(size) for size in self.in_size)],)
        if self._is_pointwise:  # a matrix: torch's transposed convolutions copy what they read and write
            weight = self.weight.transpose(0, 1)
            return (fold(maps, lambda x: torch.conv2d(x, weight)),)
        # A strided convolution ignores its last inputs: the transpose has to give them back, as zeros.
        left_over = tuple(
            n - ((m - 1) * s - 2 * p + d * (k - 1) + 1)
            for n, m, s, p, d, k in zip(
                self.in_size,
                self.out_size,
                self.stride,
                self.padding,
                self.dilation,
                self.kernel,
                strict=True,
            )
        )
        return (fold(maps, lambda x: self._apply(x, True, left_over)),)

    @property
    def _is_pointwise(self) -> bool:
        one, zero = (1, 1), (0, 0)
        return (self.kernel, self.stride, self.padding, self.groups) == (one, one, zero, 1)

    def pull(self, maps: Tensor, behind: Sequence[Frozen] = ()) -> tuple[tuple[Tensor, ...], Tensor]:
        pool = behind[0] if behind and isinstance(behind[0], PlacedWinner) else None
        rest = behind[pool is not None :]
        gate = rest[0] if rest and isinstance(rest[0], Gate) else None
        if len(rest) > (gate is not None) or not self._is_sparse(maps, pool, gate):
            return super().pull(maps, behind)
        pulled, mass = sparse_transpose(
            maps.flatten(0, 1),
            self.weight,
            None if self.offset is None else self.offset.flatten(),
            self.stride,  # type: ignore[arg-type]
            self.padding,  # type: ignore[arg-type]
            self.in_size,  # type: ignore[arg-type]
            None if gate is None else gate.bits,
            None if pool is None else (pool.place, pool.window),
        )
        return (pulled.unflatten(0, maps.shape[:2]),), mass.view(maps.shape[:2])

    def _is_sparse(self, maps: Tensor, pool: PlacedWinner | None, gate: Gate | None) -> bool:
        """Whether multiplying only the entries that are not 0 pays."""
        plain = len(self.in_size) == 2 and self.groups == 1 and self.dilation == (1, 1) and not self.transposed
        if not plain or choose("sparse_transpose", maps.device, maps.dtype, tuple(maps.shape)).name == "torch":
            return False
        limit = _SPARSE_POINT if self.kernel == (1, 1) else _SPARSE
        # What a pool leaves is sparse whatever the gate: at most one entry a window.
        return pool is not None or (gate is not None and gate.density < limit)

    def mass(self, maps: Tensor) -> Tensor:
        if self.offset is None:
            return super().mass(maps)
        return maps.sum(tuple(range(3, maps.dim()))) @ self.offset.flatten()

    def reach(self, *boxes: Tensor) -> Tensor:
        channels = self.weight.shape[1] * self.groups if self.transposed else self.weight.shape[0]
        box = boxes[0].unflatten(2, (self.groups, -1)).amax(3)  # [4, B, groups, *in]
        if self.transposed:
            box = _insert_gaps(box, self.stride)
            pads = [
                (d * (k - 1) - p, d * (k - 1) - p + o)
                for d, k, p, o in zip(self.dilation, self.kernel, self.padding, self.output_padding, strict=True)
            ]
            stride: tuple[int, ...] = (1,) * len(self.in_size)
        else:
            pads, stride = [(p, p) for p in self.padding], self.stride
        box = window_max(box, self.kernel, stride, pads, self.dilation, self.out_size)
        return box.repeat_interleave(channels // self.groups, 2)


def _insert_gaps(maps: Tensor, stride: tuple[int, ...]) -> Tensor:
    sizes = [(n - 1) * s + 1 for n, s in zip(maps.shape[3:], stride, strict=True)]
    spread = maps.new_zeros(*maps.shape[:3], *sizes)
    spread[(slice(None),) * 3 + tuple(slice(None, None, s) for s in stride)] = maps
    return spread


def _tuple(value: Any, length: int) -> tuple[int, ...]:
    values = [value] if isinstance(value, int) else list(value)
    return tuple(values * length if len(values) == 1 else values)


def freeze_convolution(
    x: Tensor,
    output: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    transposed: bool = False,
    output_padding: Any = 0,
) -> Convolution:
    """Freeze ``output = conv(x, weight, bias, ...)``; ``x`` is ``[B, C, *in]``, ``output`` ``[B, C', *out]``."""
    rank = weight.dim() - 2
    return Convolution(
        weight,
        bias,
        tuple(x.shape[2:]),
        tuple(output.shape[2:]),
        _tuple(stride, rank),
        _tuple(padding, rank),
        _tuple(dilation, rank),
        groups,
        transposed,
        _tuple(output_padding, rank),
    )


def _frozen_operands(call: Call) -> tuple[Tensor, Tensor, Tensor | None]:
    x, weight, bias = call.args[0], call.argument(1, "weight"), call.argument(2, "bias")
    if not isinstance(x, Live) or isinstance(weight, Live) or isinstance(bias, Live):
        raise NoRule("the weights of a convolution must not depend on the input")
    if x.value.dim() != weight.dim():
        raise NoRule("a convolution needs a batch dimension")
    return plain(x), weight, bias


@register("convolution", aten.conv1d.default, aten.conv2d.default, aten.conv3d.default)
def convolution(call: Call) -> Frozen:
    """conv(x, weight, bias, stride, padding, dilation, groups) with numeric padding."""
    x, weight, bias = _frozen_operands(call)
    return freeze_convolution(
        x,
        call.output,
        weight,
        bias,
        call.argument(3, "stride", 1),
        call.argument(4, "padding", 0),
        call.argument(5, "dilation", 1),
        call.argument(6, "groups", 1),
    )


@register(
    "transposed convolution",
    aten.conv_transpose1d.default,
    aten.conv_transpose2d.input,
    aten.conv_transpose3d.input,
)
def transposed_convolution(call: Call) -> Frozen:
    """conv_transpose(x, weight, bias, stride, padding, output_padding, groups, dilation)."""
    x, weight, bias = _frozen_operands(call)
    return freeze_convolution(
        x,
        call.output,
        weight,
        bias,
        call.argument(3, "stride", 1),
        call.argument(4, "padding", 0),
        call.argument(7, "dilation", 1),
        call.argument(6, "groups", 1),
        transposed=True,
        output_padding=call.argument(5, "output_padding", 0),
    )


@register("convolution", aten.convolution.default)
def general_convolution(call: Call) -> Frozen:
    """convolution(x, weight, bias, stride, padding, dilation, transposed, output_padding, groups)."""
    x, weight, bias = _frozen_operands(call)
    _, _, _, stride, padding, dilation, transposed, output_padding, groups = call.args
    return freeze_convolution(
        x, call.output, weight, bias, stride, padding, dilation, groups, transposed, output_padding
    )
