"""Grids of single units: what each of them saw, inside the frame of what it can see."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from fwdkern.errors import InputError
from fwdkern.relevance import Relevance
from fwdkern.viz.maps import (
    boxes_of,
    check_batch,
    grid_sigma,
    pictures,
    result_note,
    score_maps,
    seen,
    smooth_note,
    unit_name,
    worst_error,
)
from fwdkern.viz.scale import PERCENTILE, colour_limit, overlay, smooth
from fwdkern.viz.sheet import Box, Cell, Sheet, number

Scale = Literal["shared", "map"]


def unit_grid(
    images: Tensor,
    relevance: Relevance | Sequence[Relevance],
    receptive_fields: Tensor | Sequence[Tensor],
    *,
    title: str = "",
    names: Sequence[str] = (),
    scale: Scale = "map",
    columns: int = 7,
    percentile: float = PERCENTILE,
) -> Figure:
    """Draw one cell per unit: its signed map over the faded image, its receptive field framed.

    images: [B, C, H, W] or [C, H, W] in [0, 1]. relevance: the maps of K units, or several such results
    (layers), which become blocks of rows; receptive_fields: [K, 4] rows y0, x0, y1, x1, one tensor per
    result. scale: "shared", one colour limit for all maps, or "map", one per map, written above it. names:
    one per image. Raises InputError for shapes that do not fit and for NaN.
    """
    results = [relevance] if isinstance(relevance, Relevance) else list(relevance)
    fields = [receptive_fields] if isinstance(receptive_fields, Tensor) else list(receptive_fields)
    if not results or len(results) != len(fields):
        raise InputError(
            f"There are {len(results)} results and {len(fields)} tensors of receptive fields; "
            "expected one for each result."
        )
    shown = pictures(images)
    shape = (shown.shape[1], shown.shape[2])
    blocks = [_Block(shown, result, field, percentile) for result, field in zip(results, fields, strict=True)]
    common = colour_limit([values for block in blocks for values in block.seen()], percentile)
    sheet = Sheet(
        shape,
        cell=1.25,
        title=title,
        limit=common if scale == "shared" else None,
        bar_label="relevance per pixel",
        caption=_caption(scale, percentile)
        + smooth_note(max((s for b in blocks for s in b.sigmas), default=0.0))
        + result_note(results[0]),
    )
    for block in blocks:
        for b, picture in enumerate(shown):
            cells = [Cell(picture, ("input", names[b] if names else ""), block.boxes)]
            cells += block.cells(b, picture, common if scale == "shared" else None)
            sheet.add_grid(cells, columns, block.relevance.layer, block.detail(), worst_error(block.relevance, b))
    return sheet.draw()


class _Block:
    """The units of one layer, with their maps and frames."""

    def __init__(self, shown: np.ndarray, relevance: Relevance, fields: Tensor, percentile: float) -> None:
        check_batch(shown, relevance)
        self.relevance, self.percentile = relevance, percentile
        self.boxes = [Box(*row) for row in boxes_of(relevance, fields)]
        maps = score_maps(relevance, (shown.shape[1], shown.shape[2])).sum(axis=2)  # [B, K, H, W]
        self.sigmas = [grid_sigma(box.size) for box in self.boxes]
        for of_image in maps:
            for values, box, sigma in zip(of_image, self.boxes, self.sigmas, strict=True):
                values[box.slices] = smooth(values[box.slices], sigma)
        self.maps = maps

    def seen(self) -> list[np.ndarray]:
        """The values inside the receptive fields, map by map."""
        return [seen(of_image[k], [box]) for of_image in self.maps for k, box in enumerate(self.boxes)]

    def cells(self, example: int, picture: np.ndarray, common: float | None) -> list[Cell]:
        cells = []
        for k, box in enumerate(self.boxes):
            values = self.maps[example, k]
            limit = colour_limit([seen(values, [box])], self.percentile) if common is None else common
            value = f"value {number(float(self.relevance.outputs[example, k]))}"
            if common is None and values.any():
                value += f", limit {number(limit)}"
            title = (f"[{unit_name(self.relevance, k)}]", value)
            if values.any():
                cells.append(Cell(overlay(picture, values, limit), title, [box], magnify=True))
            else:
                cells.append(Cell(None, title, [box], note="off"))
        return cells

    def detail(self) -> str:
        height, width = max((box.size for box in self.boxes), default=(0, 0))
        return f"receptive field {height}×{width}"


def _caption(scale: Scale, percentile: float) -> str:
    text = (
        "Each map lies over the faded input; red raises the unit's value, blue lowers it; the frame is the unit's "
        "receptive field, enlarged in a corner if it is small. Colours end at the "
        f"{percentile:g}th percentile of |relevance| inside the "
    )
    if scale == "shared":
        return text + "receptive fields, one limit for all maps; stronger pixels are clipped."
    return text + "receptive field, map by map (the limit above it); stronger pixels are clipped."
