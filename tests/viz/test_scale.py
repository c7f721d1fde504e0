"""The colour scale: symmetric, robust, white at zero."""

import numpy as np
import pytest

from fwdkern.errors import InputError
from fwdkern.viz.scale import colour_limit, colours, overlay, smooth


def test_limit_is_the_percentile_of_non_zero_magnitudes() -> None:
    values = np.zeros((50, 50))
    values[0, :10] = np.arange(-10, 0)
    assert colour_limit([values], 100) == 10
    assert colour_limit([values], 50) == pytest.approx(np.percentile(np.arange(1, 11), 50))
    assert colour_limit([np.full((2, 2), 0.1), values], 100) == 10


def test_one_outlier_does_not_set_the_limit() -> None:
    values = np.ones((40, 40))
    values[3, 3] = 1e6
    assert colour_limit([values]) == 1


def test_all_zero_and_no_maps_have_limit_zero() -> None:
    assert colour_limit([np.zeros((3, 3))]) == 0 and colour_limit([]) == 0


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(broken: float) -> None:
    values = np.ones((3, 3))
    values[1, 1] = broken
    with pytest.raises(InputError, match="1 values that are NaN or infinite"):
        colour_limit([values])


@pytest.mark.parametrize("percentile", [0, -1, 101])
def test_wrong_percentiles_are_refused(percentile: float) -> None:
    with pytest.raises(InputError, match="percentile"):
        colour_limit([np.ones((2, 2))], percentile)


def test_red_is_positive_blue_negative_white_zero() -> None:
    plus, zero, minus = colours(np.array([[1.0, 0.0, -1.0]]), 1.0)[0]
    assert plus[0] > plus[2] + 0.3 and minus[2] > minus[0] + 0.3
    np.testing.assert_allclose(zero, 1, atol=0.01)
    np.testing.assert_array_equal(colours(np.array([[9.0]]), 1.0), colours(np.array([[1.0]]), 1.0))


def test_overlay_of_nothing_is_the_faded_grey_picture() -> None:
    picture = np.random.default_rng(0).random((4, 5, 3))
    laid = overlay(picture, np.zeros((4, 5)), 0.0)
    assert laid.min() >= 0.74 and np.ptp(laid, axis=-1).max() < 0.01


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (20, 31)])
def test_smoothing_keeps_the_sum_and_constants(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(1).normal(size=shape)
    np.testing.assert_allclose(smooth(values, 2.5).sum(), values.sum(), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(smooth(np.full(shape, 3.0), 2.5), 3.0)
    assert smooth(values, 0) is values
