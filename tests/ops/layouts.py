"""Memory layouts that ops over [B, C, *positions] are tested in."""

import torch
from torch import Tensor

LAYOUTS = ["contiguous", "channels last", "sliced channels", "sliced positions", "expanded"]


def draw(layout: str, seed: int, *shape: int) -> Tensor:
    """Normal numbers, a quarter of them 0, in a layout of four dimensions; "contiguous" in any number."""
    generator = torch.Generator().manual_seed(seed)

    def numbers(*sizes: int) -> Tensor:
        return torch.randn(sizes, generator=generator) * (torch.rand(sizes, generator=generator) < 0.75)

    if layout == "contiguous":
        return numbers(*shape)
    b, c, h, w = shape
    match layout:
        case "channels last":
            return numbers(b, h, w, c).permute(0, 3, 1, 2)
        case "sliced channels":
            return numbers(b, h, w, c + 3).permute(0, 3, 1, 2)[:, 2 : c + 2]
        case "sliced positions":
            return numbers(b, c, h + 2, 2 * w)[:, :, 1 : h + 1, ::2]
        case "expanded":
            return numbers(b, c, 1, 1).expand(shape)
    raise AssertionError(layout)
