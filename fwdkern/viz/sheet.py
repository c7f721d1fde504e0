"""A page laid out in pixels: nothing overlaps, and small images keep whole screen pixels."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.textpath import text_to_path

from fwdkern.viz.scale import COLOURS

DPI = 160
INK = "#1a1a1a"
GREY = "#6e6e6e"
LINE = "#c9c9c9"

_FONT = "DejaVu Sans"
SMALL = 128  # larger images are photographs: their pixels are smaller than a screen's
_MAGNIFIED = 0.45  # part of a cell that the enlarged receptive field takes


@dataclass(frozen=True)
class Box:
    """The receptive field or another frame on an image: pixel rows y0..y1 and columns x0..x1, half open."""

    y0: int
    x0: int
    y1: int
    x1: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the part inside the frame."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)


@dataclass(frozen=True)
class Cell:
    """One image with a title of one or two lines above it.

    pixels: RGB [H, W, 3] in [0, 1], or None for a blank cell with `note` in its middle. frames: drawn on it.
    magnify: draw what is inside the only frame again, enlarged, in the corner farthest from it.
    """

    pixels: np.ndarray | None
    title: Sequence[str] = ()
    frames: Sequence[Box] = ()
    note: str = ""
    magnify: bool = False


@dataclass(frozen=True)
class Row:
    """A line of cells under a heading: `name` in bold, `detail` behind it, `check` at the right end."""

    cells: Sequence[Cell]
    name: str = ""
    detail: str = ""
    check: str = ""


@dataclass
class Sheet:
    """Rows of equally large cells, a colour bar and a caption.

    shape: height and width of every image in image pixels; cell: wished length of a cell's longer side in inches.
    limit: value at the ends of the colour bar; None if it differs from map to map.
    """

    shape: tuple[int, int]
    cell: float
    title: str = ""
    columns: Sequence[str] = ()
    limit: float | None = None
    bar_label: str = ""
    caption: str = ""
    rows: list[Row] = field(default_factory=list)

    def add_grid(self, cells: Sequence[Cell], columns: int, name: str, detail: str, check: str) -> None:
        """Break cells into rows of `columns` under one heading."""
        for start in range(0, len(cells), columns):
            heading = (name, detail, check) if start == 0 else ("", "", "")
            self.rows.append(Row(cells[start : start + columns], *heading))

    def draw(self) -> Figure:
        """Return the page as a figure without any global matplotlib state."""
        height, width = _screen_size(self.shape, round(self.cell * DPI))
        margin, gap = 32, 16
        count = max((len(row.cells) for row in self.rows), default=1)
        used = count * width + (count - 1) * gap
        page_width = 2 * margin + max(used, 560)
        caption = _wrap(self.caption, page_width - 2 * margin, 6.5)
        tops, y = [], margin + (line_height(11) + 10 if self.title else 0) + (line_height(8) + 4 if self.columns else 0)
        for row in self.rows:
            heading = line_height(8.5) + 6 if row.name or row.detail else 0
            lines = max((len(cell.title) for cell in row.cells), default=0)
            tops.append((y, heading, lines))
            y += heading + lines * line_height(6.5) + (3 if lines else 0) + height + 20
        bar_top = y + 4
        y = bar_top + 12 + line_height(6.5) + 12 + len(caption) * line_height(6.5) + margin // 2
        page = Page(page_width, y)

        at = margin
        if self.title:
            page.text(margin, at, self.title, 11, INK, bold=True)
            at += line_height(11) + 10
        for column, label in enumerate(self.columns):
            page.text(margin + column * (width + gap), at, label, 8, GREY)
        for row, (top, heading, lines) in zip(self.rows, tops, strict=True):
            if heading:
                _heading(page, row, margin, top, used)
            picture_top = top + heading + lines * line_height(6.5) + (3 if lines else 0)
            for column, cell in enumerate(row.cells):
                left = margin + column * (width + gap)
                for index, line in enumerate(cell.title):
                    text_top = picture_top - 3 - (len(cell.title) - index) * line_height(6.5)
                    page.text(left, text_top, shorten(line, width + gap - 6, 6.5), 6.5, GREY if index else INK)
                _picture(page.axes(left, picture_top, width, height), cell, self.shape)
        self._bar(page, margin, bar_top, min(2 * width + gap, 420))
        for index, line in enumerate(caption):
            page.text(margin, bar_top + 12 + line_height(6.5) + 12 + index * line_height(6.5), line, 6.5, GREY)
        return page.figure

    def _bar(self, page: "Page", left: int, top: int, width: int) -> None:
        axes = page.axes(left, top, width, 12)
        bar = page.figure.colorbar(
            ScalarMappable(Normalize(-1, 1), COLOURS), cax=axes, orientation="horizontal", ticks=[]
        )
        bar.outline.set_edgecolor(LINE)
        bar.outline.set_linewidth(0.6)
        ends = ("−limit", "limit") if self.limit is None else (number(-self.limit), number(self.limit))
        labels = (ends[0], "0", ends[1]) if self.limit != 0 else ("", "0", "")
        for position, label, align in zip((0, 0.5, 1), labels, ("left", "center", "right"), strict=True):
            page.text(left + round(position * width), top + 16, label, 6.5, INK, align=align)
        page.text(left + width + 14, top - 2, self.bar_label, 6.5, GREY)


class Page:
    """A figure addressed in pixels from its top left corner."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
        FigureCanvasAgg(self.figure)

    def axes(self, left: int, top: int, width: int, height: int) -> Axes:
        """A picture's place."""
        bottom = self.height - top - height
        return self.figure.add_axes((left / self.width, bottom / self.height, width / self.width, height / self.height))

    def fill(self, left: int, top: int, width: int, height: int, colour: str) -> None:
        """Fill a rectangle."""
        corner = (left / self.width, 1 - (top + height) / self.height)
        size = (width / self.width, height / self.height)
        self.figure.patches.append(Rectangle(corner, *size, transform=self.figure.transFigure, color=colour, lw=0))

    def text(
        self,
        left: int,
        top: int,
        text: str,
        size: float,
        colour: str,
        *,
        bold: bool = False,
        align: str = "left",
    ) -> None:
        """Write one line; `align` says which part of it is at `left`."""
        if text:
            self.figure.text(
                left / self.width,
                1 - top / self.height,
                text.replace("$", r"\$"),
                fontproperties=font(size, bold),
                color=colour,
                ha=align,
                va="top",
            )


