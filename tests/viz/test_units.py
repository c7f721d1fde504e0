"""Grids of units: frames at the right pixels, limits per map or shared."""

import numpy as np
import pytest
import torch

from fwdkern import viz
from fwdkern.errors import InputError
from fwdkern.viz.sheet import INK
from tests.viz.pictures import cells, inside, render, result, words

_INK = tuple(int(INK[i : i + 2], 16) for i in (1, 3, 5))


@pytest.mark.parametrize("field", [(8, 12, 40, 60), (20, 20, 52, 52), (0, 16, 33, 49)])
def test_receptive_field_is_framed_at_its_pixels(field: tuple[int, int, int, int]) -> None:
    y0, x0, y1, x1 = field
    scores = torch.zeros(1, 1, 64, 64)
    scores[0, 0, y0:y1, x0:x1] = 1e-9  # a pale map, so that only the frame is dark
    scores[0, 0, y0 + 4, x0 + 4] = 1
    figure = viz.unit_grid(
        torch.ones(1, 1, 64, 64), result(scores, torch.tensor([[3, 1, 2]])), torch.tensor([field]), percentile=100
    )
    shown = inside(figure, cells(figure)[1]).astype(int)
    scale = len(shown) / 64
    dark = np.abs(shown - _INK).max(axis=-1) < 40
    middle_row, middle_column = round((y0 + y1) / 2 * scale), round((x0 + x1) / 2 * scale)
    for edge in (x0, x1):
        assert dark[middle_row, max(0, round(edge * scale) - 2) : round(edge * scale) + 2].any()
    for edge in (y0, y1):
        assert dark[max(0, round(edge * scale) - 2) : round(edge * scale) + 2, middle_column].any()
    rows, columns = np.nonzero(dark)
    assert rows.min() >= y0 * scale - 3 and rows.max() <= y1 * scale + 3
    assert columns.min() >= x0 * scale - 3 and columns.max() <= x1 * scale + 3


def test_small_field_is_enlarged_away_from_its_frame() -> None:
    scores = torch.zeros(1, 1, 64, 64)
    scores[0, 0, 5:8, 50:53] = 1
    figure = viz.unit_grid(
        torch.ones(1, 1, 64, 64), result(scores, torch.tensor([[0, 5, 50]])), torch.tensor([[5, 50, 8, 53]])
    )
    shown = inside(figure, cells(figure)[1]).astype(int)
    half = len(shown) // 2
    lower_left = shown[half:, :half]
    assert ((lower_left[..., 0] - lower_left[..., 2]) > 60).mean() > 0.3


def test_titles_state_index_value_and_limit() -> None:
    scores = torch.zeros(1, 2, 16, 16)
    scores[0, 0, :4, :4], scores[0, 1, :4, :4] = 0.5, 2.0
    units = torch.tensor([[12, 7, 9], [3, 0, 1]])
    fields = torch.tensor([[0, 0, 4, 4]] * 2)
    text = words(viz.unit_grid(torch.rand(1, 3, 16, 16), result(scores, units, "features.3.relu"), fields))
    assert "features.3.relu" in text and "receptive field 4×4" in text and "completeness error 0" in text
    assert "[c=12, y=7, x=9]" in text and "value 8, limit 0.5" in text and "value 32, limit 2" in text
    shared = words(viz.unit_grid(torch.rand(1, 3, 16, 16), result(scores, units), fields, scale="shared"))
    assert ", limit" not in shared and "−2" in shared


def test_evenly_spread_bias_does_not_drown_a_small_field() -> None:
    scores = torch.full((1, 1, 64, 64), 1e-4)
    scores[0, 0, 10:12, 10:12] = 1
    text = words(
        viz.unit_grid(
            torch.rand(1, 1, 64, 64), result(scores, torch.tensor([[0, 0, 0]])), torch.tensor([[10, 10, 12, 12]])
        )
    )
    assert "limit 1" in text


def test_layers_become_blocks_and_units_that_are_off_say_so() -> None:
    fields = torch.tensor([[0, 0, 4, 4]] * 9)
    one = result(torch.rand(2, 9, 16, 16), torch.zeros(9, 3, dtype=torch.long), "shallow")
    two = result(torch.zeros(2, 9, 16, 16), torch.zeros(9, 3, dtype=torch.long), "deep")
    figure = viz.unit_grid(torch.rand(2, 1, 16, 16), [one, two], [fields, fields], names=["a", "b"], columns=4)
    assert len(cells(figure)) == 2 * 2 * 10
    text = words(figure)
    assert text.count("shallow") == 2 and text.count("deep") == 2 and text.splitlines().count("off") == 18
    assert render(figure).std() > 5


@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (200, 140)])
def test_odd_sizes_and_empty_fields_are_drawn(shape: tuple[int, int]) -> None:
    units = torch.zeros(2, 3, dtype=torch.long)
    fields = torch.tensor([[0, 0, *shape], [0, 0, 0, 0]])
    assert render(viz.unit_grid(torch.rand(1, 1, *shape), result(torch.randn(1, 2, *shape), units), fields)).std() > 2


def test_wrong_numbers_of_fields_and_nan_are_refused() -> None:
    image, units = torch.rand(1, 1, 8, 8), torch.zeros(2, 3, dtype=torch.long)
    relevance = result(torch.ones(1, 2, 8, 8), units)
    with pytest.raises(InputError, match=r"expected \[2, 4\]"):
        viz.unit_grid(image, relevance, torch.zeros(3, 4, dtype=torch.long))
    with pytest.raises(InputError, match="1 results and 2 tensors"):
        viz.unit_grid(image, [relevance], [torch.zeros(2, 4)] * 2)
    relevance.scores[0, 1, 3, 3] = torch.inf
    with pytest.raises(InputError, match="NaN or infinite"):
        viz.unit_grid(image, relevance, torch.tensor([[0, 0, 8, 8]] * 2))
