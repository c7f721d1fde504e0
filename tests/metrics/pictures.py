"""A picture of four pixels, its map and a model, small enough to be calculated by hand."""

import torch
from torch import Tensor, nn

PICTURE = torch.tensor([[[[0.8, 0.4], [0.2, 0.6]]]])  # [1, 1, 2, 2], sum 2.0
MAP = torch.tensor([[[4.0, 1.0], [3.0, 2.0]]])  # [1, 2, 2]; the upper half are the pixels .8 and .2


def sums(x: Tensor) -> Tensor:
    """Class 0 scores the sum of all pixels, class 1 zero, class 2 minus the sum."""
    total = x.flatten(1).sum(1)
    return torch.stack([total, 0 * total, -total], 1)


def network(classes: int = 5, side: int = 12) -> nn.Module:
    """A random network from [B, 3, side, side] to [B, classes], float64."""
    torch.manual_seed(3)
    return (
        nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * (side - 2) ** 2, classes))
        .double()
        .eval()
    )


def batch(count: int = 6, side: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    """Random images, signed maps and classes, float64."""
    random = torch.Generator().manual_seed(4)
    images = torch.rand(count, 3, side, side, dtype=torch.float64, generator=random)
    maps = torch.randn(count, side, side, dtype=torch.float64, generator=random)
    return images, maps, torch.randint(5, (count,), generator=random)
