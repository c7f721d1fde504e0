"""A vision transformer: patches, a class token, blocks of torch's multi-head attention and a GELU layer."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.networks.frozen import is_frozen, layer_norm, smooth, weights


class Attention(nn.MultiheadAttention):
    """The same numbers by hand where the weights are to be frozen."""

    def __init__(self, width: int, heads: int, need_weights: bool) -> None:
        super().__init__(width, heads, batch_first=True)
        self.need_weights = need_weights

    def attend(self, x: Tensor) -> Tensor:
        if not is_frozen():
            return self(x, x, x, need_weights=self.need_weights)[0]
        mixed = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in mixed.chunk(3, -1))
        out = weights(q @ k.mT * q.shape[-1] ** -0.5) @ v
        return self.out_proj(out.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, need_weights: bool) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, need_weights)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention.attend(layer_norm(x, self.ln_1.weight, self.ln_1.bias)))
        hidden = smooth(F.gelu, self.up(layer_norm(x, self.ln_2.weight, self.ln_2.bias)))
        return x + self.dropout(self.down(hidden))


class ViT(nn.Module):
    """[B, 3, 12, 16] to [B, 5]."""

    def __init__(self, width: int = 8, heads: int = 2, depth: int = 2, need_weights: bool = False) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 13, width))
        self.blocks = nn.Sequential(*(Block(width, heads, need_weights) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        x = self.blocks(x)
        return self.head(layer_norm(x, self.norm.weight, self.norm.bias)[:, 0])
