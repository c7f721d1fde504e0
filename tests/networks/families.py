"""FAMILIES: one small network per common CNN family, with random weights and random batch-norm statistics."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from tests.networks.concatenating import DenseNet, GoogLeNet, InceptionV3, SqueezeNet
from tests.networks.gated import EfficientNet, MobileNetV3, RegNetY
from tests.networks.mobile import MNASNet, MobileNetV2, ShuffleNetV2
from tests.networks.other_dimensions import AudioCNN, VideoCNN
from tests.networks.plain import MLP, VGG, AlexNet, Autoencoder
from tests.networks.residual import RegNetX, ResNet


class Family(NamedTuple):
    factory: Callable[..., nn.Module]  # factory(seed=0) -> network in evaluation mode, float32
    input_shape: tuple[int, ...]  # [C, H, W], of sound [C, T], of videos [C, T, H, W]


def randomise(network: nn.Module, seed: int = 0) -> nn.Module:
    """Set random weights that keep the scale of activations, and batch norms far from the identity."""
    random = torch.Generator().manual_seed(seed)

    def uniform(like: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return torch.rand(like.shape, generator=random) * (high - low) + low

    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, _ConvNd | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=random)
                if module.bias is not None:
                    module.bias.copy_(uniform(module.bias, -0.3, 0.3))
            elif isinstance(module, _BatchNorm):
                module.weight.copy_(uniform(module.weight, 0.5, 1.5))
                module.bias.copy_(uniform(module.bias, -0.5, 0.5))
                module.running_mean.copy_(uniform(module.running_mean, -0.5, 0.5))
                module.running_var.copy_(uniform(module.running_var, 0.5, 2.0))
    return network


def _family(network: Callable[[], nn.Module], input_shape: tuple[int, ...]) -> Family:
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
    "inception_v3": _family(InceptionV3, (3, 48, 48)),
    "squeezenet": _family(SqueezeNet, (3, 48, 48)),
    "mobilenet_v2": _family(MobileNetV2, (3, 24, 24)),
    "mobilenet_v3": _family(MobileNetV3, (3, 32, 32)),
    "efficientnet": _family(EfficientNet, (3, 32, 32)),
    "mnasnet": _family(MNASNet, (3, 48, 48)),
    "shufflenet_v2": _family(ShuffleNetV2, (3, 64, 64)),
    "regnet_x": _family(RegNetX, (3, 48, 48)),
    "regnet_y": _family(RegNetY, (3, 48, 48)),
    "autoencoder": _family(Autoencoder, (1, 32, 32)),
    "audio": _family(AudioCNN, (1, 256)),
    "video": _family(VideoCNN, (3, 4, 20, 16)),
}
