"""Image beside maps: the right colours in the right places, and odd inputs."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fwdkern import viz
from fwdkern.errors import InputError
from tests.viz.pictures import cells, inside, render, result, words


def test_a_row_per_map_and_a_column_per_view() -> None:
    torch.manual_seed(0)
    scores = torch.randn(2, 3, 16, 16)
    figure = viz.compare(torch.rand(2, 1, 16, 16), result(scores), names=["a.png", "b.png"])
    assert len(cells(figure)) == 2 * 3 * 3
    assert render(figure).std() > 10


def test_positive_pixels_are_red_and_negative_blue_where_they_lie() -> None:
    scores = torch.zeros(1, 1, 8, 8)
    scores[0, 0, 1, 6], scores[0, 0, 6, 1] = 1, -1
    figure = viz.compare(torch.zeros(1, 1, 8, 8), result(scores), sigma=0)
    signed = inside(figure, cells(figure)[1]).astype(int)
    step = len(signed) / 8
    at = lambda y, x: signed[int((y + 0.5) * step), int((x + 0.5) * step)]  # noqa: E731
    assert at(1, 6)[0] > at(1, 6)[2] + 80
    assert at(6, 1)[2] > at(6, 1)[0] + 80
    assert (at(3, 3) > 250).all()
    laid_over = inside(figure, cells(figure)[2]).astype(int)
    red = laid_over[int(1.5 * step), int(6.5 * step)]
    blue = laid_over[int(6.5 * step), int(1.5 * step)]
    assert red[0] > red[2] + 60 and np.ptp(blue) < 10


def test_small_images_have_whole_screen_pixels() -> None:
    image = torch.zeros(1, 1, 64, 64)
    image[..., ::2] = 1
    figure = viz.compare(image, result(torch.ones(1, 1, 64, 64)))
    shown = inside(figure, cells(figure)[0])[20, 10:-10]
    assert set(np.unique(shown)) == {0, 255}
    runs = np.diff(np.flatnonzero(np.diff(shown[:, 0].astype(int))))
    assert len(set(runs.tolist())) == 1


def test_title_names_class_value_and_error() -> None:
    scores = torch.full((1, 2, 4, 4), 0.5)
    classes = [f"name{i}" for i in range(10)]
    good = result(scores, torch.tensor([[3, 7]]))
    wrong = replace(good, outputs=good.outputs + 0.25, note="by hand", _delta=None)
    text = words(viz.compare(torch.rand(1, 3, 4, 4), wrong, classes=classes))
    assert "class 3 (name3) value 8.25" in text and "class 7 (name7)" in text
    assert "completeness error 2.5e-01" in text and "by hand" in text.replace("\n", " ")
    assert "class 3 value 8" in words(viz.compare(torch.rand(1, 3, 4, 4), good))


def test_units_are_named_by_layer_and_index_even_if_shapes_coincide() -> None:
    units = torch.tensor([[12, 7, 9], [1, 2, 3], [0, 0, 0]])
    relevance = result(torch.ones(3, 3, 16, 16), units, "features.3.relu")
    fields = torch.tensor([[0, 0, 4, 4], [2, 2, 8, 8], [0, 0, 16, 16]])
    text = words(viz.compare(torch.rand(3, 1, 16, 16), relevance, receptive_fields=fields))
    assert "features.3.relu [c=12, y=7, x=9] value 256" in text


def test_a_map_of_zeros_is_blank_and_says_off() -> None:
    figure = viz.compare(torch.rand(1, 1, 12, 12), result(torch.zeros(1, 1, 12, 12)))
    text = words(figure)
    assert text.splitlines().count("off") == 2 and "completeness error 0" in text
    assert "−0" not in text
    blank = inside(figure, cells(figure)[1])[3:40, 3:40]
    assert (blank == 255).all()


def test_separate_bias_is_stated() -> None:
    relevance = result(torch.ones(1, 1, 4, 4))
    relevance.bias_in_scores = False
    assert "bias is not part" in words(viz.compare(torch.rand(1, 1, 4, 4), relevance)).replace("\n", " ")


def test_channels_get_a_map_each_and_segments_fill_their_pixels() -> None:
    figure = viz.compare(torch.rand(1, 3, 6, 6), result(torch.randn(1, 1, 3, 6, 6)))
    assert len(cells(figure)) == 5
    labels = torch.arange(6)[:, None].expand(6, 6) // 3
    figure = viz.compare(torch.rand(1, 1, 6, 6), result(torch.tensor([[[2.0, -2.0]]])), segments=labels)
    signed = inside(figure, cells(figure)[1]).astype(int)
    assert signed[20, 20, 0] > signed[20, 20, 2] + 80 and signed[-20, -20, 2] > signed[-20, -20, 0] + 80


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (13, 29), (224, 160), (7, 300)])
def test_odd_sizes_are_drawn(shape: tuple[int, int]) -> None:
    pixels = render(viz.compare(torch.rand(3, *shape), result(torch.randn(1, 1, *shape))))
    assert pixels.std() > 5 and pixels.shape[0] < 3000 and pixels.shape[1] < 3000


def test_many_long_names_do_not_leave_the_page() -> None:
    names = ["a very long file name " * 12 + ".jpg"]
    figure = viz.compare(
        torch.rand(1, 1, 8, 8), result(torch.ones(1, 1, 8, 8)), names=names, classes=["a long class " * 20]
    )
    width = figure.bbox.width
    render(figure)
    assert all(text.get_window_extent().x1 <= width for text in figure.texts)


def test_dollar_signs_in_names_are_not_mathematics() -> None:
    figure = viz.compare(torch.rand(1, 1, 4, 4), result(torch.ones(1, 1, 4, 4)), names=["$100 and $200.png"])
    assert render(figure).std() > 1


def test_nan_is_refused() -> None:
    scores, image = torch.ones(1, 1, 4, 4), torch.rand(1, 1, 4, 4)
    scores[0, 0, 1, 2] = torch.nan
    with pytest.raises(InputError, match="NaN"):
        viz.compare(image, result(scores))
    with pytest.raises(InputError, match="images hold NaN"):
        viz.compare(image / 0 * 0, result(torch.ones(1, 1, 4, 4)))


@pytest.mark.parametrize(
    ("images", "scores", "message"),
    [
        ((1, 2, 4, 4), (1, 1, 4, 4), "1 or 3 channels"),
        ((4, 4), (1, 1, 4, 4), "expected"),
        ((2, 1, 4, 4), (1, 1, 4, 4), "2 images and maps of 1"),
        ((1, 1, 4, 4), (1, 1, 5, 4), "4 x 4 pixels"),
        ((1, 1, 4, 4), (1, 1, 7), "segments="),
    ],
)
def test_shapes_that_do_not_fit_are_refused(images: tuple, scores: tuple, message: str) -> None:
    with pytest.raises(InputError, match=message):
        viz.compare(torch.rand(*images), result(torch.ones(*scores)))


def test_no_global_state_is_touched() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    render(viz.compare(torch.rand(1, 1, 4, 4), result(torch.ones(1, 1, 4, 4))))
    assert dict(matplotlib.rcParams) == before
