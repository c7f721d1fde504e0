"""A small picture of what a run found."""

import itertools
from collections.abc import Iterator

import numpy as np
from matplotlib.figure import Figure

from fwdkern.errors import InputError
from fwdkern.scale.results import Results
from fwdkern.viz.scale import colour_limit, colours

_COLUMNS = 6


def gallery(results: Results, count: int = 24) -> Figure:
    """The first maps of a run, evenly spread over its inputs, each in its own scale: red raises, blue lowers.

    Raises:
        InputError: no maps were kept.
    """
    shown = list(itertools.islice(_maps(results, count), count))
    if not shown:
        raise InputError("The run kept no maps, so there is nothing to show.")
    rows = -(-len(shown) // _COLUMNS)
    figure = Figure(figsize=(2 * _COLUMNS, 2.25 * rows), dpi=100, layout="constrained")
    for place, (title, values) in enumerate(shown, 1):
        axes = figure.add_subplot(rows, _COLUMNS, place)
        axes.imshow(colours(values, colour_limit([values])))
        axes.set_title(title, fontsize=7)
        axes.axis("off")
    return figure


def _maps(results: Results, count: int) -> Iterator[tuple[str, np.ndarray]]:
    """Maps ``[H, W]`` with what they are of."""
    for name, table in results.summary.items():
        if name.startswith("best/"):
            for channel, (keys, maps) in enumerate(zip(table["key"], table["map"], strict=True)):
                yield f"{name[5:]} {channel}: {_short(keys[0])}", _flat(maps[0])
    keys = list(results)
    for key in keys[:: max(1, len(keys) // count)]:
        for column, values in results[key].items():
            if column.rpartition("/")[2] == "map":
                yield _short(key), _flat(values[0])
                break


def _flat(values: np.ndarray) -> np.ndarray:
    """A map ``[H, W]``, input channels summed."""
    wide = values.astype(np.float32)
    return wide.sum(0) if wide.ndim == 3 else wide


def _short(key: str) -> str:
    return key if len(key) < 24 else f"…{key[-22:]}"
