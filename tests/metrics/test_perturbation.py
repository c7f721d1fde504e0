"""Insertion and deletion against curves calculated by hand."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from fwdkern.errors import InputError
from fwdkern.metrics import Deletion, Insertion
from tests.metrics.pictures import MAP, PICTURE, sums

# The map's order is .8, .2, .6, .4.
BY_HAND = [
    (Insertion, "black", 4, (0, 0.8, 1.0, 1.6, 2.0)),
    (Deletion, "black", 4, (2.0, 1.2, 1.0, 0.4, 0)),
    (Deletion, "mean", 4, (2.0, 1.7, 2.0, 1.9, 2.0)),
    (Insertion, (0.1,), 4, (0.4, 1.1, 1.2, 1.7, 2.0)),
    (Insertion, "black", 2, (0, 1.0, 2.0)),
    (Deletion, "black", 1, (2.0, 0)),
]


@pytest.mark.parametrize("kind, fill, steps, curve", BY_HAND)
def test_area_under_the_curve(kind: type[Insertion], fill: str, steps: int, curve: tuple[float, ...]) -> None:
    metric = kind(sums, fill=fill, steps=steps, score="logit")
    metric.update(PICTURE, MAP, 0)
    area = sum((a + b) / 2 for a, b in itertools.pairwise(curve)) / steps
    assert metric.compute() == pytest.approx(area)


def test_uneven_steps_are_weighted_by_their_pixels() -> None:
    # 4 pixels in 3 steps are 1, 1 and 2 pixels: scores 0, .8, 1, 2 at the shares 0, 1/4, 1/2, 1.
    metric = Insertion(sums, fill="black", steps=3, score="logit")
    metric.update(PICTURE, MAP, 0)
    assert metric.compute() == pytest.approx(0.25 * 0.4 + 0.25 * 0.9 + 0.5 * 1.5)


def test_softmax_and_normalisation() -> None:
    def two_classes(x: Tensor) -> Tensor:
        return sums(x)[:, :2]

    metric = Deletion(two_classes, lambda x: 2 * x - 0.5, fill="black", steps=2)
    metric.update(PICTURE, MAP, 0)
    start, middle, finish = (1 / (1 + math.exp(-(2 * s - 2))) for s in (2.0, 1.0, 0.0))
    assert metric.compute() == pytest.approx((start / 2 + middle + finish / 2) / 2)


def test_insertion_begins_blurred_and_deletion_ends_in_the_mean_colour() -> None:
    seen: list[Tensor] = []

    def model(x: Tensor) -> Tensor:
        seen.append(x)
        return sums(x)

    images = torch.rand(2, 3, 16, 16)
    Insertion(model, steps=3).update(images, torch.rand(2, 16, 16))
    assert (seen[1] - images).abs().max() > 0.1 and seen[1].std() < images.std() / 2
    torch.testing.assert_close(seen[1].mean(), images.mean(), atol=0.05, rtol=0)
    assert torch.equal(seen[-1], images) and len(seen) == 5
    seen.clear()
    Deletion(model, steps=3).update(images, torch.rand(2, 16, 16))
    assert torch.equal(seen[1], images)
    torch.testing.assert_close(seen[-1], images.mean((2, 3), keepdim=True).expand_as(images))


def test_maps_and_scores_that_cannot_be_used_are_counted() -> None:
    def broken(x: Tensor) -> Tensor:
        return sums(x) * torch.tensor([1, 1, 1, torch.nan])[:, None]

    metric = Insertion(broken, steps=2)
    metric.update(PICTURE.repeat(4, 1, 1, 1), torch.cat([MAP, MAP * torch.nan, -MAP, MAP]), 0)
    assert metric.reasons() == ["", "map is not finite", "map has no positive part", "score is not finite"]
    assert metric.values().isnan().tolist() == [False, True, True, True]


def test_other_steps_are_refused() -> None:
    for steps in (0, -1, 2.5, True):
        with pytest.raises(InputError, match="steps="):
            Insertion(sums, steps=steps)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="more than the 4 pixels"):
        Deletion(sums, steps=5).update(PICTURE, MAP)
