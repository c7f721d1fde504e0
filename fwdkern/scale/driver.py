"""A run: list the inputs, send what is missing through Ray Data, count what comes back."""

import contextlib
import copy
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fwdkern.engine.calibration import Rates, rates
from fwdkern.errors import FwdkernError, InputError
from fwdkern.model import FusedModel
from fwdkern.preprocessing import Preprocessing
from fwdkern.scale.cluster import Cluster
from fwdkern.scale.folder import RunFolder
from fwdkern.scale.formats import check_format, read_tables, write_tables
from fwdkern.scale.inputs import Columns, Item, list_inputs, read_items
from fwdkern.scale.shards import Recipe, Write, count_shards, decode, fused, make_rows
from fwdkern.scale.work import Engine, Reduction, Work
from fwdkern.weights import weights_digest

SHARD_SIZE, BATCH_SIZE = 256, 16
# A shard's tables are held whole, several times over, on their way to the disk.
_LARGEST_SHARD = 2**30
_LARGEST_BATCH = 2**30


@dataclass(frozen=True)
class Event:
    """How far a run is: inputs that are done (of which ``failed`` could not be decoded) and all there are."""

    done: int
    failed: int
    total: int
    shards: int


@dataclass
class Summary:
    """What a run did.

    Attributes:
        inputs, failed: of the whole output; made, seconds, bytes, stages: of this run alone, stages being the seconds
            that workers spent on decoding, computing and writing.
    """

    path: Path
    inputs: int
    failed: int
    shards: int
    made: int
    seconds: float
    bytes: int
    stages: dict[str, float] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """The same to be printed."""
        found = [f"{self.path}: {self.inputs - self.failed} of {self.inputs} inputs in {self.shards} shards"]
        if self.failed:
            found.append(f"{self.failed} could not be decoded: {self.path / 'summary' / 'failures.csv'}")
        if self.made:
            stages = ", ".join(f"{name} {spent / self.made * 1e3:.3g} ms" for name, spent in self.stages.items())
            found.append(
                f"{self.made} inputs in {self.seconds:.1f} s, {self.made / self.seconds:.3g}/s, "
                f"{self.bytes / self.made / 1e3:.3g} kB each; workers' time an input: {stages}"
            )
        return found


def run(
    inputs: Sequence[str | Path],
    out: Path | str,
    model: nn.Module,
    preprocessing: Preprocessing,
    work: Work | None = None,
    *,
    name: str = "",
    device: str = "cpu",
    columns: Columns | None = None,
    form: str = "zarr",
    shard_size: int | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    threads: int | None = None,
    address: str | None = None,
    resume: bool = False,
    progress: Callable[[Event], None] = lambda event: None,
) -> Summary:
    """Do some work on all inputs and keep the results in shards under ``out``.

    Args:
        inputs: folders, globs and files; see ``list_inputs``. columns: where Parquet files hold pictures.
        model: in evaluation mode, from pictures that went through ``preprocessing``; name: what it is called in the
            output.
        form: ``"zarr"`` or ``"parquet"``.
        shard_size: inputs of a shard, 256 by default; batch_size: at most so many at a time, 16 by default.
        workers: processes that compute, one a GPU or a core by default; threads: of each of them, so that together
            they fill the machine.
        address: of a Ray cluster, ``"auto"`` for the one started here; None for one of our own on this machine, unless
            the program has joined one already.
        resume: go on with what ``out`` lacks. Sizes that are not given are then those it was begun with.
        progress: called after every shard.

    Raises:
        InputError: wrong arguments, before anything is computed; another run's output; a run in progress.
        FwdkernError: the run stopped; the shards so far are whole, and ``resume`` goes on.
    """
    work, columns, form = work or Work(), columns or Columns(), check_format(form)
    place = Path(out).absolute()
    # An output inside the input folder, its gallery and shards of Parquet, is no input.
    items = list_inputs([str(name) for name in inputs], columns, without=place)
    with RunFolder(place) as folder:
        known = folder.settings or {}
        folder.sweep()
        begun = time.monotonic()
        cpu = _on_cpu(model)
        shape = _input_shape(items, preprocessing, columns)
        network = fused(cpu, shape, torch.device("cpu"))
        work = work.checked(network, _classes(network, shape))
        if work.keep == "best" and preprocessing.output_size is None:
            raise InputError('keep="best" needs inputs of one size; give a crop or a size.')
        stored = known.get("run", {})
        cluster = Cluster(address, device, workers)
        sizes = {
            "shard_size": _positive("shard_size", shard_size or stored.get("shard_size", SHARD_SIZE)),
            "batch_size": _positive("batch_size", batch_size or stored.get("batch_size", BATCH_SIZE)),
            "threads": _positive("threads", threads or stored.get("threads") or cluster.threads),
        }
        if not stored:
            sizes["batch_size"] = _fitting(network, work, preprocessing, shape, sizes)
        settings: dict[str, Any] = {
            "fwdkern": _version(),
            "torch": torch.__version__,
            "model": {"name": name or type(model).__name__, "fingerprint": fingerprint(cpu, network)},
            "input": preprocessing.describe(),
            "inputs": {"count": len(items), "keys": _digest([item.key for item in items])},
            "work": work.settings(),
            "run": {**sizes, "device": torch.device(device).type},
            "format": form,
        }
        if known:
            settings["rates"] = known.get("rates")
            folder.agree(settings, resume)
        with cluster:
            measured = Rates(**known["rates"]) if known else cluster.call(_measure, sizes["threads"], device)
            if not known:
                settings["rates"] = asdict(measured)
                folder.agree(settings, resume)
            recipe = Recipe(
                work, preprocessing, columns, shape, sizes["batch_size"], sizes["threads"], cluster.place, measured
            )
            return _finish(folder, items, recipe, settings, cluster, cpu, form, progress, begun)


