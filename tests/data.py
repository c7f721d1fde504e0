"""Real weights and photographs from ../shared/data; where one is absent, its loader skips by name."""

import json
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.networks import mobilenet_v2 as mobilenet_v2_network
from tests.networks import resnet_cifar
from tests.networks import squeezenet as squeezenet_network

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def shared_data(path: str = "") -> Path:
    """A file or folder under shared/data, which lies beside the repository."""
    full = Path(__file__).resolve().parents[2] / "shared" / "data" / path
    if not full.exists():
        pytest.skip(f"shared/data/{path} is absent")
    return full


def resnet20() -> nn.Module:
    """ResNet-20 on CIFAR-10 with real weights, in evaluation mode, float32. [B, 3, 32, 32] -> [B, 10]."""
    return _with_weights(resnet_cifar.resnet20(), "resnet20_cifar10")


def resnet32() -> nn.Module:
    """ResNet-32 on CIFAR-10 with real weights, in evaluation mode, float32. [B, 3, 32, 32] -> [B, 10]."""
    return _with_weights(resnet_cifar.resnet32(), "resnet32_cifar10")


def squeezenet() -> nn.Module:
    """SqueezeNet 1.1 on ImageNet, real weights, evaluation mode, float32. [B, 3, 224, 224] -> [B, 1000]."""
    return _with_weights(squeezenet_network.squeezenet1_1(), "squeezenet1_1_imagenet_fp16")


def mobilenet_v2() -> nn.Module:
    """MobileNet v2 on ImageNet, real weights, evaluation mode, float32. Its images have mean and std .5."""
    return _with_weights(mobilenet_v2_network.mobilenet_v2(), "mobilenet_v2_tf_imagenet_fp16")


def cifar_photos(count: int) -> tuple[Tensor, Tensor]:
    """The first ``count`` (at most 100) CIFAR-10 test images [n, 3, 32, 32], normalised, and labels [n]."""
    with numpy.load(shared_data("cifar10/cifar10_test100_lossless.npz")) as archive:
        images = torch.from_numpy(archive["images"][:count])  # [n, 32, 32, 3]
        labels = torch.from_numpy(archive["labels"][:count])
    return _normalised(images, IMAGENET_MEAN, IMAGENET_STD), labels.long()


def imagenet_photos(
    count: int,
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
) -> tuple[Tensor, Tensor]:
    """The first ``count`` (at most 100) ImageNet photographs [n, 3, 224, 224], normalised, and labels [n].

    The shorter side is resized to 256 (bilinear), the centre cropped to 224.
    """
    folder = shared_data("imagenet_samples")
    entries = json.loads((folder / "labels.json").read_text())[:count]
    images = torch.stack([_centre_crop(folder / entry["file"]) for entry in entries])
    return _normalised(images, mean, std), torch.tensor([entry["index"] for entry in entries])


def _with_weights(network: nn.Module, name: str) -> nn.Module:
    weights = load_file(shared_data(f"weights/{name}.safetensors"))
    network.load_state_dict(weights, strict=True)
    return network.eval()


def _centre_crop(path: Path) -> Tensor:
    """uint8 [224, 224, 3]."""
    with Image.open(path) as photo:
        photo = photo.convert("RGB")
        scale = 256 / min(photo.size)
        photo = photo.resize((round(photo.width * scale), round(photo.height * scale)), Image.Resampling.BILINEAR)
        left, top = (photo.width - 224) // 2, (photo.height - 224) // 2
        return torch.from_numpy(numpy.array(photo.crop((left, top, left + 224, top + 224))))


def _normalised(images: Tensor, mean: tuple[float, float, float], std: tuple[float, float, float]) -> Tensor:
    """images: uint8 [n, H, W, 3]. Returns float32 [n, 3, H, W]."""
    scaled = images.permute(0, 3, 1, 2).contiguous().float() / 255
    return (scaled - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
