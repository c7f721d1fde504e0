"""The architecture of the embedded digit reader."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
    )


class DigitsNet(nn.Module):
    """Five 3x3 convolutions with batch norm, three max pools, a residual add: [B, 1, H, W] to logits [B, 10].

    Trained on 64x64 images in [0, 1]; other sizes work because the pooling before the classifier is adaptive.
    Without `digits_net` the weights are torch's random initial ones.
    """

    def __init__(self) -> None:
        super().__init__()
        self.edges = _convolution(1, 16)
        self.strokes = _convolution(16, 32)
        self.bend = _convolution(32, 32)
        self.join = _convolution(32, 32)
        self.parts = _convolution(32, 64)
        self.pool = nn.MaxPool2d(2)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.pool(F.relu(self.edges(images)))  # [B, 16, H/2, W/2]
        x = self.pool(F.relu(self.strokes(x)))  # [B, 32, H/4, W/4]
        x = F.relu(x + self.join(F.relu(self.bend(x))))  # [B, 32, H/4, W/4]
        x = self.pool(F.relu(self.parts(x)))  # [B, 64, H/8, W/8]
        return self.classifier(torch.flatten(self.average(x), 1))  # [B, 10]
