"""Convolutions over lines and volumes: a network for sound and one for videos. Small, random weights."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AudioCNN(nn.Module):
    """Raw sound [B, 1, T] by strided and dilated convolutions, gated linear units and every pool of lines."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(1, 8, 16, stride=4, padding=6), nn.BatchNorm1d(8), nn.ReLU())
        self.pool = nn.MaxPool1d(3, stride=2, padding=1)
        self.gated = nn.Conv1d(8, 24, 3, padding=2, dilation=2)
        self.depthwise = nn.Conv1d(12, 12, 5, padding=2, groups=12, padding_mode="reflect")
        self.norm = nn.BatchNorm1d(12)
        self.up = nn.ConvTranspose1d(12, 8, 4, stride=2, padding=1, groups=4)
        self.mean = nn.AvgPool1d(2)
        self.fc = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.stem(x))
        x = F.glu(self.gated(x), dim=1)
        x = x + F.gelu(self.norm(self.depthwise(x)))
        x = self.mean(F.elu(self.up(x)))
        x = torch.cat([F.adaptive_avg_pool1d(x, 1), F.adaptive_max_pool1d(x, 1)], 1)
        return self.fc(x.squeeze(-1))


class VideoBlock(nn.Module):
    """A convolution within pictures, then one along time, and a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.space = nn.Conv3d(channels, channels, (1, 3, 3), padding=(0, 1, 1), bias=False)
        self.norm1 = nn.BatchNorm3d(channels)
        self.time = nn.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0), groups=2, bias=False)
        self.norm2 = nn.BatchNorm3d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return (self.norm2(self.time(self.norm1(self.space(x)).relu())) + x).relu()


class VideoCNN(nn.Module):
    """Pictures [B, 3, T, H, W] by separate and joint convolutions and every pool of volumes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(3, 8, (3, 5, 5), stride=(1, 2, 2), padding=(1, 2, 2)), nn.BatchNorm3d(8), nn.ReLU()
        )
        self.pool = nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
        self.block = VideoBlock(8)
        self.up = nn.ConvTranspose3d(8, 6, 2, stride=2)
        self.mean = nn.AvgPool3d(2)
        self.fc = nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(self.pool(self.stem(x)))
        x = F.interpolate(self.mean(self.up(x)), size=(3, 5, 4), mode="trilinear", align_corners=False)
        return self.fc(F.adaptive_avg_pool3d(F.relu(x), 1).flatten(1))
