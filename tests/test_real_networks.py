"""Trained networks on photographs: ResNet-20 on CIFAR-10, SqueezeNet 1.1 and MobileNet v2 on ImageNet."""

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import fwdkern
from fwdkern import FusedModel
from fwdkern.algorithm1 import average_pool, fully_connected
from tests import data
from tests.networks.resnet_cifar import ResNet
from tests.oracle import Oracle, assert_close, autograd
from tests.test_algorithm1 import block_maps, fire_maps, stem_maps

# |delta| against the unit's value or the sum of its map's magnitudes, whichever is larger.
DELTA = {torch.float32: 1e-4, torch.float64: 1e-10}
DTYPES = list(DELTA)


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@functools.cache
def resnet(dtype: torch.dtype) -> tuple[nn.Module, FusedModel, Tensor]:
    network, images = data.resnet20().to(dtype), data.cifar_photos(2)[0].to(dtype)
    return network, fwdkern.fuse(network, images), images


@functools.cache
def squeezenet(dtype: torch.dtype) -> tuple[nn.Module, FusedModel, Tensor]:
    network, images = data.squeezenet().to(dtype), data.imagenet_photos(2)[0].to(dtype)
    return network, fwdkern.fuse(network, images), images


@functools.cache
def mobilenet(dtype: torch.dtype) -> tuple[nn.Module, FusedModel, Tensor]:
    half = (0.5, 0.5, 0.5)
    network, images = data.mobilenet_v2().to(dtype), data.imagenet_photos(1, half, half)[0].to(dtype)
    return network, fwdkern.fuse(network, images), images


@functools.cache
def reference(network: nn.Module, images: Tensor) -> Oracle:
    with torch.no_grad():
        top = network(images).topk(2).indices
    return autograd(network, images, top)


def assert_complete(result: fwdkern.Relevance) -> None:
    magnitude = torch.maximum(result.outputs.abs(), result.scores.abs().flatten(2).sum(2))
    assert (result.delta.abs() <= DELTA[result.scores.dtype] * magnitude).all()


def patches(size: int, across: int) -> Tensor:
    """Labels [size, size] of across × across square patches."""
    row = torch.arange(size) * across // size
    return row[:, None] * across + row


def test_resnet_top1() -> None:
    images, labels = data.cifar_photos(100)
    network, net, _ = resnet(torch.float32)
    with torch.no_grad():
        logits = net(images)
        assert_close(logits, network(images), 1e-5)
    assert (logits.argmax(1) == labels).double().mean().item() == pytest.approx(0.94, abs=0.005)


def test_squeezenet_top1() -> None:
    images, labels = data.imagenet_photos(25)
    network, net, _ = squeezenet(torch.float32)
    with torch.no_grad():
        logits = net(images)
        assert_close(logits, network(images), 1e-5)
    assert (logits.argmax(1) == labels).sum() == 19


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
@pytest.mark.parametrize("make", [resnet, squeezenet, mobilenet])
def test_class_maps_equal_autograd(make: Callable[[torch.dtype], tuple], dtype: torch.dtype) -> None:
    network, net, images = make(dtype)
    # In float32 a folded batch norm rounds in its own way, and with it units within rounding of zero switch.
    expected = reference(network if dtype is torch.float64 else net.network, images)
    with torch.no_grad():
        top = network(images).topk(2).indices
    result = net.attribute(images, top, strict=True)
    tolerance = 1e-10 if dtype is torch.float64 else 1e-4
    scale = expected.uniform.abs().max()
    assert_close(result.scores / scale, expected.uniform / scale, tolerance)
    assert_close(result.outputs, expected.outputs, tolerance)
    assert_complete(result)
    separate = net.attribute(images, top, features="channels", bias="separate", strict=True)
    assert_close(separate.scores / scale, expected.channels / scale, tolerance)
    # The bias mass of autograd is a difference of large numbers, hence compared on their scale.
    assert_close(separate.bias / expected.pixels.abs().sum(), expected.bias / expected.pixels.abs().sum(), tolerance)


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
def test_resnet_in_both_modes(dtype: torch.dtype) -> None:
    _, net, images = resnet(dtype)
    features = "pixels" if dtype is torch.float32 else patches(32, 8)
    forward = net.attribute(images[:1], "all", features, mode="forward", strict=True)
    reverse = net.attribute(images[:1], "all", features, mode="reverse", strict=True)
    assert (forward.mode, reverse.mode) == ("forward", "reverse")
    tolerance = 1e-10 if dtype is torch.float64 else 1e-5
    assert_close(forward.scores, reverse.scores, tolerance)
    assert_close(forward.bias, reverse.bias, tolerance)
    assert_complete(forward)
    assert_complete(reverse)


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
def test_squeezenet_patches_in_both_modes(dtype: torch.dtype) -> None:
    _, net, images = squeezenet(dtype)
    labels = patches(224, 4)
    classes = torch.tensor([[0, 207, 999]])
    forward = net.attribute(images[:1], classes, features=labels, mode="forward", strict=True)
    reverse = net.attribute(images[:1], classes, features=labels, mode="reverse", strict=True)
    assert forward.scores.shape == (1, 3, 16)
    tolerance = 1e-10 if dtype is torch.float64 else 1e-4
    assert_close(forward.scores, reverse.scores, tolerance)
    assert_complete(forward)
    assert_complete(reverse)


