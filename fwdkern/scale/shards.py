"""The stages that every shard passes: read and decode, compute, write. Ray Data runs them side by side.

A row between stages is one shard. Everything in a shard follows from its inputs and the settings alone, so that a
shard made again has the same bytes.
"""

import io
import json
import pickle
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fwdkern.engine.calibration import Rates, impose
from fwdkern.errors import InputError
from fwdkern.model import FusedModel, fuse
from fwdkern.preprocessing import Preprocessing, decode_image
from fwdkern.scale.choices import Keep
from fwdkern.scale.folder import committing, is_full, write_record
from fwdkern.scale.formats import write_tables
from fwdkern.scale.inputs import Columns, Item, read_items
from fwdkern.scale.work import Engine, Reduction, Table, Work

Row = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """What all workers of a run must agree on.

    Attributes:
        shape: of the input at which the network is captured, ``[C, H, W]``.
        rates: the figures by which every planner chooses; None lets each process measure.
    """

    work: Work
    preprocessing: Preprocessing
    columns: Columns
    shape: tuple[int, ...]
    batch_size: int
    threads: int
    device: str
    rates: Rates | None


def make_rows(items: Sequence[Item], shard_size: int, skip: set[int]) -> list[Row]:
    """The shards that are to be made, each with its number and items in the order of their keys."""
    rows = []
    for number in range(count_shards(len(items), shard_size)):
        if number not in skip:
            own = items[number * shard_size : (number + 1) * shard_size]
            text = json.dumps([list(asdict(item).values()) for item in own])
            rows.append({"shard": number, "payload": text.encode(), "error": "", "trace": "", "seconds": "{}"})
    return rows


