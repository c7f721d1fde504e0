"""A network of ten thousand layers."""

from torch import nn


def ten_thousand_layers() -> nn.Module:
    """[B, 1, H, W] to [B, 2]."""
    chain = [nn.Conv2d(1, 1, 1) if i % 2 else nn.ReLU() for i in range(1, 10_000)]
    return nn.Sequential(*chain, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
