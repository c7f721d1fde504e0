"""Networks that concatenate channels: DenseNet and GoogLeNet. Small, random weights."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.networks.squeezenet import Fire


class DenseLayer(nn.Module):
    """Norm, ReLU and convolution in this order, on the concatenation of all earlier outputs."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(inputs, 4 * growth, kernel_size=1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4 * growth, growth, kernel_size=3, padding=1, bias=False)

    def forward(self, features: list[Tensor]) -> Tensor:
        bottleneck = self.conv1(self.relu1(self.norm1(torch.cat(features, 1))))
        return self.conv2(self.relu2(self.norm2(bottleneck)))


class DenseBlock(nn.ModuleDict):
    def __init__(self, layers: int, inputs: int, growth: int) -> None:
        super().__init__()
        for index in range(layers):
            self.add_module(f"denselayer{index + 1}", DenseLayer(inputs + index * growth, growth))

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.values():
            features.append(layer(features))
        return torch.cat(features, 1)


class DenseNet(nn.Module):
    def __init__(self, growth: int = 8) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, kernel_size=7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
            DenseBlock(3, 16, growth),
            nn.Sequential(
                nn.BatchNorm2d(40),
                nn.ReLU(inplace=True),
                nn.Conv2d(40, 20, kernel_size=1, bias=False),
                nn.AvgPool2d(kernel_size=2, stride=2),
            ),
            DenseBlock(3, 20, growth),
            nn.BatchNorm2d(44),
        )
        self.classifier = nn.Linear(44, 10)

    def forward(self, x: Tensor) -> Tensor:
        features = self.features(x)
        out = F.relu(features, inplace=True)
        out = F.adaptive_avg_pool2d(out, (1, 1))
        out = torch.flatten(out, 1)
        return self.classifier(out)


class BasicConv2d(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class Inception(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.branch1 = BasicConv2d(inputs, width, 1)
        self.branch2 = nn.Sequential(BasicConv2d(inputs, width, 1), BasicConv2d(width, 2 * width, 3, padding=1))
        self.branch3 = nn.Sequential(BasicConv2d(inputs, width, 1), BasicConv2d(width, width, 3, padding=1))
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(kernel_size=3, stride=1, padding=1, ceil_mode=True), BasicConv2d(inputs, width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        outputs = [self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)]
        return torch.cat(outputs, 1)


class GoogLeNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = BasicConv2d(3, 16, 7, stride=2, padding=3)
        self.maxpool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.conv2 = BasicConv2d(16, 16, 1)
        self.conv3 = BasicConv2d(16, 32, 3, padding=1)
        self.maxpool2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.inception3a = Inception(32, 8)
        self.inception3b = Inception(40, 12)
        self.maxpool3 = nn.MaxPool2d(2, stride=2, ceil_mode=True)
        self.inception4a = Inception(60, 12)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(60, 10)

    def _transform_input(self, x: Tensor) -> Tensor:
        channels = [torch.unsqueeze(x[:, c], 1) * (0.458 - 0.01 * c) + (0.03 * c - 0.05) for c in range(3)]
        return torch.cat(channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self._transform_input(x)
        x = self.maxpool1(self.conv1(x))
        x = self.maxpool2(self.conv3(self.conv2(x)))
        x = self.maxpool3(self.inception3b(self.inception3a(x)))
        x = self.avgpool(self.inception4a(x))
        x = torch.flatten(x, 1)
        x = self.dropout(x)
        return self.fc(x)


class InceptionC(nn.Module):
    """Factorised 7x7 convolutions and an average pool beside each other, as in Inception v3."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.branch1 = BasicConv2d(inputs, width, 1)
        self.branch7 = nn.Sequential(
            BasicConv2d(inputs, width, 1),
            nn.Conv2d(width, width, (1, 7), padding=(0, 3)),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, (7, 1), padding=(3, 0)),
            nn.ReLU(),
        )
        self.branch_pool = BasicConv2d(inputs, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.branch_pool(F.avg_pool2d(x, kernel_size=3, stride=1, padding=1))
        return torch.cat([self.branch1(x), self.branch7(x), pooled], 1)


class InceptionV3(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(BasicConv2d(3, 8, 3, stride=2), BasicConv2d(8, 16, 3), nn.MaxPool2d(3, stride=2))
        self.mixed = nn.Sequential(InceptionC(16, 8), InceptionC(24, 10))
        self.fc = nn.Linear(30, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.adaptive_avg_pool2d(self.mixed(self.stem(x)), (1, 1)).flatten(1))


class SqueezeNet(nn.Module):
    """Fire modules; the classes are channels of the last convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 12, 3, stride=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
            Fire(12, 6, 12),
            Fire(24, 8, 16),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
            Fire(32, 8, 16),
        )
        self.classifier = nn.Sequential(nn.Dropout(p=0.5), nn.Conv2d(32, 10, 1), nn.AdaptiveAvgPool2d((1, 1)))

    def forward(self, x: Tensor) -> Tensor:
        return torch.flatten(self.classifier(self.features(x)), 1)
