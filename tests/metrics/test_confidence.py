"""Drop, increase and win rate against values calculated by hand."""

import math

import pytest
import torch
from torch import Tensor

from fwdkern.errors import InputError
from fwdkern.metrics import AverageDrop, AverageIncrease, MaskedScores, WinRate, masked_scores
from tests.metrics.pictures import MAP, PICTURE, sums


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def two_classes(x: Tensor) -> Tensor:
    return sums(x)[:, :2]


def test_the_upper_half_stays_by_default() -> None:
    drop, increase = AverageDrop(), AverageIncrease()
    scores = masked_scores(sums, PICTURE, MAP, 0)
    drop.update(scores)
    increase.update(scores)
    assert scores.image[0, 0] == pytest.approx(2.0) and scores.masked[0, 0] == pytest.approx(1.0)
    assert drop.compute() == pytest.approx(50)
    assert increase.compute() == 0


def test_the_whole_map_multiplies() -> None:
    # Factors 1, 1/4, 3/4, 1/2: .8 + .1 + .15 + .3 = 1.35.
    drop = AverageDrop()
    drop.update(masked_scores(sums, PICTURE, MAP, 0, keep="whole"))
    assert drop.compute() == pytest.approx((2 - 1.35) / 2 * 100)
    drop.reset()
    # Only the positive part, so 1, 0, 3/4, 1/2: .8 + .15 + .3 = 1.25.
    drop.update(masked_scores(sums, PICTURE, torch.tensor([[[4.0, -9.0], [3.0, 2.0]]]), 0, keep="whole"))
    assert drop.compute() == pytest.approx((2 - 1.25) / 2 * 100)


def test_softmax_scores() -> None:
    drop = AverageDrop("softmax")
    drop.update(masked_scores(two_classes, PICTURE, MAP, 0))
    assert drop.compute() == pytest.approx((sigmoid(2) - sigmoid(1)) / sigmoid(2) * 100)


def test_the_mask_comes_before_the_normalisation() -> None:
    # Y = 2 (2 - .4) = 3.2; black becomes -.2, so O = 2 (.8 + .2 - .4) = 1.2 and not 2 (.7 + .1) = 1.6.
    drop = AverageDrop()
    drop.update(masked_scores(sums, PICTURE, MAP, 0, normalise=lambda x: (x - 0.1) * 2))
    assert drop.compute() == pytest.approx((3.2 - 1.2) / 3.2 * 100)


def test_a_rising_score_is_an_increase_and_no_drop() -> None:
    # Class 1 of two has the probability 1 - sigmoid(sum), which rises when pixels vanish.
    drop, increase = AverageDrop("softmax"), AverageIncrease("softmax")
    scores = masked_scores(two_classes, PICTURE, MAP, 1)
    drop.update(scores)
    increase.update(scores)
    assert drop.compute() == 0 and increase.compute() == 100


def test_an_equal_score_is_neither() -> None:
    drop, increase = AverageDrop("softmax"), AverageIncrease("softmax")
    scores = masked_scores(sums, PICTURE, MAP, 0, keep=1.0)
    drop.update(scores)
    increase.update(scores)
    assert drop.compute() == 0 and increase.compute() == 0


def test_a_drop_below_zero_exceeds_100_percent() -> None:
    # Y = 2 - 1.2 = .8, O = 1 - 1.2 = -.2.
    drop = AverageDrop()
    drop.update(masked_scores(sums, PICTURE, MAP, 0, normalise=lambda x: x - 0.3))
    assert drop.compute() == pytest.approx((0.8 + 0.2) / 0.8 * 100)


