"""Networks with squeeze and excitation: MobileNet v3, EfficientNet and RegNet-Y. Small, random weights."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tests.networks.residual import conv_norm


class Excitation(nn.Module):
    """Channels times a gate that is computed from their means."""

    def __init__(self, channels: int, squeezed: int, activation: Callable[[], nn.Module], gate: nn.Module) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1, self.fc2 = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)
        self.activation, self.scale_activation = activation(), gate

    def forward(self, x: Tensor) -> Tensor:
        scale = self.activation(self.fc1(self.avgpool(x)))
        return self.scale_activation(self.fc2(scale)) * x


def activated(
    inputs: int, outputs: int, kernel: int, stride: int, groups: int, activation: Callable[[], nn.Module] | None
) -> nn.Sequential:
    layers = conv_norm(inputs, outputs, kernel, stride, groups, activate=False)
    return layers if activation is None else nn.Sequential(*layers, activation())


class Inverted(nn.Module):
    """An inverted residual block with an excitation in its middle."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, activation: Callable[[], nn.Module], gate: nn.Module
    ) -> None:
        super().__init__()
        hidden = inputs * 3
        self.residual = stride == 1 and inputs == outputs
        squeeze: Callable[[], nn.Module] = nn.ReLU if isinstance(gate, nn.Hardsigmoid) else activation
        self.block = nn.Sequential(
            activated(inputs, hidden, 1, 1, 1, activation),
            activated(hidden, hidden, kernel, stride, hidden, activation),
            Excitation(hidden, max(hidden // 4, 4), squeeze, gate),
            activated(hidden, outputs, 1, 1, 1, None),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x) + x if self.residual else self.block(x)


class MobileNetV3(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            activated(3, 8, 3, 2, 1, nn.Hardswish),
            Inverted(8, 8, 3, 1, nn.ReLU, nn.Hardsigmoid()),
            Inverted(8, 12, 5, 2, nn.Hardswish, nn.Hardsigmoid()),
            Inverted(12, 12, 5, 1, nn.Hardswish, nn.Hardsigmoid()),
            activated(12, 32, 1, 1, 1, nn.Hardswish),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Linear(32, 24), nn.Hardswish(inplace=True), nn.Dropout(), nn.Linear(24, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


class EfficientNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            activated(3, 8, 3, 2, 1, nn.SiLU),
            Inverted(8, 12, 3, 2, nn.SiLU, nn.Sigmoid()),
            Inverted(12, 12, 5, 1, nn.SiLU, nn.Sigmoid()),
            activated(12, 32, 1, 1, 1, nn.SiLU),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(p=0.2), nn.Linear(32, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


class RegNetYBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.proj = conv_norm(inputs, outputs, 1, stride, groups=1, activate=False)
        self.f = nn.Sequential(
            conv_norm(inputs, outputs, 1, 1, groups=1, activate=True),
            conv_norm(outputs, outputs, 3, stride, groups=outputs // 8, activate=True),
            Excitation(outputs, max(inputs // 4, 4), nn.ReLU, nn.Sigmoid()),
            conv_norm(outputs, outputs, 1, 1, groups=1, activate=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return (self.proj(x) + self.f(x)).relu()


class RegNetY(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm(3, 16, 3, 2, groups=1, activate=True)
        self.trunk_output = nn.Sequential(RegNetYBlock(16, 24, 2), RegNetYBlock(24, 40, 2))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(40, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.avgpool(self.trunk_output(self.stem(x))).flatten(start_dim=1))