def _finish(
    folder: RunFolder,
    items: Sequence[Item],
    recipe: Recipe,
    settings: Mapping[str, Any],
    cluster: Cluster,
    model: nn.Module,
    form: str,
    progress: Callable[[Event], None],
    begun: float,
) -> Summary:
    size = settings["run"]["shard_size"]
    total = count_shards(len(items), size)
    done = folder.committed()
    summary = Summary(folder.path, len(items), 0, total, 0, 0.0, 0)
    finished = 0
    for number in sorted(done):
        record = folder.record(number)
        finished, summary.failed = finished + record["inputs"], summary.failed + len(record["failed"])
    progress(Event(finished, summary.failed, len(items), len(done)))
    about = {"fwdkern": settings["fwdkern"], "model": settings["model"], "input": settings["input"]}
    about["work"] = settings["work"]
    rows = make_rows(items, size, done)
    with folder.log() as log:

        def write(event: str, **what: Any) -> None:
            log.write(json.dumps({"time": time.time(), "event": event, **what}) + "\n")

        try:
            write("start", shards=total, missing=len(rows), inputs=len(items), workers=cluster.workers)
            for row in cluster.stream(rows, recipe, model, Write(folder.path / "shards", form, about)):
                seconds = json.loads(row["seconds"])
                if row["error"]:
                    write("error", shard=int(row["shard"]), error=row["error"], trace=row["trace"])
                    raise FwdkernError(f"shard {int(row['shard'])}: {row['error']}")
                made = json.loads(row["payload"])
                finished, summary.failed = finished + made["inputs"], summary.failed + made["failed"]
                summary.made, summary.bytes = summary.made + made["inputs"], summary.bytes + made["bytes"]
                done.add(int(row["shard"]))
                for stage, spent in seconds.items():
                    summary.stages[stage] = summary.stages.get(stage, 0.0) + spent
                write("shard", shard=int(row["shard"]), **made, seconds=seconds)
                progress(Event(finished, summary.failed, len(items), len(done)))
            summary.seconds = time.monotonic() - begun
            _conclude(folder, settings, form, total, about)
            write("end", inputs=len(items), failed=summary.failed, seconds=summary.seconds)
        except BaseException as error:
            with contextlib.suppress(OSError):
                write("stopped", committed=len(done), why=str(error))
            if not isinstance(error, Exception):
                raise
            raise FwdkernError(
                f"The run stopped: {error}. {len(done)} of {total} shards are whole in {folder.path}; --resume makes "
                "the rest."
            ) from error
    return summary


