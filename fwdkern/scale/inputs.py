"""What a run reads: pictures in folders, tar shards and Parquet files, each under a key that does not change."""

import os
import tarfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from fwdkern.errors import InputError
from fwdkern.scale.packages import need

_PICTURES = (".png", ".jpg", ".jpeg", ".webp")
_TAR, _PARQUET = ".tar", ".parquet"
# Listings wait for the disk or the network, not for a core.
_LISTERS = 16


@dataclass(frozen=True)
class Item:
    """One picture: its key, and where its bytes are.

    Attributes:
        path: of the file, as fsspec reads it.
        kind: ``"file"``, ``"tar"`` (``offset`` and ``size`` are bytes) or ``"parquet"`` (``offset`` is the row group,
            ``size`` the row in it).
    """

    key: str
    path: str
    kind: str = "file"
    offset: int = 0
    size: int = 0


@dataclass(frozen=True)
class Columns:
    """Where Parquet files hold pictures (bytes, or a struct with bytes) and, if anywhere, their keys."""

    image: str = "image"
    key: str | None = None


def list_inputs(inputs: Sequence[str], columns: Columns = Columns(), without: Path | None = None) -> list[Item]:
    """All pictures of some inputs, sorted by key.

    A key is the path below the folder or the fixed part of the glob that was given, a file's name where a file was
    given; a picture in a tar file adds the member's name to it, one in Parquet the row's number or its key column.

    Args:
        inputs: folders, globs and files, of any file system that fsspec knows; ``.png``, ``.jpg``, ``.jpeg``,
            ``.webp``, ``.tar`` and ``.parquet`` are read, other files in folders are left out.
        without: a local folder whose files are left out too.

    Raises:
        InputError: an input is absent or damaged, there is no picture, or two have one key.
    """
    if not inputs:
        raise InputError("No input was given; name folders, globs, .tar or .parquet files.")
    files = [file for name in inputs for file in _files(name)]
    if without is not None:
        below = f"file://{os.path.abspath(without)}/"
        files = [(key, path) for key, path in files if not path.startswith(below)]
    with ThreadPoolExecutor(_LISTERS) as pool:
        items = [
            item for part in pool.map(lambda file: list(_items(file[0], file[1], columns)), files) for item in part
        ]
    if not items:
        raise InputError(f"There is no picture in {', '.join(inputs)}; expected {', '.join(_PICTURES)} files.")
    items.sort(key=lambda item: item.key)
    for first, second in pairwise(items):
        if first.key == second.key:
            raise InputError(
                f"Two inputs have the key {first.key!r}: {first.path} and {second.path}. Give the folder above both, "
                "or remove one."
            )
    return items


def read_items(items: Iterable[Item], columns: Columns = Columns()) -> Iterator[tuple[Item, bytes | OSError]]:
    """The bytes of each item, in any order; the error where a file is gone or closed to us.

    Raises:
        OSError: reading failed in a way that may pass; what was not read must be read again.
    """
    by_path: dict[tuple[str, str], list[Item]] = defaultdict(list)
    for item in items:
        by_path[item.path, item.kind].append(item)
    for (path, kind), group in by_path.items():
        told = set()
        try:
            for item, data in _read_file(path, kind, group, columns):
                told.add(item.key)
                yield item, data
        except (FileNotFoundError, PermissionError) as error:
            for item in group:
                if item.key not in told:
                    yield item, error


def _files(name: str) -> list[tuple[str, str]]:
    """The files of one input with their keys."""
    fs, path = _open(name)
    if any(character in path for character in "*?[") and not fs.exists(path):
        found = sorted(map(str, fs.glob(path)))
        if not found:
            raise InputError(f"No file fits {name}.")
        base = path[: min(path.index(c) for c in "*?[" if c in path)].rpartition("/")[0]
        listed = [file for file in found if not fs.isdir(file)]
    elif fs.isdir(path):
        base, listed = path.rstrip("/"), sorted(map(str, fs.find(path)))
    elif fs.exists(path):
        base, listed = path.rpartition("/")[0], [path]
        if not _known(path):
            raise InputError(f"{name} cannot be read; expected a folder or {', '.join((*_PICTURES, _TAR, _PARQUET))}.")
    else:
        raise InputError(f"There is no file or folder {name}.")
    return [(file[len(base) :].lstrip("/"), fs.unstrip_protocol(file)) for file in listed if _known(file)]


