"""Transformers and normalised networks: both modes give the maps of the network frozen by hand, to rounding."""

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import fwdkern
from tests.networks.convnext import ConvNeXt
from tests.networks.families import randomise
from tests.networks.frozen import frozen
from tests.networks.maxvit import MaxViT
from tests.networks.swin import Swin
from tests.networks.text import WORDS, Decoder, Encoder
from tests.networks.vit import ViT
from tests.oracle import assert_close, autograd

IMAGES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "vit": (ViT, (3, 12, 16)),
    "vit with weights": (functools.partial(ViT, need_weights=True), (3, 12, 16)),
    "swin": (Swin, (3, 16, 20)),
    "swin v2": (functools.partial(Swin, version=2), (3, 16, 20)),
    "maxvit": (MaxViT, (3, 16, 16)),
    "convnext": (ConvNeXt, (3, 16, 24)),
}
TEXTS: dict[str, Callable[[], nn.Module]] = {"encoder": Encoder, "decoder": Decoder}


def _network(factory: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = randomise(factory()).double().eval()
        for module in network.modules():
            if isinstance(module, nn.LayerNorm):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias)
    return network.requires_grad_(False)


@functools.cache
def fused(name: str) -> tuple[nn.Module, fwdkern.FusedModel, Tensor]:
    factory, shape = IMAGES[name]
    network, x = _network(factory), torch.randn(2, *shape, generator=torch.Generator().manual_seed(1)).double()
    return network, fwdkern.fuse(network, x), x


@pytest.mark.parametrize("name", IMAGES)
def test_images(name: str) -> None:
    network, net, x = fused(name)
    for batch in (x, x[:1], x.repeat(2, 1, 1, 1)):
        assert_close(net(batch), network(batch))
    assert not [layer.name for layer in net.layers if layer.rule is None]
    with frozen():
        expected = autograd(network, x)
    assert_close(expected.outputs, network(x))
    for mode in ("forward", "reverse"):
        found = net.attribute(x, "all", mode=mode, strict=True)
        assert_close(found.scores, expected.uniform)
        assert_close(found.bias, expected.bias)


@pytest.mark.parametrize("name", ["vit", "swin", "maxvit"])
def test_fields_cover_the_maps_of_every_layer(name: str) -> None:
    _, net, x = fused(name)
    for layer in net.layers[:: max(1, len(net.layers) // 12)]:
        sizes = torch.tensor(layer.shape)
        units = torch.stack([torch.zeros_like(sizes), sizes // 2, sizes - 1])
        forward = net.attribute_units(x, layer.name, units, bias="separate", mode="forward", strict=True)
        reverse = net.attribute_units(x, layer.name, units, bias="separate", mode="reverse", strict=True)
        assert_close(forward.scores, reverse.scores)
        for row, (y0, x0, y1, x1) in enumerate(net.receptive_field(layer.name, units).tolist()):
            outside = forward.scores[:, row].clone()
            outside[:, y0:y1, x0:x1] = 0
            assert not outside.any()


def test_fields_of_windows_are_theirs() -> None:
    """One unit of the first block of a Swin sees its window, 8 x 8 pixels, and no more."""
    _, net, _ = fused("swin")
    field = net.receptive_field("stage_1.0", torch.tensor([[0, 0, 0], [3, 9, 7]]))
    assert field.tolist() == [[0, 0, 8, 8], [0, 16, 8, 20]]


def test_every_request_of_a_vision_transformer() -> None:
    network, net, x = fused("vit")
    names = ["blocks.0", "blocks.1.attention", "layer_norm", "blocks.0.attention.scaled_dot_product_attention"]
    together = net.attribute_layers(x, names, strict=True)
    alone = net.attribute_units(x, names[0], strict=True, mode="reverse")
    assert_close(together[names[0]].scores, alone.scores)
    window = net.attribute_units(x, "patches", layout="window", strict=True)
    assert window.scores.shape[2:] == (4, 4)
    whole = net.attribute_units(x, "patches", bias="separate", strict=True)
    (y, z), row = window.origin[0, -1].tolist(), -1
    bare = net.attribute_units(x, "patches", layout="window", bias="separate", strict=True)
    assert_close(bare.scores[0, row], whole.scores[0, row, y : y + 4, z : z + 4])
    classes = net.attribute(x, 3, strict=True)
    parts = net.decompose(x, 3, "blocks.0", top=5)
    assert_close(parts.scores.sum(1, keepdim=True), classes.scores)
    shares = net.contributions(x, 3, "blocks.0")
    assert_close(shares.shares.flatten(1).sum(1) + shares.rest.flatten(), network(x)[:, 3])


@pytest.mark.parametrize("name", TEXTS)
def test_texts(name: str) -> None:
    network = _network(TEXTS[name])
    tokens = torch.randint(1, WORDS, (3, 7), generator=torch.Generator().manual_seed(1))
    tokens[1, 4:] = 0
    net = fwdkern.fuse(network, tokens)
    for given in (tokens, tokens[:1], tokens[:, :4]):
        assert_close(net(given), network(given))
        with frozen():
            expected = autograd(lambda x, given=given: network.read(x, given), network.words(given))
        for mode in ("forward", "reverse"):
            found = net.attribute(given, "all", bias="separate", mode=mode, strict=True)
            assert_close(found.scores, expected.channels.sum(-1))
            assert_close(found.bias, expected.bias)
