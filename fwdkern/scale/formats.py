"""Tables on disk: Zarr groups or Parquet files, which zarr and pyarrow read without fwdkern."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fwdkern.scale.choices import Format, choice
from fwdkern.scale.packages import need
from fwdkern.scale.work import Table

_LEVEL = 3


def write_tables(folder: Path, tables: Mapping[str, Table], form: str, about: Mapping[str, Any]) -> None:
    """Write tables into a new folder; the same tables give the same bytes.

    As Zarr (v3) one group ``tables.zarr`` with a group for each table and an array for each column; rows are single
    chunks, all in one file, compressed with zstd. As Parquet one file for each table, with tensor columns. about: what
    the tables are about, as JSON values, which goes into the group's attributes or the files' schema.
    """
    (_write_zarr if form == Format.ZARR else _write_parquet)(folder, tables, about)


def read_tables(folder: Path) -> dict[str, dict[str, Any]]:
    """What ``write_tables`` wrote: of each table its columns, as arrays that are read when they are indexed."""
    if (folder / "tables.zarr").is_dir():
        return _read_zarr(folder)
    return _read_parquet(folder)


def check_format(form: str) -> str:
    """A known format whose package is there."""
    chosen: str = choice("format", form, Format)
    need("zarr" if chosen == Format.ZARR else "pyarrow.parquet")
    return chosen


def _write_zarr(folder: Path, tables: Mapping[str, Table], about: Mapping[str, Any]) -> None:
    zarr = need("zarr")
    root = zarr.open_group(str(folder / "tables.zarr"), mode="w", zarr_format=3, attributes=dict(about))
    for name, table in tables.items():
        group = root.create_group(name)
        for column, values in table.items():
            if values.dtype.kind in "OU":
                values = values.astype(np.dtypes.StringDType())
            layout = {} if values.ndim < 3 else {"chunks": (1, *values.shape[1:]), "shards": values.shape}
            array = group.create_array(
                column,
                shape=values.shape,
                dtype=values.dtype,
                compressors=zarr.codecs.ZstdCodec(level=_LEVEL),
                **(layout or {"chunks": values.shape}),
            )
            array[...] = values


def _read_zarr(folder: Path) -> dict[str, dict[str, Any]]:
    zarr = need("zarr")
    found: dict[str, dict[str, Any]] = {}
    for path, member in zarr.open_group(str(folder / "tables.zarr"), mode="r").members(max_depth=None):
        if isinstance(member, zarr.Array):
            table, _, column = path.rpartition("/")
            found.setdefault(table, {})[column] = member
    return found


def _write_parquet(folder: Path, tables: Mapping[str, Table], about: Mapping[str, Any]) -> None:
    arrow, parquet = need("pyarrow"), need("pyarrow.parquet")
    for name, table in tables.items():
        columns = {column: _arrow(values, arrow) for column, values in table.items()}
        made = arrow.table(columns).replace_schema_metadata(None)
        metadata = {"fwdkern": json.dumps(about, sort_keys=True), "table": name}
        path = folder / f"{name.replace('/', '~')}.parquet"
        parquet.write_table(made.replace_schema_metadata(metadata), path, compression="zstd", compression_level=_LEVEL)


def _arrow(values: np.ndarray, arrow: Any) -> Any:
    if values.ndim == 1:
        return arrow.array(values.tolist() if values.dtype.kind in "OU" else values)
    if values.dtype.kind in "OU":
        return arrow.array(values.tolist())
    return arrow.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(values))


def _read_parquet(folder: Path) -> dict[str, dict[str, Any]]:
    arrow, parquet = need("pyarrow"), need("pyarrow.parquet")
    found = {}
    for path in sorted(folder.glob("*.parquet")):
        table = parquet.read_table(path)
        columns = {}
        for name in table.column_names:
            column = table[name].combine_chunks()
            if isinstance(column, arrow.ChunkedArray):
                column = column.chunk(0)
            columns[name] = _numpy(column, arrow)
        found[path.stem.replace("~", "/")] = columns
    return found


def _numpy(column: Any, arrow: Any) -> np.ndarray:
    if isinstance(column, arrow.FixedShapeTensorArray):
        return np.asarray(column.to_numpy_ndarray())
    if arrow.types.is_string(column.type) or arrow.types.is_list(column.type):
        return np.array(column.to_pylist())
    return np.asarray(column.to_numpy(zero_copy_only=False))
