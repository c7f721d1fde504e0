"""GradCAM++ by hand, and against autograd's derivatives of exp(score)."""

import pytest
import torch
from torch import Tensor, nn

from fwdkern.baselines import GradCAMPlusPlus
from tests import data
from tests.oracle import assert_close


def network(weights: Tensor) -> nn.Module:
    """Two channels A_0 = relu(x), A_1 = relu(2x), one weight for every unit: [1, 1, 2, 2] -> [1, 1]."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(8, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, 2.0])[:, None, None, None])
        model[3].weight.copy_(weights.view(1, 8))
    return model.double().eval()


def test_by_hand() -> None:
    """The gradient by a unit is its weight; sums over positions are 6 and 12."""
    x = torch.tensor([[[[1.0, 2.0], [3.0, -5.0]]]], dtype=torch.float64)
    slopes = torch.tensor([[[0.5, -1.0], [0.0, 2.0]], [[1.0, 0.25], [-3.0, 0.0]]], dtype=torch.float64)
    # alpha = 1 / (2 + g sum A) where g > 0: 1/5 and 1/14; 1/14 and 1/5.
    weights = 0.5 / 5 + 2 / 14, 1 / 14 + 0.25 / 5
    expected = weights[0] * x[:, 0].relu() + weights[1] * 2 * x[:, 0].relu()
    assert_close(GradCAMPlusPlus(network(slopes), "1").attribute(x, 0), expected, 1e-14)


def test_negative_gradients_alone_give_nothing() -> None:
    x = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    assert torch.equal(GradCAMPlusPlus(network(-torch.ones(8)), "1").attribute(x, 0), torch.zeros_like(x[:, 0]))


def test_a_position_on_a_pole_counts_nothing() -> None:
    """Below the ReLU sums can be negative: with x summing to -4 and g = 1/2, 2 + g sum A_0 is exactly 0."""
    x = torch.tensor([[[[-7.0, 1.0], [1.0, 1.0]]]], dtype=torch.float64)
    slopes = torch.zeros(2, 2, 2)
    slopes[0, 0, 1] = 0.5
    found = GradCAMPlusPlus(network(slopes), "0").attribute(x, 0)
    assert torch.equal(found, torch.zeros_like(found))


def test_gradients_whose_squares_underflow() -> None:
    """Gradients of 1e-25 have cubes far below the smallest float32; alpha is then 1/2."""
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    model = network(torch.full((8,), 1e-25)).float()
    assert_close(GradCAMPlusPlus(model, "1").attribute(x, 0), 4 * 0.5e-25 * 3 * x[:, 0], 1e-6)


def test_closed_form_equals_derivatives_of_the_exponential() -> None:
    """alpha from autograd's second and third derivatives of exp(S) by single units."""
    torch.manual_seed(0)
    lower = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU())
    upper = nn.Sequential(nn.Conv2d(3, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
    model = nn.Sequential(lower, upper).double().eval()
    x = torch.randn(1, 1, 6, 6, dtype=torch.float64)
    value = lower(x).detach().requires_grad_()  # [1, 3, 4, 4]
    score = torch.exp(upper(value)[0, 1])
    (first,) = torch.autograd.grad(score, value, create_graph=True)
    second, third = torch.zeros_like(value), torch.zeros_like(value)
    for unit in range(value.numel()):
        (row,) = torch.autograd.grad(first.flatten()[unit], value, create_graph=True)
        second.view(-1)[unit] = row.flatten()[unit].detach()
        if row.requires_grad:
            (row,) = torch.autograd.grad(row.flatten()[unit], value, retain_graph=True)
        third.view(-1)[unit] = row.flatten()[unit].detach()
    below = 2 * second + value.sum((2, 3), keepdim=True) * third
    alpha = torch.where(below != 0, second / below, 0)
    assert (first > 0).sum() > 5
    weights = (alpha * first.relu()).sum((2, 3), keepdim=True)
    small = (weights * value).sum(1, keepdim=True).relu()
    expected = nn.functional.interpolate(small, (6, 6), mode="bilinear")[:, 0] / score
    assert_close(GradCAMPlusPlus(model, "0").attribute(x, 1), expected.detach(), 1e-12)


@pytest.mark.parametrize("load", [data.squeezenet, data.mobilenet_v2])
def test_trained_networks(load: object) -> None:
    """After a ReLU no position is lost, and the closed form as printed gives the same in float64."""
    model, (x, classes) = load().double(), data.imagenet_photos(1)  # type: ignore[operator]
    x = x.double()
    method = GradCAMPlusPlus(model)
    value = torch.rand(1, 6, 5, 5, dtype=torch.float64)
    slope = torch.randn(1, 6, 5, 5, dtype=torch.float64)
    printed = slope**2 / (2 * slope**2 + value.sum((2, 3), keepdim=True) * slope**3)
    assert_close(method.weights(value, slope), (printed * slope.relu()).sum((2, 3)), 1e-12)
    found = method.attribute(x, classes)
    assert found.isfinite().all() and found.min() >= 0 and found.max() > 0
