"""Image beside signed map and positive overlay, one row per explained value."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from fwdkern.relevance import Relevance
from fwdkern.viz.maps import (
    boxes_of,
    check_batch,
    class_name,
    completeness,
    pictures,
    result_note,
    score_maps,
    seen,
    unit_title,
)
from fwdkern.viz.scale import PERCENTILE, colour_limit, colours, overlay, smooth
from fwdkern.viz.sheet import Box, Cell, Row, Sheet, number

OFF = Cell(None, note="off")


def compare(
    images: Tensor,
    relevance: Relevance,
    *,
    title: str = "",
    names: Sequence[str] = (),
    classes: Sequence[str] | None = None,
    segments: Tensor | None = None,
    receptive_fields: Tensor | None = None,
    percentile: float = PERCENTILE,
    sigma: float | None = None,
) -> Figure:
    """Draw each image beside its signed map and the positive part of the smoothed map laid over the image.

    images: [B, C, H, W] or [C, H, W] in [0, 1] (undo the normalisation first); relevance: of the same B images.
    Every explained value is a row, titled with its class or unit, its value and its completeness error; all rows
    share one colour scale. Scores per input channel get one signed map per channel.

    segments: label map [H, W], needed for scores per segment. receptive_fields: [K, 4] rows y0, x0, y1, x1; they are
    framed, and enlarged if small. names: one per image; classes: names by class index.
    sigma: of the overlay's Gaussian in pixels; by default 1/32 of the shorter side, and 0 (no smoothing) for segments
    and receptive fields.

    Raises InputError for shapes that do not fit and for NaN.
    """
    shown = pictures(images)
    check_batch(shown, relevance)
    shape = (shown.shape[1], shown.shape[2])
    maps = score_maps(relevance, shape, segments)  # [B, K, M, H, W]
    if sigma is None:
        sigma = min(shape) / 32 if segments is None and receptive_fields is None else 0.0
    blurred = np.array([[smooth(m.sum(axis=0), sigma) for m in of_image] for of_image in maps])  # [B, K, H, W]
    blurred = blurred.reshape(*maps.shape[:2], *shape)
    frames = [[Box(*row)] for row in boxes_of(relevance, receptive_fields)] or [[]] * maps.shape[1]
    limit = colour_limit([seen(maps[:, k], frames[k]) for k in range(maps.shape[1])], percentile)
    positive = blurred.clip(min=0)
    overlay_limit = colour_limit([seen(positive[:, k], frames[k]) for k in range(maps.shape[1])], percentile)
    channels = maps.shape[2]
    signed = ["signed relevance"] if channels == 1 else [f"channel {c}" for c in range(channels)]
    sheet = Sheet(
        shape,
        cell=2.0,
        title=title,
        columns=["input", *signed, "positive relevance"],
        limit=limit,
        bar_label="relevance per segment" if segments is not None else "relevance per pixel",
        caption=_caption(percentile, sigma, overlay_limit, "pixel" if segments is None else "segment")
        + result_note(relevance),
    )
    for b, picture in enumerate(shown):
        for k in range(maps.shape[1]):
            off = not maps[b, k].any()
            cells = [Cell(picture, frames=frames[k])]
            cells += [_signed(m, limit, frames[k]) for m in maps[b, k]]
            laid_over = overlay(picture, positive[b, k], overlay_limit)
            cells.append(OFF if off else Cell(laid_over, frames=frames[k], magnify=bool(frames[k])))
            value, delta = float(relevance.outputs[b, k]), float(relevance.delta[b, k])
            # Coordinates [K, rank] and classes [B, K] can have the same shape; only units have receptive fields.
            what = unit_title(relevance, k) if frames[k] else class_name(relevance, b, k, classes)
            explained = f"{what} value {number(value)}"
            sheet.rows.append(Row(cells, explained, names[b] if names else "", completeness(delta)))
    return sheet.draw()


def _signed(values: np.ndarray, limit: float, frames: Sequence[Box]) -> Cell:
    if not values.any():
        return OFF
    return Cell(colours(values, limit), frames=frames, magnify=bool(frames))


def _caption(percentile: float, sigma: float, overlay_limit: float, what: str) -> str:
    text = (
        "Red raises the value, blue lowers it. All maps share one scale; it ends at the "
        f"{percentile:g}th percentile of |relevance| over the non-zero {what}s, "
        f"and stronger {what}s are clipped. "
    )
    if sigma:
        text += f"Positive relevance: the signed map smoothed with a Gaussian of {sigma:.3g} pixels, "
        return text + f"negative values cut off, full red at {number(overlay_limit)}."
    return text + f"Positive relevance: negative values cut off, full red at {number(overlay_limit)}."
