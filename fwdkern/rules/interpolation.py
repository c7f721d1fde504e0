"""Resizing of feature maps: linear."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fwdkern.rules.frozen import Frozen, fold
from fwdkern.rules.registry import Call, plain, register

aten = torch.ops.aten


class Interpolation(Frozen):
    """Upsampling or downsampling of ``[B, C, H, W]``.

    Args:
        resize: the operator; transpose: its ATen transpose over ``[S·B, C, *out]``.
    """

    def __init__(
        self,
        resize: Callable[[Tensor], Tensor],
        transpose: Callable[[Tensor], Tensor],
        x: Tensor,
        out: torch.Size,
    ) -> None:
        self.resize, self.transpose, self.in_size, self.out = resize, transpose, x.shape[2:], out
        self.dtype, self.device = x.dtype, x.device

    def forward(self, *maps: Tensor) -> Tensor:
        return fold(maps[0], self.resize)

    def reverse(self, maps: Tensor) -> tuple[Tensor, ...]:
        return (fold(maps, self.transpose),)

    def reach(self, *boxes: Tensor) -> Tensor:
        height, width = self.in_size
        rows = self._taps(torch.eye(height, dtype=self.dtype, device=self.device).view(1, height, height, 1), 2)
        columns = self._taps(torch.eye(width, dtype=self.dtype, device=self.device).view(1, width, 1, width), 3)
        box = _masked_max(boxes[0].transpose(-1, -2), rows).transpose(-1, -2)
        return _masked_max(box, columns)

    def _taps(self, impulses: Tensor, axis: int) -> Tensor:
        """Which inputs of one axis each output of it sees, bool ``[out, in]``; one impulse a channel."""
        other = 5 - axis
        wide = impulses.expand(*[self.in_size[other - 2] if d == other else -1 for d in range(4)])
        return (self.resize(wide.contiguous()).abs().amax(other) != 0)[0].transpose(0, 1)


def _masked_max(boxes: Tensor, taps: Tensor) -> Tensor:
    """Maximum over the last axis, ``[..., in]`` to ``[..., out]``, of the inputs that each output sees."""
    return torch.stack([boxes[..., row].amax(-1) if row.any() else boxes[..., 0] * 0 for row in taps], -1)


def _spatial_scales(call: Call, position: int) -> tuple[Any, ...]:
    scales = call.argument(position, "scale_factors")
    return tuple(scales) if scales else (None, None)


@register("nearest interpolation", aten.upsample_nearest2d.vec)
def nearest(call: Call) -> Frozen:
    """upsample_nearest2d(x, output_size, scale_factors)."""
    x, size, scales = plain(call.args[0]), list(call.output.shape[2:]), _spatial_scales(call, 2)
    shape = x.shape
    return Interpolation(
        lambda m: aten.upsample_nearest2d(m, size, *scales),
        lambda m: aten.upsample_nearest2d_backward(m, size, [m.shape[0], *shape[1:]], *scales),
        x,
        call.output.shape,
    )


@register("linear interpolation", aten.upsample_bilinear2d.vec, aten.upsample_bicubic2d.vec)
def smooth(call: Call) -> Frozen:
    """upsample_bilinear2d and upsample_bicubic2d(x, output_size, align_corners, scale_factors)."""
    x, size, scales = plain(call.args[0]), list(call.output.shape[2:]), _spatial_scales(call, 3)
    shape = x.shape
    align = call.argument(2, "align_corners")
    if call.target is aten.upsample_bilinear2d.vec:
        resize, transpose = aten.upsample_bilinear2d, aten.upsample_bilinear2d_backward
    else:
        resize, transpose = aten.upsample_bicubic2d, aten.upsample_bicubic2d_backward
    return Interpolation(
        lambda m: resize(m, size, align, *scales),
        lambda m: transpose(m, size, [m.shape[0], *shape[1:]], align, *scales),
        x,
        call.output.shape,
    )
