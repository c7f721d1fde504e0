"""From rows of single images to tables with intervals, as Markdown and as a picture."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from matplotlib.figure import Figure

from fwdkern.errors import InputError
from fwdkern.evaluation.measures import PROTOCOLS
from fwdkern.evaluation.records import FIXED, Records
from fwdkern.metrics import bootstrap
from fwdkern.metrics.pointing import NO_BOX

# The thesis's own figures (raw drop, raw increase, softmax drop, softmax increase, energy), on other networks and
# images than any that are evaluated here.
THESIS = {
    "Mask": (86.9, 54.9, 80.3, 38.4, 56.1),
    "GradCAM": (76.7, 56.7, 68.3, 35.1, 48.1),
    "GradCAM++": (86.3, 47.7, 75.2, 32.7, 49.3),
    "FAFRP": (67.9, 62.3, 67.5, 48.1, 57.2),
}
_TITLES = {
    "half": "The upper half of the pixels kept",
    "whole": "The image multiplied by the whole map",
}
_SHORT = {"half": "upper half kept", "whole": "whole map"}
_HEADINGS = {"drop-logit": "drop", "increase-logit": "increase", "drop-softmax": "drop, softmax"}
_HEADINGS["increase-softmax"] = "increase, softmax"


@dataclass(frozen=True)
class Cell:
    """A mean over images with its 95 % bootstrap interval; NaN where no image has a value."""

    mean: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return "–" if math.isnan(self.mean) else f"{self.mean:.1f} ({self.low:.1f} to {self.high:.1f})"


@dataclass(frozen=True)
class Row:
    """One method, over the images that every method was measured on.

    Attributes:
        values: of each measure one number for each image, in the same order for all methods; NaN where left out.
        speed: maps a second, the median; images: with a map; reasons: how many images each left out.
    """

    method: str
    values: dict[str, np.ndarray]
    speed: float
    images: int
    reasons: dict[str, int]

    @cached_property
    def cells(self) -> dict[str, Cell]:
        """The means of the measures."""
        return {name: cell(values) for name, values in self.values.items()}


def rows(records: Records) -> list[Row]:
    """The rows of all methods that were measured, over the images that every one of them was measured on."""
    tables = {name: {row["image"]: row for row in records.rows(name)} for name in records.methods}
    if not tables:
        raise InputError(f"{records.folder} holds no measurements yet.")
    shared = sorted(set.intersection(*(set(table) for table in tables.values())))
    if not shared:
        raise InputError(f"No image in {records.folder} was measured with every method; let the evaluation run on.")
    return [_row(name, [table[image] for image in shared]) for name, table in tables.items()]


def _row(method: str, measured: Sequence[dict[str, str]]) -> Row:
    names = [name for name in measured[0] if name not in FIXED]
    seconds = [float(row["seconds"]) for row in measured if row["seconds"]]
    reasons = Counter(reason for row in measured for reason in row["reasons"].split("; ") if reason)
    return Row(
        method,
        {name: np.array([float(row[name] or "nan") for row in measured]) for name in names},
        # The first batch also captures the network and warms up.
        1 / float(np.median(seconds)) if seconds else math.nan,
        len(seconds),
        dict(reasons),
    )


def cell(values: np.ndarray) -> Cell:
    """The mean of values ``[n]``, NaN left out."""
    known = values[~np.isnan(values)]
    if not known.size:
        return Cell(math.nan, math.nan, math.nan, 0)
    return Cell(float(known.mean()), *bootstrap(known), known.size)


def table(found: Sequence[Row]) -> str:
    """Markdown: one table for each way of masking, the thesis's figures below, differences, and what was left out."""
    parts = [_table(found, protocol) for protocol in PROTOCOLS]
    if len(found) > 1:
        parts.append(_differences(found))
    return "\n\n".join([*parts, "\n".join(f"- {note}" for note in _notes(found))]) + "\n"


