"""Maps and images as the measures take them."""

import torch
from torch import Tensor

from fwdkern.errors import InputError
from fwdkern.metrics.metric import first_reason, reasons_where

NOT_FINITE = "map is not finite"
NOT_POSITIVE = "map has no positive part"


def check_maps(maps: object) -> tuple[Tensor, list[str]]:
    """Maps ``[B, H, W]`` in float32 or float64 with zeros for those that cannot be used, and why they cannot.

    Raises:
        InputError: they are not maps at all.
    """
    if not isinstance(maps, Tensor):
        raise InputError(f"maps must be a tensor [B, H, W], got {type(maps).__name__}")
    if maps.dim() != 3:
        hint = "; take the map of one unit, for example scores[:, 0]" if maps.dim() == 4 else ""
        raise InputError(f"maps must be [B, H, W], got {list(maps.shape)}{hint}")
    if 0 in maps.shape:
        raise InputError(f"maps are empty: shape {list(maps.shape)}")
    if not maps.is_floating_point():
        raise InputError(f"maps must be of a floating dtype, got {maps.dtype}: use maps.float()")
    maps = maps.detach()
    maps = maps if maps.dtype == torch.float64 else maps.float()
    finite = maps.isfinite().flatten(1).all(1)
    positive = (maps > 0).flatten(1).any(1)
    reasons = first_reason(reasons_where(~finite, NOT_FINITE), reasons_where(~positive, NOT_POSITIVE))
    return torch.where((finite & positive)[:, None, None], maps, 0), reasons


def check_images(images: object, maps: Tensor) -> Tensor:
    """Raw images ``[B, C, H, W]`` that go with maps ``[B, H, W]``, without their history."""
    if not isinstance(images, Tensor):
        raise InputError(f"images must be a tensor [B, C, H, W], got {type(images).__name__}")
    if images.dim() != 4 or not images.shape[1] or images[:, 0].shape != maps.shape:
        batch, height, width = maps.shape
        raise InputError(
            f"images must be [{batch}, C, {height}, {width}] to go with maps {list(maps.shape)}, "
            f"got {list(images.shape)}"
        )
    if not images.is_floating_point():
        raise InputError(f"images must be of a floating dtype in [0, 1], got {images.dtype}: use images.float() / 255")
    low, high = images.aminmax()
    if low.isnan():
        raise InputError("images hold NaN")
    if low < 0 or high > 1:
        raise InputError(
            f"images hold values from {float(low):g} to {float(high):g}; they are masked before they are normalised, "
            "so give them in [0, 1] and the normalisation as normalise"
        )
    return images.detach()
