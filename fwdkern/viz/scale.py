"""The one colour scale of every picture: blue is negative, white is zero, red is positive."""

from collections.abc import Iterable

import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from fwdkern.errors import InputError

PERCENTILE = 99.5

# Even steps in lightness on both sides, so that +v and -v look equally strong.
COLOURS = LinearSegmentedColormap.from_list(
    "fwdkern",
    ["#123f8c", "#2f77bd", "#74b0dd", "#c3dff0", "#ffffff", "#fccdb6", "#f2855f", "#d63a31", "#9c0d1d"],
    N=512,
)


def colour_limit(maps: Iterable[np.ndarray], percentile: float = PERCENTILE) -> float:
    """Return L so that colours run from -L to L: the percentile of |v| over all non-zero values of the maps.

    Zeros are left out because the map of one unit is zero outside its receptive field. Returns 0 if all are
    zero. Raises InputError for values that are not finite.
    """
    if not 0 < percentile <= 100:
        raise InputError(f"The percentile is {percentile}; expected more than 0 and at most 100.")
    strengths = []
    for values in maps:
        broken = values.size - int(np.isfinite(values).sum())
        if broken:
            raise InputError(f"A map holds {broken} values that are NaN or infinite; it cannot be drawn.")
        strengths.append(np.abs(values[values != 0]))
    together = np.concatenate(strengths) if strengths else np.empty(0)
    return float(np.percentile(together, percentile)) if together.size else 0.0


def colours(values: np.ndarray, limit: float) -> np.ndarray:
    """Colour values [H, W] as RGB [H, W, 3] in [0, 1]; beyond -limit and limit they are clipped."""
    scaled = np.zeros_like(values) if limit == 0 else np.clip(values / limit, -1, 1)
    return COLOURS((scaled + 1) / 2)[..., :3]


def overlay(picture: np.ndarray, values: np.ndarray, limit: float) -> np.ndarray:
    """Lay the colours of values [H, W] over a faded grey copy of the picture [H, W, 3]; returns the same."""
    grey = picture @ np.array([0.299, 0.587, 0.114])
    faded = 0.75 + 0.25 * grey  # [H, W]; light enough for a multiplied colour to keep its hue
    return faded[..., None] * colours(values, limit)


def smooth(values: np.ndarray, sigma: float) -> np.ndarray:
    """Blur values [H, W] with a Gaussian of sigma pixels, mirrored at the border; the sum stays the same."""
    if sigma == 0:
        return values
    reach = int(np.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        pad = [(reach, reach) if axis == a else (0, 0) for a in (0, 1)]
        padded = np.pad(values, pad, mode="symmetric")
        values = np.apply_along_axis(np.convolve, axis, padded, kernel, mode="valid")
    return values
