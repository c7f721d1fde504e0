"""The pointing games against values calculated by hand."""

import math

import pytest
import torch

from fwdkern.errors import InputError
from fwdkern.metrics import EnergyPointingGame, PointingGame


def test_energy_is_the_positive_share_inside_the_boxes() -> None:
    maps = torch.tensor([[[1.0, 2.0, -3.0, 4.0], [0.0, 0.0, 3.0, -5.0]]])  # positive part sums to 10
    game = EnergyPointingGame()
    game.update(maps, [[[0, 0, 3, 1]]])  # 1 + 2
    game.update(maps, [[[2, 0, 4, 2]]])  # 4 + 3
    game.update(maps, [torch.tensor([[0, 0, 4, 2]])])
    assert game.values().tolist() == pytest.approx([30, 70, 100])
    assert game.compute() == pytest.approx(200 / 3)


def test_overlapping_boxes_count_a_pixel_once() -> None:
    game = EnergyPointingGame()
    game.update(torch.tensor([[[1.0, 2.0, 3.0, 4.0]]]), [[[0, 0, 3, 1], [1, 0, 4, 1]]])
    assert game.compute() == pytest.approx(100)


@pytest.mark.parametrize(
    "box, inside",
    [
        ([0.5, 0, 2.5, 1], 1 + 2),  # centres at .5, 1.5, 2.5: a left edge is inside, a right edge outside
        ([0.51, 0, 2.51, 1], 2 + 4),
        ([0, 0.5, 4, 0.6], 1 + 2 + 4 + 8),
        ([-7, -7, 1.5, 99], 1),
        ([3.4, 0, 99, 1], 8),
    ],
)
def test_a_pixel_is_inside_if_its_centre_is(box: list[float], inside: float) -> None:
    game = EnergyPointingGame()
    game.update(torch.tensor([[[1.0, 2.0, 4.0, 8.0]]]), [[box]])
    assert game.compute() == pytest.approx(inside / 15 * 100) and game.ignored_boxes == 0


def test_energy_of_huge_and_tiny_values() -> None:
    game = EnergyPointingGame()
    game.update(torch.full((1, 1, 4), 3e38), [[[0, 0, 1, 1]]])
    game.update(torch.full((1, 1, 4), 1e-40), [[[0, 0, 1, 1]]])
    game.update(torch.full((1, 1, 4), 60000.0, dtype=torch.float16), [[[0, 0, 1, 1]]])
    assert game.values().tolist() == pytest.approx([25, 25, 25])


def test_a_hit_may_miss_by_the_tolerance() -> None:
    maps = torch.zeros(1, 30, 40)
    maps[0, 9, 30] = 1
    near, far = [[0, 5, 16, 12]], [[0, 5, 15, 12]]  # the nearest pixels are columns 15 and 14
    diagonal = [[0, 0, 22, 4]]  # the nearest pixel is row 3, column 21: 6 and 9 away
    for tolerance, expected in [(15, [100, 0, 100]), (16, [100, 100, 100]), (math.hypot(6, 9) - 0.01, [0, 0, 0])]:
        game = PointingGame(tolerance)
        for boxes in (near, far, diagonal):
            game.update(maps, [boxes])
        assert game.values().tolist() == expected
    exact = PointingGame(0)
    exact.update(maps, [[[30, 9, 31, 10]]])
    exact.update(maps, [[[31, 9, 32, 10]]])
    assert exact.values().tolist() == [100, 0]


def test_of_equal_largest_values_the_first_points() -> None:
    game = PointingGame(0)
    game.update(torch.tensor([[[1.0, 5.0, 5.0]]]), [[[1, 0, 2, 1]]])
    game.update(torch.tensor([[[1.0, 5.0, 5.0]]]), [[[2, 0, 3, 1]]])
    assert game.values().tolist() == [100, 0]


@pytest.mark.parametrize("game", [EnergyPointingGame(), PointingGame(0)], ids=["energy", "pointing"])
def test_what_has_no_answer_is_counted(game: EnergyPointingGame | PointingGame) -> None:
    good = torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    maps = torch.stack([good, good, good, good, good, -good, 0 * good, good.log(), good * torch.nan])
    boxes = [
        [[1, 0, 2, 1]],
        [],
        torch.zeros(0, 4),
        [[5, 5, 9, 9]],  # outside
        [[1, 0, 2, 1], [-4, 0, 0, 2], [1, 1, 1, 2], [2, 2, 0, 0], [math.nan, 0, 2, 2], [0.6, 0, 1.4, 2]],
        *[[[1, 0, 2, 1]]] * 4,
    ]
    game.update(maps, boxes)
    assert game.reasons() == [
        "",
        "no box",
        "no box",
        "no box holds a pixel",
        "",
        "map has no positive part",
        "map has no positive part",
        "map is not finite",
        "map is not finite",
    ]
    assert game.skipped == {
        "no box": 2, "no box holds a pixel": 1, "map has no positive part": 2, "map is not finite": 2
    }  # fmt: skip
    assert game.ignored_boxes == 6
    assert game.compute() == 100 and game.values().isfinite().sum() == 2
    game.reset()
    assert game.ignored_boxes == 0 and game.skipped == {}


@pytest.mark.parametrize(
    "boxes, message",
    [
        ([], "1 maps need as many lists of boxes, got 0"),
        ([[[0, 0, 1]]], r"must be \[n, 4\]"),
        ([[0, 0, 1, 1]], r"must be \[n, 4\]"),
        ([["box"]], "cannot be read as numbers"),
    ],
)
def test_other_boxes_are_refused_and_nothing_is_kept(boxes: list, message: str) -> None:
    game = EnergyPointingGame()
    with pytest.raises(InputError, match=message):
        game.update(torch.rand(1, 2, 2), boxes)
    with pytest.raises(InputError):
        game.update(torch.rand(2, 2, 2), [[[5, 5, 6, 6]], "box"])  # type: ignore[list-item]
    assert game.reasons() == [] and game.ignored_boxes == 0


def test_negative_tolerance_is_refused() -> None:
    with pytest.raises(InputError, match="tolerance"):
        PointingGame(-1)