def _known(path: str) -> bool:
    return path.lower().endswith((*_PICTURES, _TAR, _PARQUET))


def _items(key: str, path: str, columns: Columns) -> Iterator[Item]:
    if path.lower().endswith(_TAR):
        return _members(key, path)
    if path.lower().endswith(_PARQUET):
        return _rows(key, path, columns)
    return iter([Item(_text(key), path)])


def _text(name: str) -> str:
    """A file's name as a key: bytes that are no UTF-8, which tables cannot hold, are written out."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _members(key: str, path: str) -> Iterator[Item]:
    fs, inner = _open(path)
    try:
        with fs.open(inner, "rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                if member.isfile() and member.name.lower().endswith(_PICTURES):
                    name = member.name.removeprefix("./")
                    yield Item(_text(f"{key}/{name}"), path, "tar", member.offset_data, member.size)
    except tarfile.TarError as error:
        raise InputError(f"{path} is not a whole, uncompressed tar file ({error}).") from error


def _rows(key: str, path: str, columns: Columns) -> Iterator[Item]:
    with _parquet(path) as file:
        names = file.schema_arrow.names
        for column in filter(None, (columns.image, columns.key)):
            if column not in names:
                raise InputError(f"{path} has no column {column!r}; it has {', '.join(names)}.")
        number = 0
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            keys = file.read_row_group(group, [columns.key])[columns.key].to_pylist() if columns.key else [None] * count
            for row, own in enumerate(keys):
                yield Item(str(own) if columns.key else f"{_text(key)}/{number:08d}", path, "parquet", group, row)
                number += 1


def _read_file(path: str, kind: str, items: list[Item], columns: Columns) -> Iterator[tuple[Item, bytes]]:
    fs, inner = _open(path)
    if kind == "parquet":
        with _parquet(path) as file:
            for group in sorted({item.offset for item in items}):
                values = file.read_row_group(group, [columns.image])[columns.image]
                for item in items:
                    if item.offset == group:
                        yield item, _image_bytes(values[item.size].as_py(), path, columns)
        return
    with fs.open(inner, "rb") as file:
        for item in sorted(items, key=lambda item: item.offset):
            if kind == "file":
                yield item, file.read()
            else:
                file.seek(item.offset)
                yield item, file.read(item.size)


def _image_bytes(value: Any, path: str, columns: Columns) -> bytes:
    data = value.get("bytes") if isinstance(value, dict) else value
    if data is None:
        return b""
    if not isinstance(data, bytes):
        raise InputError(
            f"The column {columns.image!r} of {path} holds {type(data).__name__}; expected the bytes of image files."
        )
    return data


def _open(name: str) -> tuple[Any, str]:
    """The file system of a path and the path on it."""
    fsspec = need("fsspec")
    try:
        if name.startswith(("file://", "/")) or os.path.exists(name):
            # A "::" in a name is no chain of file systems.
            fs = fsspec.filesystem("file")
            path = fs._strip_protocol(name)
        else:
            fs, path = fsspec.url_to_fs(name)
    except (ImportError, ValueError) as error:
        raise InputError(f"{name} cannot be opened ({error}).") from error
    return fs, path


def _parquet(path: str) -> Any:
    parquet, arrow = need("pyarrow.parquet"), need("pyarrow")
    fs, inner = _open(path)
    try:
        return parquet.ParquetFile(inner, filesystem=fs)
    except arrow.ArrowInvalid as error:
        raise InputError(f"{path} is not a whole Parquet file ({error}).") from error
