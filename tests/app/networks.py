"""Networks that ask much of the page."""

import torch
from torch import Tensor, nn


def ten_thousand_layers() -> nn.Module:
    """[B, 1, H, W] to [B, 2]."""
    chain = [nn.Conv2d(1, 1, 1) if i % 2 else nn.ReLU() for i in range(1, 10_000)]
    return nn.Sequential(*chain, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))


@torch.library.custom_op("fwdkern_tests::unruly", mutates_args=())
def unruly(x: Tensor) -> Tensor:
    """An operator that no rule is known for."""
    return x.sort(-1).values


unruly.register_fake(torch.empty_like)


class Unruly(nn.Module):
    """[B, 1, H, W] to [B, 2] by way of that operator."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 3, 3, padding=1), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(unruly(self.conv(x)).mean((2, 3)))
