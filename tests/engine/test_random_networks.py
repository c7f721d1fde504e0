"""Random small networks: the fused network is the model, and both modes give the frozen Jacobian's maps."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import fwdkern
from fwdkern.algorithm1 import algorithm1, switch
from tests.networks.random_networks import Program, networks
from tests.oracle import assert_close, autograd
from tests.test_algorithm1 import chains

MODES = ("forward", "reverse")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors here are tiny: waking a second thread costs more than it saves."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@settings(max_examples=40)
@given(networks(), st.data())
def test_maps_are_those_of_the_frozen_jacobian(case: tuple[Program, Tensor], data: st.DataObject) -> None:
    network, x = case
    before = x.clone()
    net = fwdkern.fuse(network, x)
    expected = autograd(network, x)
    with torch.no_grad():
        assert_close(net(x).flatten(1), expected.outputs)
    last = net.layers[-1].name
    count = data.draw(st.integers(1, x[0, 0].numel()))
    batched = data.draw(st.booleans())
    labels = torch.arange((len(x) if batched else 1) * x[0, 0].numel()) * 7 % count
    labels = labels.view(len(x), *x.shape[2:]) if batched else labels.view(x.shape[2:])
    labels.flatten()[0] = count - 1
    for mode in MODES:
        maps = net.attribute_units(x, last, mode=mode, strict=True)
        assert maps.mode == mode
        assert_close(maps.scores, expected.uniform)
        assert_close(maps.outputs, expected.outputs)
        separate = net.attribute_units(x, last, features="channels", bias="separate", mode=mode, strict=True)
        assert_close(separate.scores, expected.channels)
        assert_close(separate.bias, expected.bias)
        parts = net.attribute_units(x, last, features=labels, bias="separate", mode=mode, strict=True)
        assert_close(parts.scores, expected.segments(labels, count))
        sums = net.attribute_units(x, last, "channels", mode=mode, strict=True)
        channels = net.layer(last).shape[0]
        assert_close(sums.scores, expected.uniform.unflatten(1, (channels, -1)).sum(2))
    assert x.equal(before)


@settings(max_examples=25)
@given(networks())
def test_bias_mass_lies_inside_a_field_that_covers_the_map(case: tuple[Program, Tensor]) -> None:
    network, x = case
    net = fwdkern.fuse(network, x)
    last = net.layers[-1].name
    fields = net.receptive_field(last, "all").tolist()
    apart = net.attribute_units(x, last, bias="separate", mode="reverse")
    inside = net.attribute_units(x, last, bias="receptive_field", strict=True)
    spread = inside.scores - apart.scores
    assert_close(spread.sum((2, 3)), apart.bias)
    for unit, (y0, x0, y1, x1) in enumerate(fields):
        outside = torch.ones(x.shape[2:], dtype=torch.bool)
        outside[y0:y1, x0:x1] = False
        assert not apart.scores[:, unit, outside].any()
        # A unit that sees nothing of the image has its bias mass everywhere.
        if y1 > y0 and x1 > x0:
            assert not spread[:, unit, outside].any()


@settings(max_examples=25)
@given(networks(), st.data())
def test_every_layer_in_one_pass(case: tuple[Program, Tensor], data: st.DataObject) -> None:
    network, x = case
    net = fwdkern.fuse(network, x)
    names = [layer.name for layer in net.layers]
    together = net.attribute_layers(x, names, strict=True)
    assert list(together) == names
    for layer in net.layers:
        assert together[layer.name].scores.shape == (len(x), torch.Size(layer.shape).numel(), *x.shape[2:])
    name = data.draw(st.sampled_from(names))
    alone = net.attribute_units(x, name, mode="reverse", strict=True)
    assert_close(together[name].scores, alone.scores)
    parts = list(net.iter_units(x, name, memory="32KiB", strict=True))
    assert_close(torch.cat([part.scores for part in parts], 1), alone.scores)
    assert torch.cat([part.units for part in parts]).equal(alone.units)


@settings(max_examples=20)
@given(chains())
def test_chains_equal_algorithm1(case: tuple[nn.Sequential, Tensor]) -> None:
    network, x = case
    net = fwdkern.fuse(network, x[None])
    expected = algorithm1(network, x)
    last = net.layers[-1].name
    for mode in MODES:
        found = net.attribute_units(x[None], last, mode=mode, strict=True)
        maps = found.scores[0].view_as(expected)
        # Without an activation the thesis switches off an output of exactly 0, of which a map is left here.
        assert_close(switch(maps, found.outputs[0].view(expected.shape[:-2])), expected)
