"""Every common CNN family: the fused network is the model, its maps are those of autograd on the network with its
coefficients frozen, in both modes."""

import functools

import pytest
import torch
from torch import Tensor, nn

import fwdkern
from tests.frozen_coefficients import FrozenCoefficients
from tests.networks.families import FAMILIES
from tests.oracle import assert_close, autograd


@functools.cache
def fused(name: str) -> tuple[nn.Module, fwdkern.FusedModel, Tensor]:
    factory, shape = FAMILIES[name]
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    network = factory().double()
    return network, fwdkern.fuse(network, x), x


@pytest.mark.parametrize("name", FAMILIES)
def test_plain_output_for_any_batch(name: str) -> None:
    network, net, x = fused(name)
    with torch.no_grad():
        for batch in (x, x[:1], torch.cat([x, x])):
            assert_close(net(batch), network(batch), 1e-9)
        if name not in ("mlp", "autoencoder"):  # their view(0, -1) is ambiguous, in the model as in here
            assert net(x[:0]).shape == network(x[:0]).shape
    assert not [layer.name for layer in net.layers if layer.rule is None]


@pytest.mark.parametrize("name", FAMILIES)
def test_class_maps(name: str) -> None:
    network, net, x = fused(name)
    with torch.no_grad():
        targets = network(x).topk(2).indices
    with FrozenCoefficients():
        expected = autograd(network, x, targets)
    found = net.attribute(x, targets, strict=True)
    assert_close(found.scores, expected.uniform)
    assert_close(found.bias, expected.bias)
    labels = torch.arange(x[0, 0].numel()).view(x.shape[2:]) * 5 % 6
    for mode in ("forward", "reverse"):
        parts = net.attribute(x, targets, features=labels, bias="separate", mode=mode, strict=True)
        assert_close(parts.scores, expected.segments(labels, 6))


@pytest.mark.parametrize("name", FAMILIES)
def test_units_and_their_fields_through_the_network(name: str) -> None:
    _, net, x = fused(name)
    for layer in net.layers[:: max(1, len(net.layers) // 5)]:
        sizes = torch.tensor(layer.shape)
        units = torch.stack([torch.zeros_like(sizes), sizes // 2, sizes - 1])
        found = net.attribute_units(x, layer.name, units, bias="separate", strict=True)
        grid = x.shape[2:] if x.dim() == 4 else (1, x[0, 0].numel())
        for row, (y0, x0, y1, x1) in enumerate(net.receptive_field(layer.name, units).tolist()):
            outside = found.scores[:, row].view(2, *grid).clone()
            outside[:, y0:y1, x0:x1] = 0
            assert not outside.any()


def test_fields_of_a_chain_of_convolutions_are_exact() -> None:
    chain = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1),
        nn.Conv2d(3, 4, (1, 3), stride=2, dilation=2),
        nn.ConvTranspose2d(4, 2, 2, stride=2),
        nn.AvgPool2d(3, 2, 1),
    )
    x = torch.randn(1, 2, 11, 13, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    net = fwdkern.fuse(chain.double().eval(), x)
    for layer in net.layers:
        found = net.attribute_units(x, layer.name, bias="separate").scores[0]
        for maps, field in zip(found, net.receptive_field(layer.name, "all").tolist(), strict=True):
            seen = maps.nonzero()
            assert [*seen.amin(0).tolist(), *(seen.amax(0) + 1).tolist()] == field


# The engine of active rows holds no volumes and no resizing.
@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in ("autoencoder", "video")])
@pytest.mark.usefixtures("native_library")
def test_active_rows(name: str) -> None:
    factory, shape = FAMILIES[name]
    x = torch.randn(1, *shape, generator=torch.Generator().manual_seed(1))
    net = fwdkern.fuse(factory(), x)
    expected = net.attribute(x, "all", backend="torch", bias="separate", strict=True)
    scale = expected.scores.abs().max()
    for mode in ("forward", "reverse"):
        found = net.attribute(x, "all", mode=mode, backend="cpu", bias="separate", strict=True)
        assert_close(found.scores / scale, expected.scores / scale, 1e-5)
        assert_close(found.bias, expected.bias, 1e-4)
