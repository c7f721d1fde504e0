"""Reading what a run wrote."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fwdkern.errors import InputError
from fwdkern.scale.folder import RunFolder
from fwdkern.scale.formats import read_tables


def open(path: Path | str) -> "Results":
    """The results of a run, finished or not.

    Raises:
        InputError: there are none.
    """
    return Results(Path(path))


class Results:
    """The rows of all shards in the order of their keys; rows are read when they are asked for.

    ``results["a/b.png"]`` is a row: a dict of the columns' entries. With maps of layers each column's name has the
    layer's before it, "relu_4/map". Maps are multiplied by their scale. ``len(results)`` counts rows, ``for key in
    results`` goes over keys.
    """

    def __init__(self, path: Path) -> None:
        self._folder = RunFolder(path)
        settings = self._folder.settings if path.is_dir() else None
        if settings is None:
            raise InputError(f"{path} holds no results of fwdkern batch.")
        self.settings: dict[str, Any] = settings

    @property
    def complete(self) -> bool:
        """Whether every shard is there."""
        return self._folder.manifest is not None

    @cached_property
    def failures(self) -> dict[str, str]:
        """Keys of inputs that could not be decoded, and why."""
        records = (self._folder.record(number) for number in self._numbers)
        return {failed["key"]: failed["reason"] for record in records for failed in record["failed"]}

    @cached_property
    def summary(self) -> dict[str, dict[str, np.ndarray]]:
        """Tables over all inputs, once the run is complete: "statistics/LAYER" and "best/LAYER", rows are channels."""
        place = self._folder.path / "summary"
        found = read_tables(place) if place.is_dir() else {}
        return {name: unscaled({column: v[...] for column, v in table.items()}) for name, table in found.items()}

    def tables(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The tables of every shard, with their names: the size of the input, after the layer's name where there is
        one. Columns are arrays that are read when they are indexed; maps are as stored."""
        for number in self._numbers:
            for name, table in read_tables(self._folder.shard(number)).items():
                if not name.startswith(("statistics/", "best/")):
                    yield name, table

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __getitem__(self, key: str) -> dict[str, Any]:
        if key not in self._places:
            why = self.failures.get(key)
            raise KeyError(f"{key}: {why}" if why else f"{key} is not among the {len(self)} inputs with results")
        number, row = self._places[key]
        found = {}
        for name, place in row:
            layer = name.rpartition("/")[0]
            read = unscaled({column: values[place] for column, values in self._shard(number)[name].items()})
            for column, value in read.items():
                found[f"{layer}/{column}" if layer and column != "key" else column] = value
        return found

    def _shard(self, number: int) -> dict[str, dict[str, Any]]:
        if self._last is None or self._last[0] != number:
            self._last = (number, read_tables(self._folder.shard(number)))
        return self._last[1]

    _last: tuple[int, dict[str, dict[str, Any]]] | None = None

    @cached_property
    def _numbers(self) -> list[int]:
        return sorted(self._folder.committed())

    @cached_property
    def _places(self) -> dict[str, tuple[int, list[tuple[str, int]]]]:
        """Of each key its shard, and in which tables of it at which row."""
        places: dict[str, tuple[int, list[tuple[str, int]]]] = {}
        for number in self._numbers:
            own: dict[str, tuple[int, list[tuple[str, int]]]] = {}
            for name, table in read_tables(self._folder.shard(number)).items():
                if not name.startswith(("statistics/", "best/")):
                    for row, key in enumerate(table["key"][...]):
                        own.setdefault(str(key), (number, []))[1].append((name, row))
            places |= dict(sorted(own.items()))
        return places


def unscaled(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Columns, or the entries of a row, with maps in float32 multiplied by their scale, which is left out."""
    if "scale" not in columns:
        return columns
    scale = columns["scale"]
    maps = columns["map"].astype(np.float32)
    found = {**columns, "map": maps * scale.reshape(*scale.shape, *[1] * (maps.ndim - scale.ndim))}
    del found["scale"]
    return found
