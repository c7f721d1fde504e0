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
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


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


def mm_run() -> Callable[[], Any]:
    """The product whose rate is the ceiling: 1024³ in float32, MM_SIDE**3 multiply-adds."""
    square = torch.randn(MM_SIDE, MM_SIDE, generator=torch.Generator().manual_seed(0))
    return lambda: square @ square
