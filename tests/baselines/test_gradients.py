"""Input times gradient and SmoothGrad."""

import pytest
import torch
from captum.attr import InputXGradient as CaptumInputXGradient
from torch import Tensor, nn

from fwdkern.baselines import InputXGradient, SmoothGrad
from fwdkern.digits import digits_net, examples
from fwdkern.errors import InputError
from tests import data
from tests.baselines.test_methods import X, network
from tests.oracle import assert_close


def captum(model: nn.Module, x: Tensor, classes: Tensor) -> Tensor:
    return CaptumInputXGradient(model).attribute(x.clone().requires_grad_(), target=classes).sum(1).detach()


def test_input_x_gradient_equals_captum() -> None:
    model, classes = network(), torch.tensor([0, 4, 2])
    assert_close(InputXGradient(model).attribute(X, classes), captum(model, X, classes), 1e-14)


@pytest.mark.parametrize("load", [data.squeezenet, data.mobilenet_v2])
def test_input_x_gradient_of_trained_networks(load: object) -> None:
    model, (x, classes) = load(), data.imagenet_photos(1)  # type: ignore[operator]
    assert_close(InputXGradient(model).attribute(x, classes), captum(model, x, classes), 1e-5)


class Square(nn.Module):
    """Scores are the sum over pixels of x², and its opposite: the gradients are 2x and −2x."""

    def forward(self, x: Tensor) -> Tensor:
        total = x.square().sum((1, 2, 3))
        return torch.stack([total, -total], 1)


def test_smoothgrad_without_noise_is_the_gradient() -> None:
    found = SmoothGrad(Square().eval(), nt_samples=2, noise=0).attribute(X, 0)
    assert_close(found, (2 * X).abs().sum(1), 1e-14)


def test_smoothgrad_averages_the_noise_of_the_stated_size() -> None:
    """The mean gradient differs from 2x by twice the mean noise: deviation 2 · noise · range / sqrt(samples)."""
    x = torch.full((2, 1, 100, 100), 5.0)
    x[:, 0, 0, 0] = torch.tensor([6.0, 9.0])
    found = SmoothGrad(Square().eval(), nt_samples=4, noise=0.2).attribute(x, 0)[:, 1:]
    expected = 2 * 0.2 * torch.tensor([1.0, 4.0]) / 4**0.5
    assert found.mean((1, 2)) == pytest.approx(10 * torch.ones(2), rel=1e-2)
    assert found.std((1, 2)) == pytest.approx(expected, rel=5e-2)


def test_smoothgrad_sees_the_digit() -> None:
    canvases = examples()
    x = canvases.images[:6]
    found = SmoothGrad(digits_net()).attribute(x, canvases.labels[:6])
    for values, (x0, y0, x1, y1) in zip(found, canvases.boxes[:6].tolist(), strict=True):
        inside = values[y0:y1, x0:x1]
        assert inside.mean() > 4 * (values.sum() - inside.sum()) / (values.numel() - inside.numel())


def test_smoothgrad_explains_the_noiseless_top_class() -> None:
    model = network()
    assert torch.equal(
        SmoothGrad(model, noise=2.0).attribute(X), SmoothGrad(model, noise=2.0).attribute(X, model(X).argmax(1))
    )


def test_bad_arguments() -> None:
    with pytest.raises(InputError, match="nt_samples=0 must be at least 1"):
        SmoothGrad(network(), nt_samples=0)
    with pytest.raises(InputError, match="noise=nan must be 0 or more"):
        SmoothGrad(network(), noise=float("nan"))
