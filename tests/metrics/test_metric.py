"""What holds for every measure: pieces, batches, dtypes, reset, and bad input."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from fwdkern.errors import InputError
from fwdkern.metrics import (
    AverageDrop,
    AverageIncrease,
    Deletion,
    EnergyPointingGame,
    Insertion,
    PointingGame,
    WinRate,
    masked_scores,
)
from tests.metrics.pictures import MAP, PICTURE, batch, network, sums


@dataclass
class Case:
    """How a measure is made and fed with images, maps and classes."""

    make: Callable[[], Any]
    feed: Callable[[Any, Tensor, Tensor, Tensor], None]


def _scores(keep: Any = 0.5) -> Callable[[Any, Tensor, Tensor, Tensor], None]:
    def feed(metric: Any, images: Tensor, maps: Tensor, target: Tensor) -> None:
        metric.update(masked_scores(network().to(images), images, maps, target, lambda x: x - 0.5, keep))

    return feed


def _rivals(metric: Any, images: Tensor, maps: Tensor, target: Tensor) -> None:
    net = network().to(images)
    metric.update(*(masked_scores(net, images, each, target) for each in (maps, maps.flip(1))))


def _boxes(metric: Any, images: Tensor, maps: Tensor, target: Tensor) -> None:
    metric.update(maps, [[[int(each), 1, 9, 8.5]] for each in target])


def _directly(metric: Any, images: Tensor, maps: Tensor, target: Tensor) -> None:
    metric.model = network().to(images)
    metric.update(images, maps, target)


CASES = {
    "drop": Case(AverageDrop, _scores()),
    "drop, softmax, whole map": Case(lambda: AverageDrop("softmax"), _scores("whole")),
    "increase": Case(AverageIncrease, _scores()),
    "win rate": Case(WinRate, _rivals),
    "energy": Case(EnergyPointingGame, _boxes),
    "pointing": Case(lambda: PointingGame(1), _boxes),
    "insertion": Case(lambda: Insertion(sums, steps=9), _directly),
    "deletion": Case(lambda: Deletion(sums, steps=9), _directly),
}
every = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@every
def test_pieces_give_the_same_as_all_at_once(case: Case) -> None:
    data = batch()
    whole, single, pieces = case.make(), case.make(), case.make()
    case.feed(whole, *data)
    for i in range(len(data[0])):
        case.feed(single, *(part[i : i + 1] for part in data))
    for part in (slice(0, 4), slice(4, 6)):
        case.feed(pieces, *(each[part] for each in data))
    assert whole.values().dtype == torch.float64 and len(whole.values()) == 6
    for other in (single, pieces):
        torch.testing.assert_close(other.values(), whole.values(), equal_nan=True, rtol=1e-12, atol=1e-12)
        assert other.compute() == pytest.approx(whole.compute(), nan_ok=True)
        assert other.reasons() == whole.reasons()


@every
def test_compute_is_the_mean_of_the_values_that_count(case: Case) -> None:
    metric = case.make()
    images, maps, target = batch()
    maps[2] = torch.nan
    maps[4] = -1
    case.feed(metric, images, maps, target)
    values = metric.values()
    assert values[2].isnan() and values[4].isnan()
    assert metric.compute() == pytest.approx(values[~values.isnan()].mean().item())
    assert metric.reasons()[2] == "map is not finite" and metric.reasons()[4] == "map has no positive part"
    assert sum(metric.skipped.values()) == int(values.isnan().sum())


@every
def test_a_bad_map_leaves_the_others_as_they_are(case: Case) -> None:
    images, maps, target = batch()
    clean, spoilt = case.make(), case.make()
    case.feed(clean, images, maps, target)
    maps[0, 3, 3] = torch.inf
    case.feed(spoilt, images, maps, target)
    torch.testing.assert_close(spoilt.values()[1:], clean.values()[1:], equal_nan=True, rtol=1e-12, atol=1e-12)
    assert spoilt.reasons()[0] == "map is not finite"


def test_models_never_see_what_is_not_finite() -> None:
    def strict(x: Tensor) -> Tensor:
        assert x.isfinite().all()
        return sums(x)

    images, maps = PICTURE.repeat(2, 1, 1, 1), torch.cat([MAP, MAP * torch.nan])
    for keep in (0.5, "whole"):
        masked_scores(strict, images, maps, keep=keep)  # type: ignore[arg-type]
    Insertion(strict, steps=2).update(images, maps)


@every
def test_all_left_out_is_nan_and_none_seen_an_error(case: Case) -> None:
    metric = case.make()
    with pytest.raises(InputError, match="call update before compute"):
        metric.compute()
    images, maps, target = batch()
    case.feed(metric, images, 0 * maps, target)
    assert metric.skipped == {"map has no positive part": 6}
    assert torch.tensor(metric.compute()).isnan()
    metric.reset()
    assert metric.skipped == {} and metric.reasons() == [] and len(metric.values()) == 0
    with pytest.raises(InputError):
        metric.compute()


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_other_dtypes(case: Case, dtype: torch.dtype) -> None:
    images, maps, target = batch()
    # A map of few distinct values is the same in all dtypes, ties included.
    maps = (maps * 2).round()
    exact, rounded = case.make(), case.make()
    case.feed(exact, images.float(), maps, target)
    case.feed(rounded, images.float(), maps.to(dtype), target)
    torch.testing.assert_close(rounded.values(), exact.values(), equal_nan=True, rtol=1e-5, atol=1e-4)


@every
def test_nothing_is_recorded_or_changed(case: Case) -> None:
    images, maps, target = batch()
    before = images.clone(), maps.clone(), target.clone()
    metric = case.make()
    case.feed(metric, images.requires_grad_(), maps.requires_grad_(), target)
    assert not metric.values().requires_grad
    assert all(torch.equal(a, b) for a, b in zip(before, (images, maps, target), strict=True))


@every
def test_strided_maps_and_images(case: Case) -> None:
    images, maps, target = batch()
    plain, strided = case.make(), case.make()
    case.feed(plain, images, maps, target)
    case.feed(
        strided,
        images.to(memory_format=torch.channels_last),
        maps.transpose(1, 2).contiguous().transpose(1, 2),
        target,
    )
    torch.testing.assert_close(strided.values(), plain.values(), equal_nan=True, rtol=1e-12, atol=1e-12)


BAD_MAPS: list[tuple[Any, str]] = [
    (MAP[0], r"maps must be \[B, H, W\], got \[2, 2\]"),
    (MAP[None], "take the map of one unit"),
    (MAP[:0], "maps are empty"),
    (MAP.int(), "floating dtype"),
    (MAP.tolist(), "must be a tensor"),
]


@pytest.mark.parametrize("maps, message", BAD_MAPS)
def test_other_maps_are_refused(maps: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        masked_scores(sums, PICTURE, maps)
    with pytest.raises(InputError, match=message):
        EnergyPointingGame().update(maps, [[[0, 0, 1, 1]]])
    with pytest.raises(InputError, match=message):
        Insertion(sums, steps=2).update(PICTURE, maps)


BAD_IMAGES: list[tuple[Any, str]] = [
    (PICTURE[0], r"images must be \[1, C, 2, 2\]"),
    (PICTURE.repeat(2, 1, 1, 1), r"images must be \[1, C, 2, 2\]"),
    (PICTURE[:, :0], r"images must be \[1, C, 2, 2\]"),
    ((PICTURE * 255).byte(), "images.float"),
    (PICTURE * 3, "before they are normalised"),
    (PICTURE - 1, "before they are normalised"),
    (PICTURE * torch.nan, "NaN"),
    (None, "must be a tensor"),
]


@pytest.mark.parametrize("images, message", BAD_IMAGES)
def test_other_images_are_refused(images: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        masked_scores(sums, images, MAP)
    with pytest.raises(InputError, match=message):
        Deletion(sums, steps=2).update(images, MAP)


@pytest.mark.parametrize(
    "target, message",
    [
        (3, "classes 0 to 2"),
        (-1, "out of range"),
        ([0, 1], "one class for each"),
        (torch.tensor([0.5]), "must be integers"),
        ("all", "one class for each"),
    ],
)
def test_other_targets_are_refused(target: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        masked_scores(sums, PICTURE, MAP, target)
    with pytest.raises(InputError, match=message):
        Insertion(sums, steps=2).update(PICTURE, MAP, target)


def test_other_models_scores_and_outputs_are_refused() -> None:
    with pytest.raises(InputError, match=r"class scores \[1, classes\], got \[1, 1, 2, 2\]"):
        masked_scores(lambda x: x, PICTURE, MAP)
    with pytest.raises(InputError, match="got tuple"):
        masked_scores(lambda x: (sums(x),), PICTURE, MAP)  # type: ignore[arg-type,return-value]
    with pytest.raises(InputError, match=r"outputs has shape \[1, 7\]"):
        masked_scores(sums, PICTURE, MAP, outputs=torch.rand(1, 7))
    for make in (AverageDrop, AverageIncrease, WinRate):
        with pytest.raises(InputError, match="probability"):
            make("probability")  # type: ignore[arg-type]
