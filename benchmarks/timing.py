"""Seconds of several contenders in one process, interleaved."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

MM_SIDE = 1024


@dataclass(frozen=True)
class Effort:
    """How long to measure: rounds at most, and seconds after which no round but the third is begun."""

    rounds: int = 9
    seconds: float = 25.0


def seconds_of(run: Callable[[], Any]) -> float:
    """Wall-clock seconds of one call; with a GPU, from its being idle with a cold L2 to its being idle again."""
    _settle(cold=True)
    start = time.perf_counter()
    run()
    _settle(cold=False)
    return time.perf_counter() - start


def _settle(cold: bool) -> None:
    if torch.cuda.is_available():
        if cold:
            torch.zeros(2**28, dtype=torch.uint8, device="cuda")  # several times any L2
        torch.cuda.synchronize()


def interleaved(runs: dict[str, Callable[[], Any]], effort: Effort) -> dict[str, list[float]]:
    """Seconds of each run in each round. The order moves on by one a round, so that none follows always the same."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    start = time.perf_counter()
    for turn in range(effort.rounds):
        if turn >= 3 and time.perf_counter() - start > effort.seconds:
            break
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            taken[name].append(seconds_of(runs[name]))
    return taken


def mm_run(device: str = "cpu") -> Callable[[], Any]:
    """The product whose rate is the ceiling, in float32: mm_side(device)**3 multiply-adds."""
    side = mm_side(device)
    square = torch.randn(side, side, generator=torch.Generator().manual_seed(0)).to(device)
    return lambda: square @ square


def mm_side(device: str) -> int:
    """Large enough for the device's full rate."""
    return MM_SIDE if device == "cpu" else 8192
