"""Peak memory of one run, in a process of its own: `python -m benchmarks.memory WORKLOAD CONTENDER VARIANT`."""

import ctypes
import gc
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks.workload import Contender
from fwdkern.relevance import Relevance

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Memory:
    """Bytes: peak is the largest resident growth during a second run, kept what the first one left resident (caches,
    libraries), result the size of what a run returns, which is part of peak."""

    peak: int
    kept: int
    result: int


def measure(workload: str, contender: str, variant: str) -> Memory | None:
    """In a child process; None where the system does not tell a process its peak."""
    if not _RESET.exists():
        return None
    command = [sys.executable, "-m", "benchmarks.memory", workload, contender, variant]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise RuntimeError(f"measuring the memory of {contender!r} failed: {done.stderr.strip().splitlines()[-1]}")
    return Memory(**json.loads(done.stdout.splitlines()[-1]))


def measure_here(contender: Contender, variant: str) -> Memory:
    """In this process, which should have done little else."""
    run = contender.variants[variant]
    before = _settled()
    run()
    warm = _settled()
    _RESET.write_text("5")  # the high-water mark starts from here
    result = run()
    peak = _high_water_mark()
    return Memory(max(peak - warm, 0), max(warm - before, 0), result_bytes(result))


def result_bytes(result: Any) -> int:
    """Bytes of all tensors in a result."""
    match result:
        case Tensor():
            return result.numel() * result.element_size()
        case Relevance():
            return result_bytes(list(vars(result).values()))
        case dict():
            return result_bytes(list(result.values()))
        case list() | tuple():
            return sum(map(result_bytes, result))
    return 0


def _settled() -> int:
    """Resident bytes after everything free has been given back."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except AttributeError:
        pass  # not glibc
    import psutil  # here, since GPU machines measure no memory and may lack it

    return psutil.Process().memory_info().rss


def _high_water_mark() -> int:
    (line,) = [line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def main() -> None:
    from benchmarks.registry import find

    workload, name, variant = sys.argv[1:]
    (contender,) = [c for c in find(workload).build().contenders if c.name == name]
    print(json.dumps(vars(measure_here(contender, variant))))


if __name__ == "__main__":
    main()
