"""The same measures by other packages, where these are installed; `fwdkern.metrics` says how they differ."""

import contextlib
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from fwdkern.metrics import (
    AverageDrop,
    AverageIncrease,
    Deletion,
    EnergyPointingGame,
    Insertion,
    PointingGame,
    masked_scores,
)
from tests.metrics.pictures import batch, network


def positive_batch() -> tuple[Tensor, Tensor, Tensor]:
    """Images, maps from 0 to 1, and classes; where these packages' definitions are ours."""
    images, maps, target = batch()
    maps = maps.clamp_min(0)
    return images, maps / maps.amax((1, 2), keepdim=True), target


class GivenMaps:
    """What torch-cam calls an extractor, with maps that are known already."""

    def __init__(self, model: nn.Module, maps: Tensor) -> None:
        self.model, self.maps = model, maps

    def __call__(self, class_idx: object, scores: object = None) -> list[Tensor]:
        return [self.maps]

    def fuse_cams(self, cams: list[Tensor]) -> Tensor:
        return cams[0]

    @contextlib.contextmanager
    def _hooks_off(self) -> Iterator[None]:
        yield

    def enable_hooks(self) -> None: ...

    def disable_hooks(self) -> None: ...


def test_torch_cam_drop_and_increase() -> None:
    theirs = pytest.importorskip("torchcam.metrics")
    images, maps, target = positive_batch()
    drop, increase = AverageDrop("softmax"), AverageIncrease("softmax")
    metric = theirs.ClassificationMetric(GivenMaps(network(), maps), lambda scores: scores.softmax(1))
    metric.update(images, target.tolist())
    scores = masked_scores(network(), images, maps, target, keep="whole")
    drop.update(scores)
    increase.update(scores)
    expected = metric.summary()
    assert drop.compute() == pytest.approx(100 * expected["avg_drop"], rel=1e-5)
    assert increase.compute() == pytest.approx(100 * expected["conf_increase"])


def test_torch_cam_insertion_and_deletion() -> None:
    theirs = pytest.importorskip("torchcam.metrics")
    if not hasattr(theirs, "DeletionInsertionMetric"):
        pytest.skip("this release of torchcam has no DeletionInsertionMetric")
    images, maps, target = positive_batch()
    metric = theirs.DeletionInsertionMetric(GivenMaps(network(), maps), lambda scores: scores.softmax(1), steps=12)
    metric.update(images, target.tolist())
    expected = metric.summary()
    for kind, name in ((Insertion, "insertion_auc"), (Deletion, "deletion_auc")):
        ours = kind(network(), fill="black", steps=12)
        ours.update(images, maps, target)
        assert ours.compute() == pytest.approx(expected[name], rel=1e-5)


def test_pytorch_grad_cam_falls() -> None:
    theirs = pytest.importorskip("pytorch_grad_cam.metrics.cam_mult_image")
    images, maps, target = positive_batch()
    change = theirs.CamMultImageConfidenceChange()
    targets = [lambda output, number=number: output.softmax(0)[number] for number in target.tolist()]
    rise = change(images, maps.numpy(), targets, network())  # O - Y, not divided by Y
    scores = masked_scores(network(), images, maps, target, keep="whole")
    before = scores.image.softmax(1).gather(1, target[:, None])[:, 0].numpy()
    drop, increase = AverageDrop("softmax"), AverageIncrease("softmax")
    drop.update(scores)
    increase.update(scores)
    assert drop.values().numpy() == pytest.approx(100 * (-rise).clip(0) / before, rel=1e-4, abs=1e-4)
    assert increase.values().tolist() == (100.0 * (rise > 0)).tolist()


def _boxes_and_segments(maps: Tensor) -> tuple[list[list[list[float]]], Tensor]:
    """Two overlapping boxes for each map, and the pixels inside either."""
    inside = torch.zeros(maps.shape)
    inside[:, 2:7, 3:9] = 1
    inside[:, 5:11, 1:5] = 1
    return [[[3, 2, 9, 7], [1, 5, 5, 11]]] * len(maps), inside[:, None]


def test_quantus_energy() -> None:
    quantus = pytest.importorskip("quantus")
    images, maps, target = positive_batch()
    boxes, segments = _boxes_and_segments(maps)
    metric = quantus.RelevanceMassAccuracy(disable_warnings=True)
    expected = metric(network(), images.numpy(), target.numpy(), maps[:, None].numpy(), segments.numpy())
    ours = EnergyPointingGame()
    ours.update(maps, boxes)
    assert ours.values().tolist() == pytest.approx([100 * share for share in expected])


def test_quantus_pointing_game() -> None:
    quantus = pytest.importorskip("quantus")
    images, maps, target = positive_batch()
    boxes, segments = _boxes_and_segments(maps)
    maps[::2, 4, 5] = 2  # inside
    metric = quantus.PointingGame(disable_warnings=True)
    expected = metric(network(), images.numpy(), target.numpy(), maps[:, None].numpy(), segments.numpy())
    ours = PointingGame(tolerance=0)
    ours.update(maps, boxes)
    assert ours.values().tolist() == [100.0 * hit for hit in expected] and 0 < ours.compute() < 100


def test_quantus_pixel_flipping() -> None:
    quantus = pytest.importorskip("quantus")
    images, _, target = positive_batch()
    grey = images.mean(1, keepdim=True).float()
    grey[:, :, 0, 0] = 0  # Quantus' black is the smallest value of an image
    random = torch.Generator().manual_seed(0)
    maps = 1 + torch.rand(len(grey), *grey.shape[2:], generator=random)  # no ties: Quantus' order is not stable
    pixels = maps[0].numel()
    torch.manual_seed(5)
    model = nn.Sequential(nn.Flatten(), nn.Linear(pixels, 5)).eval()
    metric = quantus.PixelFlipping(features_in_step=1, disable_warnings=True)
    curves = torch.tensor(metric(model, grey.numpy(), target.numpy(), maps[:, None].numpy(), softmax=True))  # [B, N]
    # Quantus leaves out the score of the whole picture.
    start = model(grey).detach().softmax(1).gather(1, target[:, None])
    expected = torch.trapezoid(torch.cat([start, curves], 1), dx=1 / pixels)
    ours = Deletion(model, fill="black", steps=pixels)
    ours.update(grey, maps, target)
    assert ours.values().tolist() == pytest.approx(expected.tolist(), rel=1e-4)
