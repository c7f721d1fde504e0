"""From relevance to a class saliency."""

import pytest
import torch
from torch import nn

import fwdkern
from fwdkern.digits import digits_net, examples
from fwdkern.errors import InputError, LayerError
from fwdkern.metrics import EnergyPointingGame
from fwdkern.saliency import RawRelevance, Saliency, _Asked, _best, above, last_positions, smoothed
from tests.networks.convnext import ConvNeXt
from tests.networks.swin import Swin
from tests.networks.vit import ViT


def test_a_gaussian_keeps_the_sum_of_what_lies_inside() -> None:
    maps = torch.zeros(2, 41, 53)
    maps[0, 20, 26], maps[1, 18, 22] = 1, -3
    soft = smoothed(maps, 3.0)
    assert torch.allclose(soft.sum((1, 2)), torch.tensor([1.0, -3.0]), atol=1e-4)
    assert soft[0].argmax() == 20 * 53 + 26 and soft[1].argmin() == 18 * 53 + 22
    offsets = torch.arange(41) - 20.0
    variance = (soft[0].sum(1) * offsets**2).sum()
    assert variance == pytest.approx(9.0, rel=1e-3)


def test_saliency_lies_on_the_digit_and_asks_for_the_class() -> None:
    canvases = examples()
    method = Saliency(digits_net())
    maps = method.attribute(canvases.images, canvases.labels)
    assert maps.shape == (24, 64, 64) and maps.min() >= 0
    energy = EnergyPointingGame()
    energy.update(maps, [box[None] for box in canvases.boxes])
    blind = EnergyPointingGame()
    blind.update(torch.ones_like(maps), [box[None] for box in canvases.boxes])
    assert energy.compute() > 3 * blind.compute()
    other = method.attribute(canvases.images, (canvases.labels + 1) % 10)
    assert not torch.allclose(maps, other)


def test_a_map_does_not_depend_on_its_batch_or_on_who_fused() -> None:
    images = examples().images[:5]
    method = Saliency(digits_net())
    whole = method.attribute(images)
    alone = torch.cat([method.attribute(image[None]) for image in images])
    fused = Saliency(fwdkern.fuse(digits_net(), images)).attribute(images)
    assert torch.allclose(whole, alone, atol=1e-5 * whole.max())
    assert torch.allclose(whole, fused, atol=1e-5 * whole.max())


def test_raw_relevance_is_the_map_without_biases() -> None:
    images = examples().images[:3]
    expected = fwdkern.fuse(digits_net(), images).attribute(images, 4, bias="separate").scores[:, 0]
    assert torch.allclose(RawRelevance(digits_net()).attribute(images, 4), expected, atol=1e-5)


def test_arguments_that_cannot_be_used() -> None:
    images = examples().images[:2]
    flat = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).eval()
    with pytest.raises(InputError, match="no layer"):
        last_positions(fwdkern.fuse(flat, torch.rand(2, 12)))
    with pytest.raises(InputError, match="must be more than 0"):
        Saliency(flat, smooth=0)
    for method in (Saliency(digits_net()), RawRelevance(digits_net())):
        with pytest.raises(InputError, match=r"one class per input .*, not 2"):
            method.attribute(images, torch.tensor([[0, 1], [2, 3]]))
    with pytest.raises(LayerError, match="no layer is called"):
        Saliency(digits_net(), "nowhere").attribute(images)
    with pytest.raises(InputError, match=r"baselines=.*the inputs have 1 channels"):
        Saliency(digits_net(), baselines=[0.0, 0.0]).attribute(images)
    with pytest.raises(InputError, match="has no positions"):
        Saliency(digits_net(), fwdkern.fuse(digits_net(), images).layers[-1].parents[0]).attribute(images)


