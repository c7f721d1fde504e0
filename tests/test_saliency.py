"""From relevance to a class saliency."""

import pytest
import torch
from torch import nn

import fwdkern
from fwdkern.digits import digits_net, examples
from fwdkern.errors import InputError, LayerError
from fwdkern.metrics import EnergyPointingGame
from fwdkern.saliency import RawRelevance, Saliency, last_positions, smoothed


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
        with pytest.raises(InputError, match="of one class for each image, got 2"):
            method.attribute(images, torch.tensor([[0, 1], [2, 3]]))
    with pytest.raises(LayerError, match="no layer is called"):
        Saliency(digits_net(), "nowhere").attribute(images)
    with pytest.raises(InputError, match="has no positions"):
        Saliency(digits_net(), fwdkern.fuse(digits_net(), images).layers[-1].parents[0]).attribute(images)


def test_sizes_that_the_model_does_not_take_are_left_out() -> None:
    fixed = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 14 * 14, 4)).eval()
    images = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    method = Saliency(fixed)
    assert torch.equal(method.attribute(images, 1), Saliency(fixed, scales=(1,)).attribute(images, 1))
    assert method.scales == [6 / 7, 1, 9 / 7]
    with pytest.raises(InputError, match="takes images of none of the sizes"):
        Saliency(fixed, scales=(0.5,)).attribute(images, 1)
