"""Chains: MLP, AlexNet, VGG, and an autoencoder with one skip connection. Small, random weights."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(2 * 12 * 12, 64)
        self.norm = nn.BatchNorm1d(64)
        self.fc2 = nn.Linear(64, 32)
        self.fc3 = nn.Linear(32, 10)
        self.dropout = nn.Dropout(0.2)

    def forward(self, x: Tensor) -> Tensor:
        x = x.view(x.size(0), -1)
        x = torch.relu(self.norm(self.fc1(x)))
        x = self.dropout(F.relu(self.fc2(x)))
        return self.fc3(x)


class AlexNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, kernel_size=11, stride=4, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(16, 32, kernel_size=5, padding=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, 48, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(48, 32, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d((2, 2))
        self.classifier = nn.Sequential(
            nn.Dropout(p=0.5),
            nn.Linear(32 * 2 * 2, 64),
            nn.ReLU(inplace=True),
            nn.Dropout(p=0.5),
            nn.Linear(64, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = self.avgpool(x)
        x = torch.flatten(x, 1)
        return self.classifier(x)


class VGG(nn.Module):
    """Convolutions 3x3 and pools "M" by a list, with or without batch norm."""

    def __init__(self, batch_norm: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for outputs in (16, "M", 32, "M", 32, 32, "M", 48, 48, "M"):
            if isinstance(outputs, str):
                layers += [nn.MaxPool2d(kernel_size=2, stride=2)]
                continue
            conv = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1)
            norm = [nn.BatchNorm2d(outputs)] if batch_norm else []
            layers += [conv, *norm, nn.ReLU(inplace=True)]
            inputs = outputs
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((3, 3))  # more than its 2x2 input
        self.classifier = nn.Sequential(nn.Linear(48 * 3 * 3, 64), nn.ReLU(True), nn.Dropout(), nn.Linear(64, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = self.avgpool(x)
        x = torch.flatten(x, 1)
        return self.classifier(x)


class Autoencoder(nn.Module):
    """Strided encoder; decoder by transposed convolution and by interpolation; one skip by addition."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = nn.Sequential(nn.Conv2d(1, 12, 3, stride=2, padding=1), nn.BatchNorm2d(12), nn.ReLU())
        self.down2 = nn.Sequential(nn.Conv2d(12, 24, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(24))
        self.up1 = nn.ConvTranspose2d(24, 12, 3, stride=2, padding=1, output_padding=1)
        self.norm = nn.BatchNorm2d(12)
        self.up2 = nn.ConvTranspose2d(12, 8, 4, stride=2, padding=1, groups=2, bias=False)
        self.out = nn.Conv2d(8, 1, 3, padding=1, padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down1(x)
        x = F.leaky_relu(self.down2(skip), 0.1)
        x = self.norm(self.up1(x)).relu() + skip
        x = F.relu(self.up2(x))
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        x = self.out(F.interpolate(x, size=(32, 32), mode="nearest"))
        return F.adaptive_avg_pool2d(x, 4).view(x.size(0), -1)
