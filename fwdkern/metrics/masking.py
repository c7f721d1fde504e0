"""What an image looks like when only a part of it may be seen."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from fwdkern.errors import InputError

Keep = float | Literal["whole"]
Fill = Literal["black", "mean", "blur"] | Sequence[float]


def mask(maps: Tensor, keep: Keep) -> Tensor:
    """Factors in [0, 1] for the pixels of maps ``[B, H, W]``.

    Args:
        keep: a share of the pixels, 1 for the largest of them and 0 for the others (``top``); or ``"whole"``, the
            positive part of each map divided by its maximum.
    """
    if keep == "whole":
        positive = maps.clamp_min(0)
        largest = positive.flatten(1).amax(1)[:, None, None]
        return torch.where(largest > 0, positive / largest, 0)
    if isinstance(keep, bool) or not isinstance(keep, (int, float)) or not 0 < keep <= 1:
        raise InputError(f'keep={keep!r} is neither a share of the pixels in (0, 1] nor "whole"')
    return top(maps, keep)


def top(maps: Tensor, share: float) -> Tensor:
    """1 for exactly ⌈share · H · W⌉ pixels of each map ``[B, H, W]``, 0 for the others.

    The largest values are taken; among equal ones those that come first, row by row from the top left. So a constant
    map keeps the upper rows of its image.
    """
    pixels = maps[0].numel()
    count = math.ceil(share * pixels - 1e-9)  # 0.07 · 100 is 7.000000000000001 in floats
    flat = maps.flatten(1)
    # The last of the values taken; of those that equal it, the first are taken. This is twice as fast as `rank`.
    last = flat.kthvalue(pixels - count + 1, dim=1, keepdim=True).values
    above, equal = flat > last, flat == last
    taken = above | (equal & (equal.cumsum(1) <= count - above.sum(1, keepdim=True)))
    return taken.to(maps.dtype).view_as(maps)


def rank(maps: Tensor) -> Tensor:
    """The pixels of each map ``[B, H, W]`` by falling value, int64 ``[B, H · W]``; the first of equals comes first."""
    return torch.sort(maps.flatten(1), dim=1, descending=True, stable=True).indices


def canvas(images: Tensor, fill: Fill) -> Tensor:
    """What images ``[B, C, H, W]`` look like where they are hidden, ``[B, C, H, W]``.

    Args:
        fill: ``"black"``; ``"mean"``, each image's mean colour; ``"blur"``, the image under a Gaussian of 5 pixels cut
            off at 5 pixels, as in RISE; or one number in [0, 1] for each channel.
    """
    if isinstance(fill, str):
        if fill == "black":
            return torch.zeros_like(images)
        if fill == "mean":
            return images.mean((2, 3), keepdim=True).expand_as(images)
        if fill == "blur":
            return _blur(images, sigma=5.0, reach=5)
        raise InputError(f'fill={fill!r} is not "black", "mean", "blur" or a colour')
    colour = torch.as_tensor(fill, dtype=images.dtype, device=images.device)
    if colour.shape != images.shape[1:2] or not ((colour >= 0) & (colour <= 1)).all():
        raise InputError(f"fill={fill!r} is not a colour of {images.shape[1]} numbers in [0, 1]")
    return colour[:, None, None].expand_as(images)


def _blur(images: Tensor, sigma: float, reach: int) -> Tensor:
    """A Gaussian over 2 · reach + 1 pixels; beyond the border the nearest pixel is repeated."""
    steps = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-0.5 * (steps / sigma) ** 2)
    kernel = kernel / kernel.sum()
    single = images.flatten(0, 1)[:, None]  # [B C, 1, H, W]
    padded = F.pad(single, [reach] * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel[None, None, :, None]), kernel[None, None, None]).view_as(images)