class Bright(nn.Module):
    """A class for the mean of each of four quarters, so that a class lives in one quarter of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(16)
        self.conv = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.constant_(self.conv.weight, 9.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pool(torch.relu(self.conv(x))).flatten(1)


@pytest.mark.parametrize("ending", [nn.Identity(), nn.Softmax(1), nn.LogSoftmax(1)])
def test_the_map_lies_where_the_class_does_however_the_scores_are_given(ending: nn.Module) -> None:
    images = torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(0)) + 0.5
    maps = Saliency(nn.Sequential(Bright(), ending).eval()).attribute(images, torch.arange(4))
    assert maps.shape == (4, 32, 32) and 0 <= maps.min() and maps.max() == pytest.approx(1)
    quarters = nn.functional.avg_pool2d(maps[:, None], 16).flatten(1)
    assert (quarters.argmax(1) == torch.arange(4)).all()
    assert torch.allclose(maps, Saliency(Bright().eval()).attribute(images, torch.arange(4)), atol=1e-5)


def test_of_several_maps_the_one_is_taken_that_keeps_the_class_and_is_small() -> None:
    net = fwdkern.fuse(Bright().eval(), torch.rand(1, 1, 32, 32))
    images, target = torch.ones(2, 1, 32, 32), torch.tensor([0, 3])
    quarter, rest = torch.zeros(2, 32, 32), torch.ones(2, 32, 32)
    quarter[0, :16, :16] = quarter[1, 16:, 16:] = 1
    asked = _Asked(net, images, target, torch.zeros(1, 1, 1))
    inside, outside = asked.gain(quarter), asked.gain(rest - quarter)
    alone = torch.tensor([9.0, 0, 0, 0]).softmax(0)[0]  # the other quarters are black
    assert torch.allclose(inside, (alone / 0.25 - 0.25).expand(2), atol=1e-4)
    assert (outside < 0).all()
    assert torch.equal(_best([rest, quarter], [outside, inside]), quarter)
    assert torch.equal(_best([rest, quarter], [inside, inside]), rest)
    # What is hidden may as well be as bright as the rest: then hiding changes nothing.
    bright = _Asked(net, images, target, torch.ones(1, 1, 1))
    assert torch.allclose(bright.probability(quarter, 0.5), torch.full((2,), 0.25))


def test_one_output_and_hopeless_classes_have_maps_too() -> None:
    images = examples().images[:2]
    one = nn.Sequential(digits_net(), nn.Linear(10, 1)).eval()
    steep = nn.Sequential(digits_net(), Scaled()).eval()
    for model, target in ((one, 0), (steep, (steep(images).argmin(1)))):
        maps = Saliency(model).attribute(images, target)
        assert maps.isfinite().all() and maps.flatten(1).amax(1) == pytest.approx(1)


class Scaled(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 1000


def test_layers_are_the_last_ones_of_their_resolution() -> None:
    images = examples().images[:1]
    net = fwdkern.fuse(digits_net(), images)
    late = last_positions(net)
    higher = above(net, late)
    shapes = {layer.name: layer.shape for layer in net.layers}
    assert 2 * shapes[higher][1] >= 3 * shapes[late][1]
    names = list(shapes)
    between = names[names.index(higher) + 1 : names.index(late)]
    assert all(len(shapes[name]) != 3 or 2 * shapes[name][1] < 3 * shapes[late][1] for name in between)
    assert above(net, names[0]) == names[0]


@pytest.mark.parametrize(
    "model, size, late, higher",
    [
        (ViT(), (12, 16), "patches", "patches"),
        (ViT(need_weights=True), (12, 16), "patches", "patches"),
        (Swin(), (32, 32), "permute_1", "patches"),
        (ConvNeXt(), (32, 32), "stages.3.add", "stages.1.permute_1"),
    ],
    ids=["vit", "vit, weights", "swin", "convnext"],
)
def test_heads_and_windows_of_attention_are_no_positions(
    model: nn.Module, size: tuple[int, int], late: str, higher: str
) -> None:
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    net = fwdkern.fuse(model.eval(), images)
    assert (last_positions(net), above(net, late)) == (late, higher)
    assert Saliency(net).attribute(images, 1).shape == (2, *size)
