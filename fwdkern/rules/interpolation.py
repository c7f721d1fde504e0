"""Resizing of feature maps in 1, 2 and 3 dimensions, and reading them at given places: linear."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fwdkern.rules.frozen import Constant, Frozen, fold
from fwdkern.rules.registry import Call, Live, plain, register

aten = torch.ops.aten


class Interpolation(Frozen):
    """Upsampling or downsampling of ``[B, C, *in]``.

    Args:
        resize: the operator; transpose: its ATen transpose over ``[S·B, C, *out]``.
    """

    def __init__(
        self,
        resize: Callable[[Tensor], Tensor],
        transpose: Callable[[Tensor], Tensor],
        x: Tensor,
    ) -> None:
        self.resize, self.transpose, self.in_size = resize, transpose, x.shape[2:]
        self.dtype, self.device = x.dtype, x.device

    def forward(self, *maps: Tensor) -> Tensor:
        return fold(maps[0], self.resize)

    def reverse(self, maps: Tensor) -> tuple[Tensor, ...]:
        return (fold(maps, self.transpose),)

    def reach(self, *boxes: Tensor) -> Tensor:
        box = boxes[0]
        for axis in range(len(self.in_size)):
            box = _masked_max(box.movedim(axis + 3, -1), self._taps(axis)).movedim(-1, axis + 3)
        return box

    def _taps(self, axis: int) -> Tensor:
        """Which inputs of one axis each output of it sees, bool ``[out, in]``."""
        size = self.in_size[axis]
        sides = [size if k == axis else 1 for k in range(len(self.in_size))]
        # One impulse a channel, alike along the other axes.
        impulses = torch.eye(size, dtype=self.dtype, device=self.device).view(1, size, *sides)
        seen = self.resize(impulses.expand(1, size, *self.in_size).contiguous())[0] != 0  # [in, *out]
        return seen.movedim(axis + 1, 1).unsqueeze(-1).flatten(2).any(2).T


def _masked_max(boxes: Tensor, taps: Tensor) -> Tensor:
    """Maximum over the last axis, ``[..., in]`` to ``[..., out]``, of the inputs that each output sees."""
    return torch.stack([boxes[..., row].amax(-1) if row.any() else boxes[..., 0] * 0 for row in taps], -1)


def _freeze(call: Call, operators: tuple[Any, Any], scales_at: int, *between: Any) -> Interpolation:
    """``operators``: the one that takes sizes and its transpose; ``between``: their arguments after the sizes."""
    x, size = plain(call.args[0]), list(call.output.shape[2:])
    given = call.argument(scales_at, "scale_factors")
    rest = (*between, *(given or [None] * len(size)))
    resize, transpose = operators
    return Interpolation(
        lambda m: resize(m, size, *rest),
        lambda m: transpose(m, size, [m.shape[0], *x.shape[1:]], *rest),
        x,
    )


_NEAREST = {
    aten.upsample_nearest1d.vec: (aten.upsample_nearest1d, aten.upsample_nearest1d_backward),
    aten.upsample_nearest2d.vec: (aten.upsample_nearest2d, aten.upsample_nearest2d_backward),
    aten.upsample_nearest3d.vec: (aten.upsample_nearest3d, aten.upsample_nearest3d_backward),
    aten._upsample_nearest_exact1d.vec: (aten._upsample_nearest_exact1d, aten._upsample_nearest_exact1d_backward),
    aten._upsample_nearest_exact2d.vec: (aten._upsample_nearest_exact2d, aten._upsample_nearest_exact2d_backward),
    aten._upsample_nearest_exact3d.vec: (aten._upsample_nearest_exact3d, aten._upsample_nearest_exact3d_backward),
}


@register("nearest interpolation", *_NEAREST)
def nearest(call: Call) -> Frozen:
    """upsample_nearest and nearest_exact(x, output_size, scale_factors)."""
    return _freeze(call, _NEAREST[call.target], 2)


_SMOOTH = {
    aten.upsample_linear1d.vec: (aten.upsample_linear1d, aten.upsample_linear1d_backward),
    aten.upsample_bilinear2d.vec: (aten.upsample_bilinear2d, aten.upsample_bilinear2d_backward),
    aten.upsample_bicubic2d.vec: (aten.upsample_bicubic2d, aten.upsample_bicubic2d_backward),
    aten.upsample_trilinear3d.vec: (aten.upsample_trilinear3d, aten.upsample_trilinear3d_backward),
    aten._upsample_bilinear2d_aa.vec: (aten._upsample_bilinear2d_aa, aten._upsample_bilinear2d_aa_backward),
    aten._upsample_bicubic2d_aa.vec: (aten._upsample_bicubic2d_aa, aten._upsample_bicubic2d_aa_backward),
}


@register("linear interpolation", *_SMOOTH)
def smooth(call: Call) -> Frozen:
    """Linear and cubic ones(x, output_size, align_corners, scale_factors), with anti-aliasing or without."""
    return _freeze(call, _SMOOTH[call.target], 3, call.argument(2, "align_corners"))


class Sampling(Frozen):
    """grid_sample of ``[B, C, *in]`` at frozen places: each value is a weighted sum of its neighbours.

    Args:
        grid: ``[B, *out, rank]``; shape: ``[B, C, *in]``; how: interpolation mode, padding mode and whether corners
            are aligned, as ATen takes them.
    """

    def __init__(self, grid: Tensor, shape: torch.Size, how: tuple[Any, ...]) -> None:
        self.grid, self.shape, self.how = grid, shape, how

    def forward(self, *maps: Tensor) -> Tensor:
        # Slices stand beside channels, so that one grid serves all.
        beside = maps[0].transpose(0, 1).flatten(1, 2)
        read = aten.grid_sampler.default(beside, self.grid, *self.how)
        return read.unflatten(1, (len(maps[0]), self.shape[1])).transpose(0, 1)

    def reverse(self, maps: Tensor) -> tuple[Tensor, ...]:
        transpose = aten.grid_sampler_2d_backward if len(self.shape) == 4 else aten.grid_sampler_3d_backward
        slices = len(maps)
        beside = maps.transpose(0, 1).flatten(1, 2)
        like = maps.new_empty(self.shape[0], slices * self.shape[1], *self.shape[2:])
        pulled, _ = transpose(beside, like, self.grid, *self.how, [True, False])
        return (pulled.unflatten(1, (slices, self.shape[1])).transpose(0, 1),)

    def reach(self, *boxes: Tensor) -> Tensor:
        # Other inputs may be read elsewhere, and no field needs to be smaller than all of the map.
        seen = boxes[0].flatten(3).amax(3)
        return seen.view(*seen.shape, *[1] * (len(self.shape) - 2)).expand(*seen.shape, *self.grid.shape[1:-1])


@register("sampling", aten.grid_sampler.default, aten.grid_sampler_2d.default, aten.grid_sampler_3d.default)
def sampling(call: Call) -> Frozen:
    """grid_sample(x, grid, mode, padding_mode, align_corners): where x is read is frozen, as an index is."""
    x, grid = call.args[:2]
    if not isinstance(x, Live):
        return Constant(plain(grid).shape, call.output)
    frozen = Sampling(plain(grid), x.value.shape, call.args[2:])
    frozen.operands = (0,)
    return frozen