def _notes(found: Sequence[Row]) -> list[str]:
    counts = " or ".join(str(count) for count in sorted({row.images for row in found}))
    notes = [f"Means over {counts} images, in per cent, with 95 % bootstrap intervals."]
    affected: dict[str, list[str]] = {}
    for row in found:
        kept = {reason: n for reason, n in row.reasons.items() if _boxed(found) or not reason.startswith(f"{NO_BOX} (")}
        if kept:
            text = "; ".join(f"{n} × {reason}" for reason, n in kept.items())
            affected.setdefault(text, []).append(row.method)
    for text, methods in affected.items():
        who = "every method" if len(methods) == len(found) else ", ".join(methods)
        notes.append(f"Left out of the measures named, {who}: {text}.")
    return notes


def _boxed(found: Sequence[Row]) -> bool:
    return any(row.cells["energy"].count for row in found)


def _differences(found: Sequence[Row]) -> str:
    """All methods against the first, image by image."""
    first, *others = found
    names = [f"{name}-{protocol}" for protocol in PROTOCOLS for name in ("drop-softmax", "increase-softmax")]
    heads = [f"{_HEADINGS[name.rpartition('-')[0]]}, {_SHORT[name.rpartition('-')[2]]}" for name in names]
    if _boxed(found):
        names, heads = [*names, "energy"], [*heads, "energy in boxes"]
    lines = []
    for row in others:
        cells = [cell(row.values[name] - first.values[name]) for name in names]
        lines.append([row.method, *(f"**{c}**" if c.low > 0 or c.high < 0 else str(c) for c in cells)])
    body = _markdown([["method", *heads], *lines])
    return f"**Each method minus {first.method}, image by image; bold where the interval leaves out 0**\n\n{body}"


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    head, *body = lines
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *body))


def _table(found: Sequence[Row], protocol: str) -> str:
    boxed = _boxed(found)
    names = [f"{name}-{protocol}" for name in _HEADINGS]
    heads = ["method", *_HEADINGS.values()]
    if boxed:
        names, heads = [*names, "energy", "pointing"], [*heads, "energy in boxes", "pointing game"]
    heads.append("maps/s")
    lines = [[row.method, *(str(row.cells[name]) for name in names), f"{row.speed:.3g}"] for row in found]
    if protocol == "half":
        for method, figures in THESIS.items():
            cells = [f"{value:.1f}" for value in (figures if boxed else figures[:4])]
            lines.append([f"*thesis: {method}*", *cells, *["–"] * (len(heads) - 1 - len(cells))])
    return f"**{_TITLES[protocol]}**\n\n{_markdown([heads, *lines])}"


def picture(found: Sequence[Row], title: str) -> Figure:
    """The softmax measures under both ways of masking, and the energy where there are boxes, with their intervals."""
    panels = [
        (f"{name}, softmax\n{_SHORT[protocol]}", f"{name}-softmax-{protocol}", better)
        for protocol in PROTOCOLS
        for name, better in (("drop", "lower"), ("increase", "higher"))
    ]
    if _boxed(found):
        panels.append(("energy in boxes", "energy", "higher"))
    figure = Figure(figsize=(2.6 * len(panels) + 1.6, 0.34 * len(found) + 1.5), dpi=120, layout="constrained")
    figure.suptitle(title, fontsize=11)
    for axes, (heading, name, better) in zip(
        np.atleast_1d(figure.subplots(1, len(panels), sharey=True)), panels, strict=True
    ):
        for place, row in enumerate(found):
            cell = row.cells[name]
            if cell.count:
                colour = "#1b6ca8" if row.method == "fwdkern" else "#9aa5b1"
                axes.barh(place, cell.mean, color=colour)
                axes.plot([cell.low, cell.high], [place, place], color="#222222", linewidth=1)
        axes.set_title(f"{heading}\n{better} is better", fontsize=8)
        axes.set_yticks(range(len(found)), [row.method for row in found], fontsize=8)
        axes.tick_params(axis="x", labelsize=7)
        axes.set_xlim(left=0)
        axes.set_xlabel("%", fontsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].invert_yaxis()
    return figure
