"""The drop-in modules, used one by one without fuse."""

import pytest
import torch
from torch import Tensor, nn

import fwdkern
from fwdkern import nn as fnn
from fwdkern.errors import InputError, UnsupportedOperatorError


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1, stride=2),
        nn.BatchNorm2d(6),
        nn.ReLU6(),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.BatchNorm2d(6),
        nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(6, 4, 2, stride=2),
        nn.PReLU(4),
        nn.AvgPool2d(2),
        nn.AdaptiveAvgPool2d((2, 1)),
        nn.Flatten(),
        nn.Linear(8, 3),
    ).double()
    for module in model:
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return model.eval()


def _by_hand(model: nn.Sequential) -> list[fnn.RelevanceLayer]:
    return [
        fnn.RelevanceConv2d.from_torch(model[0], bn=model[1], activation=model[2]),
        fnn.RelevanceMaxPool2d.from_torch(model[3]),
        fnn.RelevanceBatchNorm2d.from_torch(model[4], activation=model[5]),
        fnn.RelevanceConvTranspose2d.from_torch(model[6], activation=model[7]),
        fnn.RelevanceAvgPool2d.from_torch(model[8]),
        fnn.RelevanceAvgPool2d.from_torch(model[9]),
        fnn.RelevanceLinear.from_torch(model[11]),
    ]


@torch.no_grad()
def test_both_directions_agree_with_the_fused_network() -> None:
    model, x = _model(), torch.randn(2, 2, 12, 10, dtype=torch.float64)
    layers = _by_hand(model)
    expected = fwdkern.fuse(model, x).attribute(x, target="all", bias="separate")
    value, rows, values = x, fnn.seed(x), [x]
    for layer in layers:
        if isinstance(layer, fnn.RelevanceLinear):
            value, rows = value.flatten(1), rows.flatten(2)
            values[-1] = value
        assert torch.equal(layer(value), layer.forward_relevance(value, rows)[0])
        value, rows = layer.forward_relevance(value, rows)
        values.append(value)
    torch.testing.assert_close(value, model(x))
    maps = rows[:-1].permute(1, 2, 0).reshape(expected.scores.shape)
    torch.testing.assert_close(maps, expected.scores, rtol=0, atol=1e-12)
    torch.testing.assert_close(rows[-1], expected.bias, rtol=0, atol=1e-12)

    pulled = torch.eye(3, dtype=torch.float64)[:, None].expand(3, 2, 3)
    mass = torch.zeros(3, 2, dtype=torch.float64)
    for layer, before in zip(reversed(layers), reversed(values[:-1]), strict=True):
        pulled, part = layer.reverse_relevance(before, pulled)
        mass += part
        if isinstance(layer, fnn.RelevanceLinear):
            pulled = pulled.unflatten(2, (4, 2, 1))
    torch.testing.assert_close((pulled * x).sum(2).transpose(0, 1), expected.scores, rtol=0, atol=1e-12)
    torch.testing.assert_close(mass.T, expected.bias, rtol=0, atol=1e-12)


def test_weights_are_shared_unless_folded() -> None:
    conv, bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4).eval()
    assert fnn.RelevanceConv2d.from_torch(conv).weight.data_ptr() == conv.weight.data_ptr()
    assert fnn.RelevanceConv2d.from_torch(conv, bn).weight.data_ptr() != conv.weight.data_ptr()


@pytest.mark.parametrize("conv", [nn.Conv2d(3, 4, 3, padding="same"), nn.Conv2d(3, 4, 3, padding_mode="reflect")])
def test_a_convolution_that_pads_by_itself_is_refused(conv: nn.Conv2d) -> None:
    with pytest.raises(InputError, match=r"F\.pad"):
        fnn.RelevanceConv2d.from_torch(conv)


def test_activations_and_pools_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UnsupportedOperatorError, match="GELU"):
        fnn.RelevanceLinear.from_torch(nn.Linear(2, 2), activation=nn.GELU())
    with pytest.raises(InputError, match="statistics"):
        fnn.RelevanceConv2d.from_torch(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, track_running_stats=False))
    with pytest.raises(InputError, match="open size"):
        fnn.RelevanceAvgPool2d.from_torch(nn.AdaptiveAvgPool2d((None, 2)))


def test_seed_of_images_and_vectors() -> None:
    x: Tensor = torch.randn(2, 3, 4, 5)
    rows = fnn.seed(x)
    assert rows.shape == (21, 2, 3, 4, 5)
    assert torch.equal(rows.sum(0), x) and not rows[-1].any()
    assert torch.equal(fnn.seed(x.flatten(1)).sum(0), x.flatten(1))


def test_vectors() -> None:
    layers = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).double().eval()
    x = torch.randn(4, 6, dtype=torch.float64)
    value, rows = x, fnn.seed(x)
    for layer in (fnn.RelevanceLinear.from_torch(layers[0], layers[1]), fnn.RelevanceLinear.from_torch(layers[2])):
        value, rows = layer.forward_relevance(value, rows)
    expected = fwdkern.fuse(layers, x).attribute(x, "all", bias="separate")
    torch.testing.assert_close(rows[:-1].permute(1, 2, 0), expected.scores)
    torch.testing.assert_close(rows[-1], expected.bias)


def test_rows_are_left_as_they_were() -> None:
    layer, x = fnn.RelevanceReLU.from_torch(nn.ReLU6()), torch.randn(1, 2, 3, 3) * 9
    rows = fnn.seed(x)
    before = rows.clone()
    layer.forward_relevance(x, rows)
    layer.reverse_relevance(x, rows)
    assert rows.equal(before)
