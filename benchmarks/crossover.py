"""At which density a dense product is faster than a gathered one, for the table of `fwdkern/engine/rows/routing.py`."""

import statistics
from collections.abc import Callable, Iterable
from typing import Any

import torch

from benchmarks.kernel_gathered_gemm import make_case
from benchmarks.record import Ceilings, Crossover
from benchmarks.timing import seconds_of
from fwdkern.engine.rounding import rounding
from fwdkern.engine.rows.routing import dense_product
from fwdkern.ops import gathered_gemm

DENSITIES = (0.3, 0.5, 0.7, 0.85, 1.0)


def measure(
    device: str,
    ceilings: Ceilings,
    channels: int = 256,
    side: int = 14,
    slices: int = 256,
    densities: Iterable[float] = DENSITIES,
    rounds: int = 5,
) -> list[Crossover]:
    """One 3×3 layer, active at random on both sides, in each precision."""
    found = []
    for precision, ceiling in ceilings.matmul.items():
        gathered, shares, seconds = [], [], 0.0
        for density in densities:
            random = torch.Generator().manual_seed(0)
            case = make_case(channels, side, slices, density, random)
            run, dense = _both(case, precision, device)
            gathered.append(_median(run, device, rounds))
            shares.append(case.useful_flops() / gathered[-1] / ceiling)
            with rounding(precision, torch.device(device)):
                seconds = _median(dense, device, rounds)  # much the same at all densities; the last one counts
        whole = 2 * 9 * channels**2 * side**2 * slices / ceiling
        copies = max(seconds / whole - 1, 0.0) * channels
        share = statistics.median(shares)
        found.append(Crossover(precision, list(densities), gathered, seconds, share, copies))
    return found


def _both(case: Any, precision: str, device: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
    def there(part: Any) -> Any:
        return tuple(each.to(device) for each in part) if isinstance(part, tuple) else part.to(device)

    rows, in_rows, out_rows, taps, weight, out = (
        there(part) for part in (case.rows, case.in_rows, case.out_rows, case.taps, case.weight, case.out)
    )
    arena = torch.cat([torch.zeros_like(rows[:1]), rows])
    offset, channel = in_rows
    positions = torch.arange(len(offset) - 1, device=device)
    place = torch.zeros(len(positions), weight.shape[1], dtype=torch.int64, device=device)
    place[positions.repeat_interleave(offset.diff()), channel.long()] = torch.arange(1, len(arena), device=device)
    own = positions.repeat_interleave(out_rows[0].diff())
    taps_long = taps.long()

    def run() -> torch.Tensor:
        return gathered_gemm(rows, in_rows, out_rows, taps, weight, out=out, precision=precision)

    def dense() -> torch.Tensor:
        return dense_product(arena, place, taps_long, weight, own, out_rows[1], precision)

    return run, dense


def _median(run: Callable[[], Any], device: str, rounds: int) -> float:
    run()
    return statistics.median(seconds_of(run, device) for _ in range(rounds))


def sentences(crossovers: list[Crossover]) -> list[str]:
    """What was found, and the table that follows from it."""
    lines = []
    for each in crossovers:
        gathered = zip(each.densities, each.gathered, strict=True)
        slower = [density for density, seconds in gathered if seconds > each.dense]
        where = f"from density {min(slower):g} on" if slower else "at no density"
        lines.append(
            f"Dense products in {each.precision} are faster {where} (both sides; 3×3, dense {each.dense:.3g} s)."
        )
    table = ", ".join(f'"{each.precision}": Share({each.share:.2f}, {each.copies:.0f})' for each in crossovers)
    return [*lines, f"Measured table for fwdkern/engine/rows/routing.py: SHARES = {{{table}}}"] if lines else []