def count_shards(inputs: int, shard_size: int) -> int:
    """How many shards so many inputs make."""
    return -(-inputs // shard_size)


class Decode:
    """Items become pictures of the model's input size, uint8, or reasons why not."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe

    def __call__(self, batch: Mapping[str, np.ndarray]) -> Iterator[Row]:
        return _each(batch, "decode", self._decode)

    def _decode(self, number: int, payload: bytes) -> bytes:
        recipe = self._recipe
        items = [Item(*fields) for fields in json.loads(payload)]
        pictures: dict[str, np.ndarray] = {}
        reasons: dict[str, str] = {}
        for item, data in read_items(items, recipe.columns):
            picture = decode(item.key, data, recipe.preprocessing)
            if isinstance(picture, str):
                reasons[item.key] = picture
            else:
                pictures[item.key] = picture
        return pickle.dumps(([item.key for item in items], pictures, reasons), protocol=5)


def decode(key: str, data: bytes | OSError, preprocessing: Preprocessing) -> np.ndarray | str:
    """A picture as uint8 ``[C, H, W]``, or why it cannot be read."""
    if isinstance(data, OSError):
        return f"{key} cannot be read ({data.strerror})."
    try:
        return preprocessing.levels(decode_image(data, key)).numpy()
    except InputError as error:
        return str(error)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever a broken file leads them to.
        return f"{key} cannot be decoded ({type(error).__name__}: {error})."


class Compute:
    """Pictures become tables; one object, with its network, serves many shards.

    Args:
        model: or something that returns it when called, such as a reference to it on the cluster.
    """

    def __init__(self, recipe: Recipe, model: nn.Module | Callable[[], nn.Module]) -> None:
        self._recipe = recipe
        self._device = torch.device(recipe.device)
        torch.set_num_threads(recipe.threads)
        if recipe.rates is not None:
            impose(recipe.rates)
        loaded = model if isinstance(model, nn.Module) else model()
        self._engine = Engine(fused(loaded, recipe.shape, self._device), recipe.work, recipe.preprocessing)

    def __call__(self, batch: Mapping[str, np.ndarray]) -> Iterator[Row]:
        return _each(batch, "compute", self._compute)

    def _compute(self, number: int, payload: bytes) -> bytes:
        keys, pictures, reasons = pickle.loads(payload)
        tables: dict[str, Table] = {}
        reductions: dict[str, Reduction] = {}
        for shape, own in _by_shape(keys, pictures).items():
            parts: dict[str, list[Table]] = defaultdict(list)
            for names, pixels in self._batches(own, pictures):
                for layer, table in self._engine.run(pixels).items():
                    if self._recipe.work.maps == "channels":
                        self._reduce(reductions.setdefault(layer, self._reduction()), names, table)
                    parts[layer].append({"key": np.array(names), **table})
            for layer, found in parts.items():
                name = f"{layer}/{shape}" if layer else shape
                tables[name] = {column: np.concatenate([part[column] for part in found]) for column in found[0]}
        for layer, reduction in reductions.items():
            tables |= reduction.tables(layer)
        record = {
            "shard": number,
            "inputs": len(keys),
            "failed": [{"key": key, "reason": reasons[key]} for key in keys if key in reasons],
        }
        return pickle.dumps((tables, record), protocol=5)

    def _reduction(self) -> Reduction:
        return Reduction(self._recipe.work.best)

    def _reduce(self, reduction: Reduction, names: list[str], table: Table) -> None:
        if self._recipe.work.strongest is None:
            best: Table = {}
            if self._recipe.work.keep == Keep.BEST:
                best = {name: table.pop(name) for name in ("map", "scale") if name in table}
            reduction.add(np.array(names, object), table["output"], **best)

    def _batches(self, keys: list[str], pictures: Mapping[str, np.ndarray]) -> Iterator[tuple[list[str], Tensor]]:
        """Batches of one shape in [0, 1] on the device; on a GPU the next one is copied while one is computed."""
        size = self._recipe.batch_size
        groups = [keys[start : start + size] for start in range(0, len(keys), size)]
        levels = (torch.from_numpy(np.stack([pictures[key] for key in group])) for group in groups)
        for group, pixels in zip(groups, _staged(levels, self._device), strict=True):
            yield group, pixels.float() / 255


def fused(model: nn.Module, shape: Sequence[int], device: torch.device) -> FusedModel:
    """The network of a model, captured at zeros of a shape ``[C, H, W]``."""
    return fuse(model.to(device), torch.zeros(1, *shape, device=device))


def _staged(batches: Iterator[Tensor], device: torch.device) -> Iterator[Tensor]:
    if device.type != "cuda":
        yield from batches
        return
    copying, waiting = torch.cuda.Stream(device), None
    for batch in batches:
        with torch.cuda.stream(copying):
            moved = batch.pin_memory().to(device, non_blocking=True)
        if waiting is not None:
            yield waiting
        waiting = _after(copying, moved, device)
    if waiting is not None:
        yield waiting


def _after(stream: "torch.cuda.Stream", moved: Tensor, device: torch.device) -> Tensor:
    torch.cuda.current_stream(device).wait_stream(stream)
    moved.record_stream(torch.cuda.current_stream(device))
    return moved


def _by_shape(keys: Sequence[str], pictures: Mapping[str, np.ndarray]) -> dict[str, list[str]]:
    """Keys in their order, under the size of their picture, "224x224"."""
    found: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        if key in pictures:
            found["{}x{}".format(*pictures[key].shape[1:])].append(key)
    return dict(sorted(found.items()))


class Write:
    """Tables become a shard on disk.

    Args:
        shards: the folder of shards; about: what each shard's tables say of themselves.
    """

    def __init__(self, shards: Path, form: str, about: Mapping[str, Any]) -> None:
        self._shards, self._form, self._about = shards, form, about

    def __call__(self, batch: Mapping[str, np.ndarray]) -> Iterator[Row]:
        return _each(batch, "write", self._write)

    def _write(self, number: int, payload: bytes) -> bytes:
        tables, record = pickle.loads(payload)
        with committing(self._shards / f"{number:05d}") as folder:
            write_tables(folder, tables, self._form, self._about)
            write_record(folder, record)
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        summary = {"inputs": record["inputs"], "failed": len(record["failed"]), "bytes": size}
        return json.dumps(summary).encode()


def _each(batch: Mapping[str, np.ndarray], stage: str, work: Callable[[int, bytes], bytes]) -> Iterator[Row]:
    """One stage for the shards of a batch. An error travels on as text, so that the run ends with a sentence."""
    for i, number in enumerate(batch["shard"]):
        row = {name: column[i] for name, column in batch.items()}
        if not row["error"]:
            start = time.perf_counter()
            try:
                row["payload"] = work(int(number), row["payload"])
            except Exception as error:
                trace = io.StringIO()
                traceback.print_exc(file=trace)
                row |= {"payload": b"", "error": _sentence(error), "trace": trace.getvalue()}
            seconds = json.loads(row["seconds"]) | {stage: time.perf_counter() - start}
            row["seconds"] = json.dumps(seconds)
        yield {
            name: np.array([value], dtype=object if isinstance(value, (bytes, str)) else None)
            for name, value in row.items()
        }


def _sentence(error: Exception) -> str:
    if is_full(error):
        return "the disk is full"
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