def _heading(page: Page, row: Row, left: int, top: int, width: int) -> None:
    room = max(width, 560) - round(text_width(row.check, 7.5)) - 28
    page.text(left + max(width, 560), top + 2, row.check, 7.5, GREY, align="right")
    name = shorten(row.name, room, 8.5, bold=True)
    page.text(left, top, name, 8.5, INK, bold=True)
    indent = round(text_width(name, 8.5, bold=True)) + (16 if name else 0)
    page.text(left + indent, top, shorten(row.detail, room - indent, 8.5), 8.5, GREY)


def _picture(axes: Axes, cell: Cell, shape: tuple[int, int]) -> None:
    height, width = shape
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    for spine in axes.spines.values():
        spine.set_color(LINE)
        spine.set_linewidth(0.6)
    if cell.pixels is not None:
        interpolation = "nearest" if max(shape) <= SMALL else "antialiased"
        axes.imshow(np.clip(cell.pixels, 0, 1), interpolation=interpolation, aspect="auto")
    for box in cell.frames:
        _frame(axes, box)
    if cell.magnify and cell.pixels is not None:
        _magnifier(axes, cell.pixels, cell.frames[0], shape)
    if cell.note:
        axes.text(
            0.5,
            0.5,
            cell.note,
            transform=axes.transAxes,
            ha="center",
            va="center",
            color=GREY,
            fontproperties=font(8, False),
        )


def _frame(axes: Axes, box: Box) -> None:
    height, width = box.size
    corner = (box.x0 - 0.5, box.y0 - 0.5)
    for colour, line in (("white", 2.2), (INK, 0.9)):  # a white halo keeps it visible on dark pictures
        axes.add_patch(
            Rectangle(corner, width, height, fill=False, edgecolor=colour, linewidth=line, clip_on=False, zorder=3)
        )


def _magnifier(axes: Axes, pixels: np.ndarray, box: Box, shape: tuple[int, int]) -> None:
    height, width = shape
    tall, wide = box.size
    if not tall or not wide:
        return
    rim = 0.03 * min(shape)
    beside, above = max(box.x0, width - box.x1) - 2 * rim, max(box.y0, height - box.y1) - 2 * rim
    scale = min(_MAGNIFIED * min(height / tall, width / wide), max(beside / wide, above / tall))
    if scale < 1.5:
        return
    shown_height, shown_width = scale * tall, scale * wide
    left = rim - 0.5 if box.x0 + box.x1 > width else width - 0.5 - rim - shown_width
    top = rim - 0.5 if box.y0 + box.y1 > height else height - 0.5 - rim - shown_height
    axes.imshow(
        np.clip(pixels[box.slices], 0, 1),
        extent=(left, left + shown_width, top + shown_height, top),
        interpolation="nearest",
        aspect="auto",
        zorder=4,
    )
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    axes.add_patch(
        Rectangle((left, top), shown_width, shown_height, fill=False, edgecolor=INK, linewidth=0.9, zorder=5)
    )


def _screen_size(shape: tuple[int, int], wished: int) -> tuple[int, int]:
    """Scale height and width so that the longer side is about `wished`, small images by a whole factor."""
    longer = max(shape)
    scale = round(wished / longer) if longer <= SMALL else wished / longer
    height, width = (max(1, round(side * scale)) for side in shape)
    return height, width


def number(value: float) -> str:
    """Three significant digits with a typographic minus."""
    return f"{value:.3g}".replace("-", "−")


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Width of a line of text in screen pixels."""
    width, _, _ = text_to_path.get_text_width_height_descent(text, font(size, bold), ismath=False)
    return width * DPI / 72


def shorten(text: str, width: float, size: float, *, bold: bool = False) -> str:
    """Cut the end of a text off, with an ellipsis, until it fits into `width` screen pixels."""
    if text_width(text, size, bold=bold) <= width:
        return text
    fits, too_long = 0, len(text)  # lengths; halved until they meet
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if text_width(text[:middle] + "…", size, bold=bold) <= width:
            fits = middle
        else:
            too_long = middle
    return text[:fits].rstrip(" ,·[") + "…" if fits else ""


def _wrap(text: str, width: float, size: float) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        if lines and text_width(f"{lines[-1]} {word}", size) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def line_height(size: float) -> int:
    """Height of a line of text in screen pixels."""
    return round(size * 1.35 * DPI / 72)


def font(size: float, bold: bool) -> FontProperties:
    """The one font of every picture."""
    return FontProperties(family=_FONT, size=size, weight="bold" if bold else "normal")
