"""What a run of the benchmarks leaves behind: plain data, as JSON."""

import json
import os
import platform
import typing
from dataclasses import asdict, dataclass, fields, is_dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import torch

import fwdkern
from benchmarks.memory import Memory

VERSION = 1
# How the reason begins for which a contender has no speed, where its result was not wrong.
NOT_RUN = "not run: "

R = TypeVar("R", bound="Record")


@dataclass(frozen=True)
class Machine:
    """Where and with what it was measured; nothing in it names a user or a path."""

    processor: str
    cores: int
    threads: int
    memory: int
    isa: str
    compiler: str
    system: str
    versions: dict[str, str]
    load_before: float


@dataclass(frozen=True)
class Figure:
    """One contender of one workload.

    seconds: median over rounds of the whole workload, scaled by parts; low, high: the spread, likewise; error: against
    the reference. A contender with a wrong result has no speed: ``wrong`` says why.
    """

    name: str
    role: str
    variant: str
    part: str
    parts: float
    seconds: float | None
    low: float | None
    high: float | None
    rounds: int
    error: float | None
    wrong: str
    memory: Memory | None


@dataclass(frozen=True)
class Verdict:
    """A goal and what came out; value and met are None where it could not be measured."""

    text: str
    value: float | None
    met: bool | None


@dataclass(frozen=True)
class Result:
    """One workload. multiplies: multiply-adds counted exactly; floor: seconds they take at torch.mm's rate; share: own
    rate over it; ratio: the best rival's time over the own one. absent: why it was not run, else ""."""

    name: str
    title: str
    absent: str
    figures: list[Figure]
    best_rival: str
    ratio: float | None
    tolerance: float
    mm_rate: float
    multiplies: float
    floor: float | None
    share: float | None
    goals: list[Verdict]


@dataclass(frozen=True)
class Record:
    """One run of the benchmarks."""

    version: int
    machine: Machine
    results: list[Result]


@dataclass(frozen=True)
class Ceilings:
    """Measured: flops a second of torch.mm by precision, and bytes a second of a copy, those read and those written."""

    matmul: dict[str, float]
    copy: float


@dataclass(frozen=True)
class Point:
    """An own contender under the roofline: useful flops, bytes that it has to move at least (None where not counted),
    and its median seconds."""

    workload: str
    precision: str
    flops: float
    bytes: float | None
    seconds: float


@dataclass(frozen=True)
class Crossover:
    """Gathered against dense products of one layer at some densities, seconds each, and what the table of
    `fwdkern/engine/rows/routing.py` would hold after this."""

    precision: str
    densities: list[float]
    gathered: list[float]
    dense: float
    share: float
    copies: float


@dataclass(frozen=True)
class GpuRecord(Record):
    """One run on a GPU. skipped: what the time did not suffice for."""

    ceilings: Ceilings
    points: list[Point]
    crossovers: list[Crossover]
    skipped: list[str]


def this_machine() -> Machine:
    """The machine and the versions that take part."""
    native = fwdkern.info()["native"]
    return Machine(
        processor=_processor(),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        isa=str(native["isa"]),
        compiler=str(native["compiler"]),
        system=f"{platform.system()} {platform.machine()}",
        versions={
            "fwdkern": fwdkern.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "captum": _version("captum"),
            "triton": _version("triton"),
        },
        load_before=os.getloadavg()[0],
    )


def write(record: Record, path: Path) -> None:
    """As JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(asdict(record), indent=1, ensure_ascii=False) + "\n")
    part.replace(path)


def read(path: Path, kind: type[R] = Record) -> R:  # type: ignore[assignment]
    """What ``write`` wrote.

    Raises:
        ValueError: the file is not such a record; the message names the field.
    """
    record: R = _parse(kind, json.loads(path.read_text()), "record")
    if record.version != VERSION:
        raise ValueError(f"{path.name} has version {record.version} of the format, this code reads {VERSION}")
    return record


def _parse(kind: Any, value: Any, where: str) -> Any:
    """A value from JSON as what a field declares."""
    if is_dataclass(kind):
        names = {field.name for field in fields(kind)}
        if not isinstance(value, dict) or set(value) != names:
            given = sorted(value) if isinstance(value, dict) else type(value).__name__
            raise ValueError(f"{where}: expected the fields {sorted(names)}, got {given}")
        hints = typing.get_type_hints(kind)
        return kind(**{name: _parse(hints[name], value[name], f"{where}.{name}") for name in names})
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is list and isinstance(value, list):
        return [_parse(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {key: _parse(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if type(None) in arguments:
        return None if value is None else _parse(arguments[0], value, where)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if origin is None and type(value) is kind:
        return value
    raise ValueError(f"{where}: expected {kind}, got {value!r}")


def _processor() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"
