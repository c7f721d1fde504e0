"""Maps of weighted sums of a layer's units, and of units of an output that is not classes."""

import functools

import pytest
import torch
from torch import Tensor, nn

import fwdkern
from fwdkern.errors import InputError, LayerError
from tests.networks.families import randomise
from tests.oracle import assert_close, autograd


@functools.cache
def setting() -> tuple[nn.Module, fwdkern.FusedModel, Tensor]:
    network = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Dropout(), nn.Conv2d(4, 3, 3), nn.ReLU())
    network = randomise(network).double().eval()
    x = torch.randn(3, 2, 6, 7, dtype=torch.float64)
    return network, fwdkern.fuse(network, x), x


@pytest.mark.parametrize("layer", ["0", "1", "3", "4"])
def test_a_sum_is_the_sum_of_its_units(layer: str) -> None:
    network, net, x = setting()
    shape = net.layer(layer).shape
    each = autograd(network, x, layer=layer)
    for weights in (torch.randn(shape), torch.randn(3, *shape, dtype=torch.float64)):
        factors = weights.double().expand(3, *shape).flatten(1)
        found = net.attribute_sum(x, layer, weights, strict=True)
        assert_close(found.scores[:, 0], torch.einsum("bk,bkhw->bhw", factors, each.uniform))
        assert_close(found.bias[:, 0], (factors * each.bias).sum(1))
        assert_close(found.outputs[:, 0], (factors * each.outputs).sum(1))
        assert torch.equal(found.units, weights.double().expand(3, *shape))
        apart = net.attribute_sum(x, net.layer(layer).name, lambda value: weights, "channels", "separate")  # noqa: B023
        assert_close(apart.scores[:, 0], torch.einsum("bk,bkchw->bchw", factors, each.channels))


def test_a_sum_of_the_input_itself() -> None:
    _, net, x = setting()
    weights = torch.randn(x.shape, dtype=x.dtype)
    found = net.attribute_sum(x, "input", weights, "channels")
    assert_close(found.scores[:, 0], weights * x)
    assert not found.bias.any()


def test_wrong_weights_are_refused() -> None:
    _, net, x = setting()
    with pytest.raises(InputError, match=r"must be .4, 6, 7. or .3, 4, 6, 7., got .4.$"):
        net.attribute_sum(x, "1", torch.ones(4))
    with pytest.raises(InputError, match="hold 168 NaN"):
        net.attribute_sum(x, "1", torch.full((4, 6, 7), torch.nan))
    with pytest.raises(InputError, match="no meaning for a sum"):
        net.attribute_sum(x, "1", torch.ones(4, 6, 7), bias="receptive_field")
    with pytest.raises(LayerError, match="no layer is called"):
        net.attribute_sum(x, "5", torch.ones(4))


def test_units_of_an_output_that_is_not_classes() -> None:
    network, net, x = setting()
    assert net.output_shape == (3, 4, 5)
    places = torch.tensor([[2, 3, 4], [0, 0, 0], [1, 2, 3]])
    flat = torch.stack([torch.arange(60).view(3, 4, 5)[tuple(place)] for place in places])
    expected = autograd(network, x, flat[:, None])
    for mode in ("forward", "reverse"):
        found = net.attribute(x, places, mode=mode, strict=True)
        assert_close(found.scores, expected.uniform)
        assert found.units.tolist() == places[:, None].tolist()
    one = net.attribute(x, (2, 3, 4), bias="separate")
    assert_close(one.scores, autograd(network, x, flat[:1].expand(3, 1)).pixels)
    assert_close(net.contributions(x, places, "1").delta, torch.zeros(3, dtype=x.dtype))
    for target in (None, 1, (1, 2), "all", [[1, 2, 3]] * 2, 0.5):
        with pytest.raises(InputError, match=r"does not fit a network that returns .3, 3, 4, 5."):
            net.attribute(x, target)
    with pytest.raises(InputError, match="outside"):
        net.attribute(x, (2, 3, 5))


def test_modules_name_their_layers() -> None:
    network, net, _ = setting()
    assert [net.layer(network[i]).name for i in (0, 1, 3)] == ["0", "1", "3"]
    assert net.place(network[2]) == "1" and net.place(network[2], of_input=True) == "1"
    assert net.place(network[3], of_input=True) == "1" and net.place(network[0], of_input=True) == "input"
    assert not net.outdated
