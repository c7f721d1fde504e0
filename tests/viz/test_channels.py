"""Channel sums: strongest first, one scale."""

import pytest
import torch

from fwdkern import viz
from fwdkern.errors import InputError
from tests.viz.pictures import cells, render, result, words


def test_channels_are_sorted_by_strength_of_their_maps() -> None:
    scores = torch.zeros(1, 4, 8, 8)
    scores[0, 2, 0, 0], scores[0, 2, 0, 1] = 5, -5  # strong, though its sum is zero
    scores[0, 0] = 0.01
    scores[0, 3, 4, 4] = 3
    relevance = result(scores, torch.arange(4)[:, None], "features.7")
    figure = viz.channel_grid(torch.rand(1, 3, 8, 8), relevance)
    text = words(figure)
    order = [text.index(f"channel {c}") for c in (2, 3, 0, 1)]
    assert order == sorted(order)
    assert "sum 0.64" in text and "all channels" in text and text.splitlines().count("off") == 1
    assert len(cells(figure)) == 5


def test_limit_cuts_the_weak_and_says_so() -> None:
    relevance = result(torch.rand(2, 9, 8, 8), torch.arange(9)[:, None])
    figure = viz.channel_grid(torch.rand(2, 1, 8, 8), relevance, limit=3)
    assert len(cells(figure)) == 2 * 4 and words(figure).count("3 of 9 channels") == 2


def test_photographs_are_smoothed_and_the_caption_says_so() -> None:
    relevance = result(torch.randn(1, 2, 224, 224), torch.arange(2)[:, None])
    figure = viz.channel_grid(torch.rand(1, 3, 224, 224), relevance)
    assert "smoothed (Gaussian, 2 pixels)" in words(figure).replace("\n", " ") and render(figure).std() > 5


def test_nan_is_refused() -> None:
    with pytest.raises(InputError, match="NaN"):
        viz.channel_grid(torch.rand(1, 1, 4, 4), result(torch.full((1, 1, 4, 4), torch.nan), torch.zeros(1, 1).long()))
