"""Attention in shifted windows: window partition folds windows into the batch. Version 2 compares directions, by a
learned temperature, and normalises behind each block."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.networks.frozen import layer_norm, smooth, weights


class Window(nn.Module):
    """Attention in windows of 4 x 4 positions, of [B, H, W, C]."""

    def __init__(self, width: int, heads: int, shift: int, version: int) -> None:
        super().__init__()
        self.heads, self.shift, self.version, self.side = heads, shift, version, 4
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.table = nn.Parameter(torch.randn((2 * self.side - 1) ** 2, heads))
        self.temperature = nn.Parameter(torch.full((heads, 1, 1), math.log(5)))
        place = torch.stack(torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij")).flatten(1)
        apart = place[:, :, None] - place[:, None, :] + self.side - 1
        self.register_buffer("index", (apart[0] * (2 * self.side - 1) + apart[1]).flatten())

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        side, down = self.side, -height % self.side
        x = F.pad(x, (0, 0, 0, -width % side, 0, down))
        padded = x.shape
        rows, columns = padded[1] // side, padded[2] // side
        if self.shift:
            x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
        x = x.view(batch, rows, side, columns, side, channels).permute(0, 1, 3, 2, 4, 5)
        x = x.reshape(batch * rows * columns, side * side, channels)
        qkv = self.qkv(x).reshape(x.shape[0], x.shape[1], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        if self.version == 2:
            scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
            scores = scores * torch.clamp(self.temperature, max=math.log(100.0)).exp()
        else:
            scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        bias = self.table[self.index].view(side * side, side * side, -1).permute(2, 0, 1).contiguous()
        scores = scores + (16 * torch.sigmoid(bias) if self.version == 2 else bias).unsqueeze(0)
        if self.shift:
            mask = self._mask(rows, columns, scores)
            scores = scores.view(-1, rows * columns, self.heads, side * side, side * side) + mask[:, None].unsqueeze(0)
            scores = scores.view(-1, self.heads, side * side, side * side)
        x = (weights(scores) @ v).transpose(1, 2).reshape(x.shape[0], side * side, channels)
        x = self.out(x).view(batch, rows, columns, side, side, channels).permute(0, 1, 3, 2, 4, 5).reshape(padded)
        if self.shift:
            x = torch.roll(x, (self.shift, self.shift), (1, 2))
        return x[:, :height, :width, :].contiguous()

    def _mask(self, rows: int, columns: int, like: Tensor) -> Tensor:
        side, number = self.side, like.new_zeros(rows * self.side, columns * self.side)
        parts, count = ((0, -side), (-side, -self.shift), (-self.shift, None)), 0
        for y in parts:
            for x in parts:
                number[y[0] : y[1], x[0] : x[1]] = count
                count += 1
        number = number.view(rows, side, columns, side).permute(0, 2, 1, 3).reshape(rows * columns, side * side)
        apart = number.unsqueeze(1) - number.unsqueeze(2)
        return apart.masked_fill(apart != 0, -100.0).masked_fill(apart == 0, 0.0)


class Block(nn.Module):
    def __init__(self, width: int, heads: int, shift: int, version: int) -> None:
        super().__init__()
        self.version = version
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.window = Window(width, heads, shift, version)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        for norm, part in ((self.norm_1, self.window), (self.norm_2, self._mlp)):
            if self.version == 2:
                x = x + layer_norm(part(x), norm.weight, norm.bias)
            else:
                x = x + part(layer_norm(x, norm.weight, norm.bias))
        return x

    def _mlp(self, x: Tensor) -> Tensor:
        return self.down(smooth(F.gelu, self.up(x)))


class Swin(nn.Module):
    """[B, 3, 16, 20] to [B, 5]."""

    def __init__(self, version: int = 1) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 2, 2)
        self.stage_1 = nn.Sequential(Block(8, 2, 0, version), Block(8, 2, 2, version))
        self.merge, self.norm = nn.Linear(32, 8, bias=False), nn.LayerNorm(8)
        self.stage_2 = Block(8, 2, 0, version)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage_1(self.patches(x).permute(0, 2, 3, 1))
        x = torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], -1)
        x = self.stage_2(self.merge(x))
        x = layer_norm(x, self.norm.weight, self.norm.bias).permute(0, 3, 1, 2)
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))
