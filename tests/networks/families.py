"""FAMILIES: one small network per common CNN family, with random weights and random batch-norm statistics."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from tests.networks.concatenating import DenseNet, GoogLeNet
from tests.networks.mobile import MNASNet, ShuffleNetV2
from tests.networks.plain import MLP, VGG, AlexNet, Autoencoder
from tests.networks.residual import RegNetX, ResNet


class Family(NamedTuple):
    factory: Callable[..., nn.Module]  # factory(seed=0) -> network in evaluation mode, float32
    input_shape: tuple[int, int, int]  # [C, H, W]


def randomise(network: nn.Module, seed: int = 0) -> nn.Module:
    """Set random weights that keep the scale of activations, and batch norms far from the identity."""
    random = torch.Generator().manual_seed(seed)

    def uniform(like: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return torch.rand(like.shape, generator=random) * (high - low) + low

    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=random)
                if module.bias is not None:
                    module.bias.copy_(uniform(module.bias, -0.3, 0.3))
            elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.weight.copy_(uniform(module.weight, 0.5, 1.5))
                module.bias.copy_(uniform(module.bias, -0.5, 0.5))
                module.running_mean.copy_(uniform(module.running_mean, -0.5, 0.5))
                module.running_var.copy_(uniform(module.running_var, 0.5, 2.0))
    return network


def _family(network: Callable[[], nn.Module], input_shape: tuple[int, int, int]) -> Family:
    def factory(seed: int = 0) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            return randomise(network(), seed).eval()

    return Family(factory, input_shape)


FAMILIES: dict[str, Family] = {
    "mlp": _family(MLP, (2, 12, 12)),
    "alexnet": _family(AlexNet, (3, 64, 64)),
    "vgg": _family(partial(VGG, batch_norm=False), (3, 32, 32)),
    "vgg_bn": _family(partial(VGG, batch_norm=True), (3, 32, 32)),
    "resnet_bottleneck": _family(ResNet, (3, 48, 48)),
    "resnext": _family(partial(ResNet, groups=4, width_per_plane=2), (3, 48, 48)),
    "densenet": _family(DenseNet, (3, 48, 48)),
    "googlenet": _family(GoogLeNet, (3, 64, 64)),
    "mnasnet": _family(MNASNet, (3, 48, 48)),
    "shufflenet_v2": _family(ShuffleNetV2, (3, 64, 64)),
    "regnet_x": _family(RegNetX, (3, 48, 48)),
    "autoencoder": _family(Autoencoder, (1, 32, 32)),
}
