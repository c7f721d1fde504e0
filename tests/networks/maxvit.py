"""MaxViT's parts: an inverted residual with squeeze-excitation, then attention inside windows and across a grid."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.networks.frozen import held, layer_norm, smooth, weights


class MBConv(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.expand = nn.Sequential(nn.Conv2d(channels, 2 * channels, 1, bias=False), nn.BatchNorm2d(2 * channels))
        self.depth = nn.Sequential(
            nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels), nn.BatchNorm2d(2 * channels)
        )
        self.squeeze, self.excite = nn.Conv2d(2 * channels, 2, 1), nn.Conv2d(2, 2 * channels, 1)
        self.project = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = smooth(F.gelu, self.depth(smooth(F.gelu, self.expand(self.norm(x)))))
        gate = torch.sigmoid(self.excite(F.silu(self.squeeze(F.adaptive_avg_pool2d(y, 1)))))
        return x + self.project(held(gate) * y)


class Relative(nn.Module):
    """Attention among the positions of each group, [B, groups, positions, C]."""

    def __init__(self, channels: int, heads: int, positions: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.qkv, self.out = (
            nn.LayerNorm(channels),
            nn.Linear(channels, 3 * channels),
            nn.Linear(channels, channels),
        )
        self.bias = nn.Parameter(torch.randn(1, 1, heads, positions, positions))

    def forward(self, x: Tensor) -> Tensor:
        batch, groups, positions, channels = x.shape
        q, k, v = torch.chunk(self.qkv(layer_norm(x, self.norm.weight, self.norm.bias)), 3, -1)
        q, k, v = (part.reshape(batch, groups, positions, self.heads, -1).permute(0, 1, 3, 2, 4) for part in (q, k, v))
        scores = torch.einsum("b g h i d, b g h j d -> b g h i j", q, k * q.shape[-1] ** -0.5)
        out = torch.einsum("b g h i j, b g h j d -> b g h i d", weights(scores + self.bias), v)
        return x + self.out(out.permute(0, 1, 3, 2, 4).reshape(batch, groups, positions, channels))


class MaxViT(nn.Module):
    """[B, 3, 16, 16] to [B, 5]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.conv = MBConv(8)
        self.window, self.grid = Relative(8, 2, 16), Relative(8, 2, 16)
        self.norm = nn.LayerNorm(8)
        self.hidden, self.head = nn.Linear(8, 8), nn.Linear(8, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.stem(x))
        batch, channels = x.shape[:2]
        x = x.reshape(batch, channels, 2, 4, 2, 4).permute(0, 2, 4, 3, 5, 1).reshape(batch, 4, 16, channels)
        x = self.window(x)
        # The grid's groups are the places in a window: partition by windows of the rest, axes swapped.
        x = self.grid(
            x.view(batch, 2, 2, 4, 4, channels)
            .permute(0, 1, 3, 2, 4, 5)
            .reshape(batch, 8, 8, channels)
            .view(batch, 4, 2, 4, 2, channels)
            .permute(0, 2, 4, 1, 3, 5)
            .reshape(batch, 4, 16, channels)
        )
        x = layer_norm(x.mean((1, 2)), self.norm.weight, self.norm.bias)
        return self.head(smooth(torch.tanh, self.hidden(x)))
