"""GradCAM against Captum's, at layers that later ones write into, and at the layer it chooses."""

import pytest
import torch
from captum.attr import LayerAttribution, LayerGradCam
from torch import Tensor, nn
from torch.nn import functional as F

from fwdkern.baselines import GradCAM, default_layer
from fwdkern.digits import digits_net, examples
from fwdkern.errors import InputError, LayerError
from tests import data
from tests.networks.families import FAMILIES
from tests.networks.mobilenet_v2 import mobilenet_v2
from tests.networks.squeezenet import squeezenet1_1
from tests.oracle import assert_close


def photos(size: int = 64) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def captum(model: nn.Module, layer: nn.Module, x: Tensor, classes: Tensor) -> Tensor:
    small = LayerGradCam(model, layer).attribute(x, classes, relu_attributions=True)
    return LayerAttribution.interpolate(small, tuple(x.shape[2:]), "bilinear")[:, 0].detach()


@pytest.mark.parametrize("layer", ["features.4", "features.12", "classifier.2"])
def test_squeezenet_equals_captum(layer: str) -> None:
    torch.manual_seed(0)
    model, x, classes = squeezenet1_1().double().eval(), photos().double(), torch.tensor([3, 700])
    found = GradCAM(model, layer).attribute(x, classes)
    assert found.shape == (2, 64, 64)
    assert_close(found, captum(model, model.get_submodule(layer), x, classes), 1e-12)


@pytest.mark.parametrize("layer", ["features.18", "features.3"])
def test_mobilenet_equals_captum(layer: str) -> None:
    torch.manual_seed(0)
    model, x, classes = mobilenet_v2().double().eval(), photos().double(), torch.tensor([3, 700])
    found = GradCAM(model, model.get_submodule(layer)).attribute(x, classes)
    assert_close(found, captum(model, model.get_submodule(layer), x, classes), 1e-12)


@pytest.mark.parametrize("load", [data.squeezenet, data.mobilenet_v2])
def test_trained_networks_equal_captum(load: object) -> None:
    model, (x, classes) = load(), data.imagenet_photos(2)  # type: ignore[operator]
    layer = model.features[-1]
    found = GradCAM(model, layer).attribute(x, classes)
    assert found.amax((1, 2)).min() > 0
    assert_close(found, captum(model, layer, x, classes), 1e-5)


def test_a_later_layer_that_writes_in_place() -> None:
    """The layer's own output counts, not what a ReLU makes of the same memory."""
    torch.manual_seed(0)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    layers = [nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)]
    writes = nn.Sequential(layers[0], nn.ReLU(inplace=True), layers[1], nn.ReLU(inplace=True), head).eval()
    copies = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), head).eval()
    x = photos(12)
    for layer in ("0", "1", "2", "3"):
        assert torch.equal(GradCAM(writes, layer).attribute(x), GradCAM(copies, layer).attribute(x))
    below, above = GradCAM(copies, "2").attribute(x), GradCAM(copies, "3").attribute(x)
    assert not torch.allclose(below, above)


def test_one_convolution_by_hand() -> None:
    """Two channels, weights 3 and -2 after the mean over four positions: the map is relu((3 A_0 - 2 A_1) / 4)."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model.append(nn.Linear(2, 1, bias=False)).eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, 2.0])[:, None, None, None])
        model[4].weight.copy_(torch.tensor([[3.0, -2.0]]))
    x = torch.tensor([[[[1.0, 2.0], [4.0, 0.0]]]])
    # A_0 = x, A_1 = 2x: 3x - 4x is negative everywhere.
    assert torch.equal(GradCAM(model, "1").attribute(x, 0), torch.zeros(1, 2, 2))
    with torch.no_grad():
        model[4].weight.copy_(torch.tensor([[3.0, 2.0]]))
    assert_close(GradCAM(model, "1").attribute(x, 0), 7 / 4 * x[:, 0], 1e-6)


def test_default_layers() -> None:
    x = photos()
    assert default_layer(squeezenet1_1().eval(), x) == "features.12"  # neither the dropout nor the class channels
    assert default_layer(mobilenet_v2().eval(), x) == "features.18.2"
    for name, layer in (("resnet_bottleneck", "layer2.1.relu@2"), ("googlenet", "inception4a"), ("vgg", "avgpool")):
        family = FAMILIES[name]
        assert default_layer(family.factory(), torch.rand(1, *family.input_shape)) == layer


def test_class_channels_are_taken_where_there_are_no_others() -> None:
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    assert default_layer(nn.Sequential(*layers).eval(), photos()) == "1"


def test_the_default_layer_is_used_and_shown() -> None:
    x, model = examples().images[:2], digits_net()
    method = GradCAM(model)
    assert method.layer is None
    found = method.attribute(x)
    assert method.layer == "pool@2"
    assert torch.equal(found, GradCAM(model, "pool@2").attribute(x))
    assert not torch.equal(found, GradCAM(model, "pool@1").attribute(x))


def test_a_second_call_of_a_module() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared = nn.Conv2d(3, 3, 3, padding=1)
            self.head = nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.shared(x), inplace=True)
            return self.head(F.relu(self.shared(x), inplace=True).mean((2, 3)))

    torch.manual_seed(0)
    model, x = Twice().eval(), photos(8)
    with torch.no_grad():
        value = model.shared(model.shared(x).relu())
    value.requires_grad_()
    model.head(value.relu().mean((2, 3)))[:, 1].sum().backward()
    expected = (value.grad.mean((2, 3), keepdim=True) * value).sum(1).relu()
    assert_close(GradCAM(model, "shared@1").attribute(x, 1), expected.detach(), 1e-6)
    with pytest.raises(
        LayerError, match=r"'shared@2' is not reached: the model calls .* 2 times; shared@1 is the last"
    ):
        GradCAM(model, "shared@2").attribute(x, 1)


def test_bad_layers() -> None:
    model, x = squeezenet1_1().eval(), photos()
    with pytest.raises(LayerError, match=r"no module is called 'features.99'; close: 'features.9'"):
        GradCAM(model, "features.99")
    with pytest.raises(LayerError, match=r"no module is called 'features.9@last'"):
        GradCAM(model, "features.9@last")
    with pytest.raises(LayerError, match="ReLU is not a module of this SqueezeNet"):
        GradCAM(model, nn.ReLU())
    with pytest.raises(
        InputError, match=r"'classifier.3' must return a map .*, got \[2, 1000, 1, 1\]: .* such as 'features.12'"
    ):
        GradCAM(model, "classifier.3").attribute(x)
    model.unused = nn.Conv2d(3, 3, 1)
    with pytest.raises(LayerError, match=r"'unused' is not reached: the model calls module 'unused' 0 times"):
        GradCAM(model.eval(), "unused").attribute(x)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 4)).eval()
    with pytest.raises(InputError, match="no module of Sequential returns a map"):
        GradCAM(flat).attribute(x)
