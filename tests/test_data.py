"""Real weights, photographs and architectures fit together: top-1 is what SOURCES.md says, or better."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests import data


def top1(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        winners = torch.cat([network(part).argmax(1) for part in images.split(25)])
    return (winners == labels).double().mean().item()


@pytest.mark.parametrize(("network", "expected"), [(data.resnet20, 0.94), (data.resnet32, 0.92)])
def test_cifar_networks(network: Callable[[], nn.Module], expected: float) -> None:
    assert top1(network(), *data.cifar_photos(100)) == pytest.approx(expected, abs=0.005)


def test_squeezenet() -> None:
    assert top1(data.squeezenet(), *data.imagenet_photos(100)) >= 0.56


def test_mobilenet_v2() -> None:
    half = (0.5, 0.5, 0.5)
    assert top1(data.mobilenet_v2(), *data.imagenet_photos(100, half, half)) >= 0.71


def test_an_absent_file_skips_by_name() -> None:
    with pytest.raises(pytest.skip.Exception, match=r"shared/data/weights/nothing\.safetensors is absent"):
        data.shared_data("weights/nothing.safetensors")