def _conclude(folder: RunFolder, settings: Mapping[str, Any], form: str, total: int, about: Mapping[str, Any]) -> None:
    """Gather over all shards, in their order: failures, statistics, the best inputs; then say that all is there."""
    shards, failed = [], []
    reductions: dict[str, Reduction] = {}
    for number in range(total):
        record = folder.record(number)
        shards.append({"shard": number, "inputs": record["inputs"], "failed": len(record["failed"])})
        failed += record["failed"]
        if settings["work"]["maps"] == "channels":
            _gather(reductions, read_tables(folder.shard(number)), settings["work"]["best"])
    tables = {name: table for layer, r in reductions.items() for name, table in r.tables(layer).items()}
    folder.summarise(failed, lambda place: write_tables(place, tables, form, about) if tables else None)
    folder.finish({"settings": settings, "shards": shards, "failed": len(failed)})


def _gather(reductions: dict[str, Reduction], tables: Mapping[str, Mapping[str, Any]], best: int) -> None:
    for name, table in tables.items():
        kind, _, layer = name.partition("/")
        if kind == "statistics":
            own = tables.get(f"best/{layer}")
            loaded = None if own is None else {column: own[column][...] for column in own}
            known = reductions.setdefault(layer, Reduction(best))
            known.merge({column: table[column][...] for column in table}, loaded)


def fingerprint(model: nn.Module, net: FusedModel) -> str:
    """A short name of a model's weights and graph."""
    graph = [[layer.name, layer.operator, list(layer.shape), list(layer.parents), layer.rule] for layer in net.layers]
    return f"{weights_digest(model)}-{_digest(graph)}"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def _on_cpu(model: nn.Module) -> nn.Module:
    places = {tensor.device.type for tensor in model.state_dict().values()}
    return model if places <= {"cpu"} else copy.deepcopy(model).cpu()


def _input_shape(items: Sequence[Item], preprocessing: Preprocessing, columns: Columns) -> tuple[int, ...]:
    """Of the inputs, or where they differ of the first that can be read."""
    if preprocessing.output_size is not None:
        return (preprocessing.channels, *preprocessing.output_size)
    for item in items:
        for _, data in read_items([item], columns):
            picture = decode(item.key, data, preprocessing)
            if not isinstance(picture, str):
                return picture.shape
    raise InputError(f"None of the {len(items)} pictures can be decoded; is it the right folder?")


def _classes(net: FusedModel, shape: Sequence[int]) -> int | None:
    with torch.no_grad():
        outputs = net(torch.zeros(1, *shape))
    return outputs.shape[1] if isinstance(outputs, Tensor) and outputs.dim() == 2 else None


def _fitting(
    net: FusedModel, work: Work, preprocessing: Preprocessing, shape: Sequence[int], sizes: Mapping[str, int]
) -> int:
    """The batch size, less where a batch's maps would not fit. Raises InputError where a shard's would not."""
    example = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    trial = replace(work, dtype="float32", keep="maps")
    found = [column for table in Engine(net, trial, preprocessing).run(example).values() for column in table.values()]
    each = sum(column.nbytes for column in found)
    kept = float(each) if work.keep == "maps" else 0
    if work.keep == "best":
        kept = each * work.best / sizes["shard_size"]
    if work.dtype == "float16":
        kept /= 2
    if kept * sizes["shard_size"] > _LARGEST_SHARD:
        raise InputError(
            f"One input's maps are {kept / 2**20:.1f} MiB, and a shard of {sizes['shard_size']} would be "
            f"{kept * sizes['shard_size'] / 2**30:.1f} GiB; at most 1 GiB is held. Ask for less (features "
            "patches:N, strongest channels, only the best inputs, values alone), or make shards smaller."
        )
    return int(max(1, min(sizes["batch_size"], _LARGEST_BATCH // max(each, 1))))


def _measure(threads: int, device: str) -> Rates:
    torch.set_num_threads(threads)
    return rates(threads, "cuda:0" if device.startswith("cuda") else "cpu")


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise InputError(f"{name}={value} must be at least 1")
    return value


def _version() -> str:
    from fwdkern import __version__

    return __version__