def test_raw_scores_of_zero_or_less_have_no_drop_but_may_increase() -> None:
    images, maps = PICTURE.repeat(3, 1, 1, 1), MAP.repeat(3, 1, 1)
    scores = masked_scores(sums, images, maps, [0, 1, 2])  # Y = 2, 0, -2; O = 1, 0, -1
    drop, increase = AverageDrop(), AverageIncrease()
    drop.update(scores)
    increase.update(scores)
    assert drop.compute() == pytest.approx(50)
    assert drop.skipped == {"score is not positive": 2}
    assert drop.reasons() == ["", "score is not positive", "score is not positive"]
    assert drop.values().isnan().tolist() == [False, True, True]
    assert increase.values().tolist() == [0, 0, 100] and increase.skipped == {}
    assert increase.compute() == pytest.approx(100 / 3)


def test_scores_that_are_not_finite_are_counted() -> None:
    def broken(x: Tensor) -> Tensor:
        return sums(x) * torch.tensor([[1.0], [torch.nan], [torch.inf]])

    scores = masked_scores(broken, PICTURE.repeat(3, 1, 1, 1), MAP.repeat(3, 1, 1), 0)
    for metric in (AverageDrop(), AverageIncrease(), AverageDrop("softmax")):
        metric.update(scores)
        assert metric.skipped == {"score is not finite": 2}
        assert metric.values()[0].isfinite()


def test_the_top_class_is_the_default_and_known_outputs_are_not_computed_again() -> None:
    calls = []

    def model(x: Tensor) -> Tensor:
        calls.append(x)
        return sums(x)

    first = masked_scores(model, PICTURE, MAP)
    second = masked_scores(model, PICTURE, MAP, outputs=first.image)
    assert first.target.tolist() == [0] and len(calls) == 3
    assert torch.equal(second.masked, first.masked) and torch.equal(second.image, first.image)


def test_win_rate_compares_unlimited_falls_and_halves_ties() -> None:
    images = PICTURE.repeat(4, 1, 1, 1)
    best = torch.tensor([[4.0, 1.0], [2.0, 3.0]])  # keeps .8 + .6 = 1.4
    good = torch.tensor([[4.0, 3.0], [1.0, 2.0]])  # keeps .8 + .4 = 1.2
    # Falls of class 0: .6 and .8, twice equal, and the other way round; of class 2 (-2 before): -.6 and -.8.
    ours = masked_scores(sums, images, torch.stack([best, best, good, best]), [0, 0, 0, 2])
    theirs = masked_scores(sums, images, torch.stack([good, best, best, good]), [0, 0, 0, 2])
    wins, losses = WinRate(), WinRate()
    wins.update(ours, theirs)
    losses.update(theirs, ours)
    assert wins.values().tolist() == [100, 50, 0, 0] and losses.values().tolist() == [0, 50, 100, 100]
    assert wins.compute() + losses.compute() == 100


def test_win_rate_leaves_out_what_either_lacks() -> None:
    images = PICTURE.repeat(3, 1, 1, 1)
    ours = masked_scores(sums, images, torch.cat([MAP, 0 * MAP, MAP]), 0)
    theirs = masked_scores(sums, images, torch.cat([MAP, MAP, MAP * torch.nan]), 0)
    wins = WinRate()
    wins.update(ours, theirs)
    assert wins.skipped == {"map has no positive part": 1, "map is not finite": 1}
    assert wins.values()[0] == 50


def test_win_rate_needs_the_same_examples() -> None:
    two = PICTURE.repeat(2, 1, 1, 1), MAP.repeat(2, 1, 1)
    scores = masked_scores(sums, *two, 0)
    with pytest.raises(InputError, match="of other classes"):
        WinRate().update(scores, masked_scores(sums, *two, 1))
    with pytest.raises(InputError, match="got 2 and 1 examples"):
        WinRate().update(scores, masked_scores(sums, PICTURE, MAP, 0))


def test_rounding_is_no_increase() -> None:
    before = torch.tensor([[8.0, 1.0], [8.0, 1.0], [-8.0, 1.0]])
    after = before.clone()
    after[:, 0] += torch.tensor([2e-6, 1e-3, 2e-6])
    increase = AverageIncrease()
    increase.update(MaskedScores(before, after, torch.zeros(3, dtype=torch.int64), [""] * 3))
    assert increase.values().tolist() == [0, 100, 0]
