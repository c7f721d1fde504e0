"""Reading pictures back: what the tests of viz and cli look for in a PNG."""

from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from fwdkern import Relevance


def result(scores: torch.Tensor, units: torch.Tensor | None = None, layer: str = "features.3") -> Relevance:
    """A result with these scores [B, K, ...] that is exactly complete."""
    outputs = scores.flatten(2).sum(2)
    units = torch.zeros(outputs.shape, dtype=torch.long) if units is None else units
    return Relevance(scores, torch.zeros_like(outputs), outputs, units, layer, "pixels", "reverse")


def render(figure: Figure) -> np.ndarray:
    """Draw the figure: RGB uint8 [height, width, 3]."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3]  # type: ignore[attr-defined]


def read(path: Path) -> np.ndarray:
    """Read a PNG file: RGB uint8 [height, width, 3]."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def cells(figure: Figure) -> list[Axes]:
    """The axes with pictures, in reading order; the colour bar is the last axes and left out."""
    return figure.axes[:-1]


def inside(figure: Figure, axes: Axes) -> np.ndarray:
    """The screen pixels of one cell."""
    pixels = render(figure)
    left, bottom, right, top = (round(v) for v in axes.get_window_extent().extents)
    return pixels[len(pixels) - top : len(pixels) - bottom, left:right]


def words(figure: Figure) -> str:
    """All text of a figure."""
    texts = [text.get_text() for text in figure.texts]
    return "\n".join(texts + [text.get_text() for axes in figure.axes for text in axes.texts])
