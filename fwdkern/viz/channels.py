"""The channels of one layer: each map is the sum over all units of a channel."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from fwdkern.relevance import Relevance
from fwdkern.viz.maps import (
    channel_of,
    check_batch,
    grid_sigma,
    pictures,
    result_note,
    score_maps,
    smooth_note,
    worst_error,
)
from fwdkern.viz.scale import PERCENTILE, colour_limit, overlay, smooth
from fwdkern.viz.sheet import Cell, Sheet, number


def channel_grid(
    images: Tensor,
    relevance: Relevance,
    *,
    title: str = "",
    names: Sequence[str] = (),
    limit: int | None = 20,
    columns: int = 7,
    percentile: float = PERCENTILE,
) -> Figure:
    """Draw the channel sums of one layer, strongest first, on one shared colour scale.

    images: [B, C, H, W] or [C, H, W] in [0, 1]; relevance: from attribute_units(..., units="channels").
    Strength is the sum of |relevance| over the pixels. limit: how many channels to draw per image, None for
    all. names: one per image. Raises InputError for shapes that do not fit and for NaN.
    """
    shown = pictures(images)
    check_batch(shown, relevance)
    shape = (shown.shape[1], shown.shape[2])
    sigma = grid_sigma(shape)
    exact = score_maps(relevance, shape).sum(axis=2)  # [B, K, H, W]
    strengths = np.abs(exact).sum(axis=(2, 3))  # [B, K]
    maps = np.array([smooth(values, sigma) for values in exact.reshape(-1, *shape)]).reshape(exact.shape)
    colours_end = colour_limit([maps], percentile)
    sheet = Sheet(
        shape,
        cell=1.25,
        title=title,
        limit=colours_end,
        bar_label="relevance per pixel",
        caption=_caption(percentile) + smooth_note(sigma) + result_note(relevance),
    )
    for b, picture in enumerate(shown):
        order = np.argsort(-strengths[b], kind="stable")[:limit]
        cells = [Cell(picture, ("input", names[b] if names else ""))]
        for k in order.tolist():
            heading = (f"channel {channel_of(relevance, k)}", f"sum {number(float(relevance.outputs[b, k]))}")
            if maps[b, k].any():
                cells.append(Cell(overlay(picture, maps[b, k], colours_end), heading))
            else:
                cells.append(Cell(None, heading, note="off"))
        count = f"{len(order)} of {maps.shape[1]} channels" if len(order) < maps.shape[1] else "all channels"
        sheet.add_grid(
            cells, columns, relevance.layer, f"{count}, largest sum of |relevance| first", worst_error(relevance, b)
        )
    return sheet.draw()


def _caption(percentile: float) -> str:
    return (
        "Each map is the sum of the maps of all units of a channel, over the faded input; red raises the "
        f"sum, blue lowers it. One colour scale for all maps; it ends at the {percentile:g}th percentile of "
        "|relevance| over the non-zero pixels, and stronger pixels are clipped."
    )
