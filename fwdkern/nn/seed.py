"""Where maps begin."""

import torch
from torch import Tensor


def seed(x: Tensor) -> Tensor:
    """The maps of the input's own units, pixel by pixel, and no bias mass.

    Args:
        x: images ``[B, C, H, W]`` or vectors ``[B, F]``.

    Returns:
        Rows ``[N + 1, B, *x.shape[1:]]``: slice p holds x at pixel p and zero elsewhere, the last slice is zero.
    """
    positions = x.shape[2:] if x.dim() > 2 else x.shape[1:]
    count = positions.numel()
    lone = torch.eye(count, dtype=x.dtype, device=x.device).view(count, 1, *[1] * (x.dim() > 2), *positions)
    return torch.cat([lone * x, torch.zeros_like(x).unsqueeze(0)])
