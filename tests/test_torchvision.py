"""Every convolutional classifier in torchvision's list, with random weights: captured, complete, and autograd's maps.

Without torchvision all of it is skipped. ConvNeXt, ViT, Swin and MaxViT are in the list too.
"""

import pytest
import torch
from torch import nn

import fwdkern
from tests.frozen_coefficients import FrozenCoefficients
from tests.networks.families import randomise
from tests.oracle import assert_close, autograd

models = pytest.importorskip("torchvision.models", reason="torchvision is not installed", exc_type=ImportError)

# Sides of the smallest images that a network takes, where that is more than 64 pixels.
SIDES = {"alexnet": 96, "squeezenet": 96, "inception": 128, "vit": 224, "swin": 64, "maxvit": 224}
# Their norms and products of matrices have rules that the oracle of frozen coefficients does not know.
TRANSFORMERS = ("convnext", "maxvit", "swin", "vit")


def network(name: str) -> nn.Module:
    keywords = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = models.get_model(name, weights=None, num_classes=10, **keywords)
        return randomise(built).eval() if not name.startswith(TRANSFORMERS) else built.eval()


@pytest.mark.slow
@pytest.mark.parametrize("name", models.list_models(module=models))
def test_classifier(name: str) -> None:
    side = next((side for family, side in SIDES.items() if name.startswith(family)), 64)
    model, random = network(name), torch.Generator().manual_seed(0)
    x = torch.randn(1, 3, side, side, generator=random)
    net = fwdkern.fuse(model, x)
    assert not [layer.name for layer in net.layers if layer.rule is None]
    found = net.attribute(x, bias="separate", strict=True)
    magnitude = torch.maximum(found.outputs.abs(), found.scores.abs().flatten(2).sum(2))
    assert (found.delta.abs() <= 1e-5 * magnitude).all()
    if name.startswith(TRANSFORMERS):
        return
    model, x, top = model.double(), x.double(), found.units.view(1, 1)
    net = fwdkern.fuse(model, x)
    with torch.no_grad():
        assert_close(net(x), model(x), 1e-9)
    with FrozenCoefficients():
        expected = autograd(model, x, top)
    found = net.attribute(x, top, bias="separate", strict=True)
    scale = expected.pixels.abs().max()
    # A unit within rounding of a kink may be on in one and off in the other.
    assert_close(found.scores / scale, expected.pixels / scale, 1e-8)
