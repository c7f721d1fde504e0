"""Which pixels a map keeps, and what takes the place of the others."""

import math

import pytest
import torch

from fwdkern.errors import InputError
from fwdkern.metrics.masking import canvas, mask, rank, top


def test_exactly_half_rounded_up_is_kept() -> None:
    random = torch.Generator().manual_seed(0)
    for height, width in [(1, 1), (3, 3), (4, 5), (7, 9)]:
        maps = torch.randint(0, 3, (5, height, width), generator=random).float()  # many ties
        kept = top(maps, 0.5)
        assert kept.flatten(1).sum(1).tolist() == [math.ceil(height * width / 2)] * 5
        assert (
            (maps * kept).flatten(1).sum(1) == maps.flatten(1).sort(1).values[:, height * width // 2 :].sum(1)
        ).all()


def test_of_equal_values_the_first_stay() -> None:
    maps = torch.tensor([[[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]])
    assert top(maps, 0.5).tolist() == [[[1, 1, 0], [0, 0, 1]], [[1, 1, 1], [0, 0, 0]]]
    large = torch.zeros(1, 64, 64)
    assert top(large, 0.5)[0, :32].all() and not top(large, 0.5)[0, 32:].any()
    assert rank(large)[0].equal(torch.arange(64 * 64))


def test_negative_values_are_ranked_too() -> None:
    assert mask(torch.tensor([[[-3.0, -1.0], [5.0, -2.0]]]), 0.5).tolist() == [[[0, 1], [1, 0]]]


@pytest.mark.parametrize("share, count", [(0.07, 7), (0.29, 29), (1 / 3, 34), (1.0, 100), (0.001, 1)])
def test_shares_are_rounded_up_but_not_for_the_error_of_floats(share: float, count: int) -> None:
    assert top(torch.rand(1, 10, 10), share).sum() == count


def test_maps_in_any_memory_order() -> None:
    maps = torch.rand(2, 6, 4).transpose(1, 2)
    assert top(maps, 0.5).equal(top(maps.contiguous(), 0.5))


def test_the_whole_map_is_scaled_by_its_maximum() -> None:
    maps = torch.tensor([[[-1.0, 0.0], [1.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]], [[2.0, 2.0], [2.0, 2.0]]])
    assert mask(maps, "whole").tolist() == [[[0, 0], [0.25, 1]], [[0, 0], [0, 0]], [[1, 1], [1, 1]]]


@pytest.mark.parametrize("keep", [0, 1.5, -0.5, True, "half", None, float("nan")])
def test_other_masks_are_refused(keep: object) -> None:
    with pytest.raises(InputError, match="neither a share"):
        mask(torch.rand(1, 2, 2), keep)  # type: ignore[arg-type]


def test_black_mean_and_colours() -> None:
    images = torch.tensor([[[[0.0, 0.4]], [[1.0, 0.5]]]])  # [1, 2, 1, 2]
    assert not canvas(images, "black").any()
    torch.testing.assert_close(canvas(images, "mean"), torch.tensor([[[[0.2, 0.2]], [[0.75, 0.75]]]]))
    torch.testing.assert_close(canvas(images, (0.1, 0.9)), torch.tensor([[[[0.1, 0.1]], [[0.9, 0.9]]]]))


def test_blur_is_a_gaussian() -> None:
    weights = [math.exp(-0.5 * (step / 5) ** 2) for step in range(-5, 6)]
    images = torch.zeros(2, 3, 15, 15, dtype=torch.float64)
    images[1, 2, 7, 7] = 1
    blurred = canvas(images, "blur")
    expected = torch.tensor([[a * b for a in weights] for b in weights], dtype=torch.float64) / sum(weights) ** 2
    torch.testing.assert_close(blurred[1, 2, 2:13, 2:13], expected)
    assert blurred[1, 2].sum().item() == pytest.approx(1) and not blurred[0].any() and not blurred[1, :2].any()


def test_blur_keeps_constant_images_up_to_their_border() -> None:
    images = torch.full((1, 3, 3, 4), 0.3)
    torch.testing.assert_close(canvas(images, "blur"), images)


@pytest.mark.parametrize("fill", ["white", (0.5,), (0.5, 0.5, 2.0), (0.5, 0.5, float("nan"))])
def test_other_fills_are_refused(fill: object) -> None:
    with pytest.raises(InputError, match="fill="):
        canvas(torch.rand(1, 3, 2, 2), fill)  # type: ignore[arg-type]
