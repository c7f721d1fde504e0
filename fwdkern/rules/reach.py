"""Receptive fields over sliding windows."""

import torch
import torch.nn.functional as F
from torch import Tensor


def window_max(
    maps: Tensor,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    pads: list[tuple[int, int]],
    dilation: tuple[int, ...],
    out_size: tuple[int, ...],
) -> Tensor:
    """Maximum over sliding windows of non-negative ``[S, B, C, *in]``; outside counts as 0; cut or filled."""
    for axis, (k, s, (before, after), d, n) in enumerate(
        zip(kernel, stride, pads, dilation, out_size, strict=True), start=3
    ):
        needed = (n - 1) * s + d * (k - 1) + 1 - maps.shape[axis] - before
        widths = [0, 0] * (maps.dim() - 1 - axis) + [before, max(after, needed)]
        padded = F.pad(maps, widths)
        taps = [padded.narrow(axis, t * d, (n - 1) * s + 1) for t in range(k)]
        maps = torch.stack(taps).amax(0).index_select(axis, torch.arange(0, (n - 1) * s + 1, s, device=maps.device))
    return maps
