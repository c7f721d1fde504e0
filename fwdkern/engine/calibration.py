"""How fast this machine is, measured once and kept in the user's cache folder."""

import contextlib
import functools
import json
import math
import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from fwdkern.ops import gathered_gemm, native_info
from fwdkern.ops.active_rows import active_rows


@dataclass(frozen=True)
class Rates:
    """Multiply-adds per second of a dense convolution over slices and of a gathered GEMM on useful work; seconds that
    the latter spends on gathering one weight, however many slices it then multiplies."""

    dense: float
    rows: float
    gather: float


_imposed: list[Rates] = []


def impose(figures: Rates) -> None:
    """Plan with these figures in this process, whatever it would measure, so that several processes choose alike."""
    _imposed[:] = [figures]
    rates.cache_clear()


def cache_file() -> Path:
    """Where this machine's figures are kept.

    Raises:
        ImportError: platformdirs is absent, as it may be where only torch for CUDA was installed.
    """
    import platformdirs

    return Path(platformdirs.user_cache_dir("fwdkern")) / "calibration.json"


def clear() -> None:
    """Forget the figures; the next plan measures again."""
    with contextlib.suppress(ImportError):
        cache_file().unlink(missing_ok=True)
    rates.cache_clear()


@functools.cache
def rates(threads: int, device: str = "cpu") -> Rates:
    """This machine's figures for a number of threads or for a GPU, measured in about a third of a second if not known
    yet."""
    if _imposed:
        return _imposed[0]
    on_cpu = device.startswith("cpu")
    name = platform.processor() or platform.machine() if on_cpu else torch.cuda.get_device_name(device)
    machine = f"{name} {os.cpu_count()}"
    key = f"{machine} {torch.__version__} {native_info()['isa']} {threads}"
    known = _read()
    if key not in known:
        known[key] = asdict(_measure("cpu" if on_cpu else device))
        _write(known)
    return Rates(**known[key])


def _read() -> dict[str, dict[str, float]]:
    try:
        known = json.loads(cache_file().read_text())
        return {key: value for key, value in known.items() if _is_rates(value)}
    except (OSError, ValueError, AttributeError, TypeError, ImportError):
        return {}


def _is_rates(value: dict[str, object]) -> bool:
    figures = value.values()
    return set(value) == set(Rates.__annotations__) and all(isinstance(f, float) and 0 < f < math.inf for f in figures)


def _write(known: dict[str, dict[str, float]]) -> None:
    try:
        cache_file().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_file().parent) as folder:
            whole = Path(folder) / "calibration.json"
            whole.write_text(json.dumps(known))
            os.replace(whole, cache_file())
    except (OSError, ImportError):
        pass  # a read-only home only costs a measurement a process


def _measure(device: str) -> Rates:
    """Time one 3×3 layer of 64 channels at 16² over 128 slices, dense and at gate density 0.3."""
    side, channels, slices = 16, 64, 128
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(slices, channels, side, side, generator=generator).to(device)
    weight = torch.randn(channels, channels, 3, 3, generator=generator).to(device)
    dense = slices * side**2 * channels**2 * 9 / _best(lambda: F.conv2d(maps, weight, padding=1))
    lists = active_rows((torch.rand(channels, side**2, generator=generator) < 0.3).to(device))
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    tap = torch.arange(-1, 2)
    ty, tx = y.flatten()[:, None, None] + tap[:, None], x.flatten()[:, None, None] + tap
    inside = (ty >= 0) & (ty < side) & (tx >= 0) & (tx < side)
    taps = torch.where(inside, ty * side + tx, -1).flatten(1).int().contiguous().to(device)
    packed = weight.flatten(2).permute(2, 1, 0).contiguous()
    rows = torch.randn(len(lists[1]), slices, generator=generator).to(device)
    seconds = _best(lambda: gathered_gemm(rows, lists, lists, taps, packed))
    count = lists[0].diff()
    pairs = int((torch.where(taps >= 0, count[taps.clamp_min(0).long()], 0).sum(1) * count).sum())
    few = rows[:, :1].contiguous()
    gather = _best(lambda: gathered_gemm(few, lists, lists, taps, packed)) / pairs
    return Rates(dense, pairs * slices / seconds, gather)


def _best(work: Callable[[], object], repeats: int = 5) -> float:
    work()
    times = []
    for _ in range(repeats):
        _finish()
        start = time.perf_counter()
        work()
        _finish()
        times.append(time.perf_counter() - start)
    return sorted(times)[repeats // 2]


def _finish() -> None:
    """Wait for what a GPU has been given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
