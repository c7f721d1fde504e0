"""Seconds of several contenders in one process, interleaved.

On a GPU they are those between two events on its stream, from its being idle with a cold L2: what Python does in
between counts as far as the GPU waits for it.
"""

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


def seconds_of(run: Callable[[], Any], device: str = "cpu") -> float:
    """Seconds of one call: wall clock on the CPU, between events on a GPU."""
    if device == "cpu":
        begin = time.perf_counter()
        run()
        return time.perf_counter() - begin
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    flush_l2(device)
    torch.cuda.synchronize()
    start.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3


def flush_l2(device: str) -> None:
    """Write several times what any L2 holds."""
    torch.zeros(2**28, dtype=torch.uint8, device=device)


def interleaved(runs: dict[str, Callable[[], Any]], effort: Effort, device: str = "cpu") -> dict[str, list[float]]:
    """Seconds of each run in each round. The order moves on by one a round, so that none follows always the same."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    start = time.perf_counter()
    for turn in range(effort.rounds):
        if turn >= 3 and time.perf_counter() - start > effort.seconds:
            break
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            taken[name].append(seconds_of(runs[name], device))
    return taken


class Budget:
    """Seconds that a run may take as a whole."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._end = clock, clock() + seconds

    @property
    def left(self) -> float:
        return self._end - self._clock()

    def effort(self, most: Effort, workloads: int) -> Effort | None:
        """What the next of some workloads may take so that all have a turn, None if there is no time left for it. A
        workload takes about as long again for its checks."""
        share = self.left / max(workloads, 1) / 2
        return Effort(most.rounds, min(most.seconds, max(share, _LEAST))) if self.left > 4 * _LEAST else None


# Seconds of rounds below which a workload is not begun.
_LEAST = 5.0


def mm_run(device: str = "cpu") -> Callable[[], Any]:
    """The product whose rate is the ceiling, in float32: mm_side(device)**3 multiply-adds."""
    side = mm_side(device)
    square = torch.randn(side, side, generator=torch.Generator().manual_seed(0)).to(device)
    return lambda: square @ square


def mm_side(device: str) -> int:
    """Large enough for the device's full rate."""
    return MM_SIDE if device == "cpu" else 8192
