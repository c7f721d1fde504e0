"""Text classifiers of tokens [B, T], where 0 is padding: an encoder as BERT's, and a decoder as Llama's."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.networks.frozen import held, is_frozen, layer_norm, product, smooth, weights

WORDS, WIDTH = 20, 8


class Encoder(nn.Module):
    """Learned positions, attention that leaves out padding, norms behind each part, a tanh layer on the first token."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, WIDTH), nn.Embedding(12, WIDTH)
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(3))
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.up, self.down = nn.Linear(WIDTH, 16), nn.Linear(16, WIDTH)
        self.pool, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.read(self.words(tokens), tokens)

    def read(self, x: Tensor, tokens: Tensor) -> Tensor:
        x = x + self.places(torch.arange(tokens.shape[1]))
        x = layer_norm(x, self.norms[0].weight, self.norms[0].bias)
        q, k, v = (part(x).unflatten(-1, (2, -1)).transpose(1, 2) for part in (self.q, self.k, self.v))
        scores = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).masked_fill((tokens == 0)[:, None, None], -torch.inf)
        attended = (weights(scores) @ v).transpose(1, 2).flatten(2)
        x = layer_norm(x + self.o(attended), self.norms[1].weight, self.norms[1].bias)
        x = x + self.down(smooth(F.gelu, self.up(x)))
        x = layer_norm(x, self.norms[2].weight, self.norms[2].bias)
        return self.head(smooth(torch.tanh, self.pool(x[:, 0])))


class Decoder(nn.Module):
    """Rotated queries and keys, fewer heads of keys, causal attention, RMS norms, a gated layer, the mean token."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.scales = nn.ParameterList(torch.rand(WIDTH) + 0.5 for _ in range(3))
        self.q, self.o = nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.k, self.v = nn.Linear(WIDTH, WIDTH // 2, bias=False), nn.Linear(WIDTH, WIDTH // 2, bias=False)
        self.gate, self.up, self.down = nn.Linear(WIDTH, 12), nn.Linear(WIDTH, 12), nn.Linear(12, WIDTH)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.read(self.words(tokens), tokens)

    def read(self, x: Tensor, tokens: Tensor) -> Tensor:
        y = self._norm(x, self.scales[0])
        q, k, v = (part(y).unflatten(-1, (-1, 2)).transpose(1, 2) for part in (self.q, self.k, self.v))
        q, k = self._rotated(q), self._rotated(k)
        if is_frozen():
            k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
            hidden = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
            attended = weights((q @ k.mT * 2**-0.5).masked_fill(hidden, -torch.inf)) @ v
        else:
            attended = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.o(attended.transpose(1, 2).flatten(2))
        y = self._norm(x, self.scales[1])
        x = x + self.down(product(smooth(F.silu, self.gate(y)), self.up(y)))
        return self.head(self._norm(x, self.scales[2]).mean(1))

    def _norm(self, x: Tensor, scale: Tensor) -> Tensor:
        return scale * (x * held(torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)))

    def _rotated(self, x: Tensor) -> Tensor:
        angle = torch.arange(x.shape[2])[:, None] * torch.tensor([1.0, 1.0], dtype=x.dtype)
        return x * angle.cos() + torch.cat([-x[..., 1:], x[..., :1]], -1) * angle.sin()
