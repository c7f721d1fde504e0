"""Networks and photographs: real ones from shared data, where present, and the embedded digit reader everywhere."""

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

T = TypeVar("T")


class Absent(Exception):
    """Data that a workload needs is not on this machine; the message names it."""


def _present(load: Callable[[Any], T]) -> T:
    """What a function of the module tests.data loads, which needs more packages than the rest."""
    try:
        import pytest

        from tests import data
    except ImportError as missing:
        raise Absent(f"shared data cannot be read: {missing}") from None
    try:
        return load(data)
    except pytest.skip.Exception as skipped:
        raise Absent(str(skipped)) from None


def resnet20() -> nn.Module:
    """[B, 3, 32, 32] -> [B, 10]."""
    return _present(lambda data: data.resnet20())


def cifar_photo() -> Tensor:
    """[1, 3, 32, 32]."""
    return _present(lambda data: data.cifar_photos(1)[0])


def squeezenet() -> nn.Module:
    """[B, 3, 224, 224] -> [B, 1000]."""
    return _present(lambda data: data.squeezenet())


def mobilenet() -> nn.Module:
    """[B, 3, 224, 224] -> [B, 1001]."""
    return _present(lambda data: data.mobilenet_v2())


def imagenet_photos(count: int) -> Tensor:
    """[count, 3, 224, 224]."""
    return _present(lambda data: data.imagenet_photos(count)[0])


def digits() -> nn.Module:
    """[B, 1, 64, 64] -> [B, 10]."""
    from fwdkern.digits import digits_net

    return digits_net()


def digits_canvas() -> Tensor:
    """[1, 1, 64, 64]."""
    from fwdkern.digits import examples

    return examples().images[:1]


def resized(photo: Tensor, side: int) -> Tensor:
    """[B, C, side, side], bilinear."""
    return F.interpolate(photo, (side, side), mode="bilinear", antialias=True)


def resnet_front(network: nn.Module) -> nn.Module:
    """Everything up to the last residual block, layer3.2. [B, 3, 32, 32] -> [B, 64, 8, 8]."""
    stages = (*network.layer1, *network.layer2, *network.layer3)
    return _front(nn.Sequential(network.conv1, network.bn1, nn.ReLU(), *stages))


def squeezenet_front(network: nn.Module, last: int = 5) -> nn.Module:
    """Everything up to features.last. [B, 3, 224, 224] -> [B, 128, 27, 27] for 5."""
    return _front(network.features[: last + 1])


def whole(network: nn.Module) -> nn.Module:
    """The network itself, fit for torch.func."""
    return _front(network)


class _DigitsFront(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        net = self.network
        x = net.pool(F.relu(net.edges(images)))
        x = net.pool(F.relu(net.strokes(x)))
        x = F.relu(x + net.join(F.relu(net.bend(x))))
        return F.relu(net.parts(x))


def digits_front(network: nn.Module) -> nn.Module:
    """Everything up to the last ReLU, relu_4. [B, 1, 64, 64] -> [B, 64, 16, 16]."""
    return _front(_DigitsFront(network))


def _front(network: nn.Module) -> nn.Module:
    # Its own copy: activations in place would overwrite what hooks and transforms still need.
    network = copy.deepcopy(network).eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return network