@pytest.mark.parametrize("layer", ["conv1", "layer1.2.conv2", "layer2.0.bn2", "layer3.1.conv1", "layer3.2.conv1"])
def test_resnet_units_equal_autograd(layer: str) -> None:
    network, net, images = resnet(torch.float64)
    name = layer.replace("conv", "bn")  # the batch norm swallows the convolution before it
    shape = net.layer(name).shape
    random = torch.Generator().manual_seed(0)
    units = torch.stack([torch.randint(size, (6,), generator=random) for size in shape], 1)
    flat = (units[:, 0] * shape[1] + units[:, 1]) * shape[2] + units[:, 2]
    expected = autograd(network, images, flat.expand(len(images), -1), name)
    result = net.attribute_units(images, name, units, strict=True)
    assert_close(result.scores, expected.uniform)
    assert_close(result.outputs, expected.outputs)


@pytest.mark.parametrize("layer", ["features.0", "features.3", "features.7.expand3x3", "features.12", "classifier.1"])
def test_squeezenet_units_equal_autograd(layer: str) -> None:
    network, net, images = squeezenet(torch.float64)
    shape = net.layer(layer).shape
    units = torch.tensor([[0, 0, 0], [shape[0] // 2, 5, 6], [shape[0] - 1, shape[1] - 1, shape[2] - 1]])
    flat = (units[:, 0] * shape[1] + units[:, 1]) * shape[2] + units[:, 2]
    expected = autograd(network, images, flat.expand(len(images), -1), layer)
    result = net.attribute_units(images, layer, units, strict=True)
    assert_close(result.scores, expected.uniform)
    fields = net.receptive_field(layer, units)
    for row, (y0, x0, y1, x1) in enumerate(fields.tolist()):
        outside = expected.channels[:, row].clone()
        outside[..., y0:y1, x0:x1] = 0
        assert not outside.any()


def test_resnet_equals_algorithm1_on_a_crop() -> None:
    network = data.resnet20().double()
    assert isinstance(network, ResNet)
    x = data.cifar_photos(2)[0][1, :, 10:18, 14:22].double()
    net = fwdkern.fuse(network, x[None])
    found = net.attribute_layers(x[None], ["layer1.0", "layer2.0", "layer3.2", "linear"], strict=True)
    with torch.no_grad():
        maps, values = stem_maps(network, x)
        for stage, blocks in enumerate((network.layer1, network.layer2, network.layer3), 1):
            for index, block in enumerate(blocks):
                maps, values = block_maps(block, maps, values)
                if (name := f"layer{stage}.{index}") in found:
                    assert_close(found[name].scores[0], maps.flatten(0, 2))
        pooled = average_pool(nn.AvgPool2d(2), maps)  # [64, 1, 1, 8, 8]
        assert_close(found["linear"].scores[0], fully_connected(network.linear, pooled.flatten(0, 2)))


def test_squeezenet_equals_algorithm1_on_a_crop() -> None:
    network = data.squeezenet().double()
    x = data.imagenet_photos(1)[0][0, :, 100:112, 100:112].double()
    net = fwdkern.fuse(network.features[:4].eval(), x[None])  # the whole network needs a larger image
    found = net.attribute_units(x[None], "3", mode="forward", strict=True)
    stem, fire = fwdkern.algorithm1(network.features[:3], x), network.features[3]
    with torch.no_grad():
        maps, _ = fire_maps(fire, stem, network.features[:3](x[None])[0])
    assert_close(found.scores[0], maps.flatten(0, 2))
