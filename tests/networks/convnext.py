"""ConvNeXt: depthwise convolutions, layer norm over channels, a GELU layer, a learned scale on each residual."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.networks.frozen import layer_norm, smooth


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of [B, C, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        return layer_norm(x.permute(0, 2, 3, 1), self.weight, self.bias).permute(0, 3, 1, 2)


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depth = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm, self.up = nn.LayerNorm(channels), nn.Linear(channels, 4 * channels)
        self.down, self.scale = nn.Linear(4 * channels, channels), nn.Parameter(torch.rand(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = layer_norm(self.depth(x).permute(0, 2, 3, 1), self.norm.weight, self.norm.bias)
        return x + self.scale * self.down(smooth(F.gelu, self.up(y))).permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    """[B, 3, 16, 24] to [B, 5]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 4, 4), ChannelNorm(6))
        self.stages = nn.Sequential(Block(6), ChannelNorm(6), nn.Conv2d(6, 8, 2, 2), Block(8))
        self.norm, self.head = ChannelNorm(8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.stages(self.stem(x)).mean((2, 3), keepdim=True)).flatten(1))
