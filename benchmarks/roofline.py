"""What a GPU can do at most, measured, and how near the own ways come to it."""

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.record import Ceilings, GpuRecord, Point, Result
from benchmarks.timing import seconds_of
from benchmarks.workload import Task
from fwdkern.engine.rounding import rounding

PRECISIONS = ("ieee", "tf32", "bf16")


def measure(device: str, side: int = 8192, count: int = 2**28, rounds: int = 5) -> Ceilings:
    """torch.mm of squares in each precision, and a copy of ``count`` floats."""
    rates = {}
    for precision in PRECISIONS:
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        square = torch.randn(side, side, device=device).to(dtype)
        with rounding(precision, torch.device(device)):
            rates[precision] = 2 * side**3 / _median(lambda square=square: square @ square, device, rounds)
    source = torch.randn(count, device=device)
    target = torch.empty_like(source)
    return Ceilings(rates, 8 * count / _median(lambda: target.copy_(source), device, rounds))


def _median(run: Callable[[], Any], device: str, rounds: int) -> float:
    run()
    return statistics.median(seconds_of(run, device) for _ in range(rounds))


def points(result: Result, task: Task) -> list[Point]:
    """One for each own contender whose name tells its precision."""
    found = []
    for figure in result.figures:
        named = [precision for precision in PRECISIONS if figure.name.endswith(f", {precision}")]
        if figure.role == "own" and figure.seconds and named:
            found.append(Point(result.name, named[0], 2 * result.multiplies, task.bytes, figure.seconds))
    return found


def sentences(record: GpuRecord) -> list[str]:
    """The ceilings, and each point as shares of them."""
    rates = ", ".join(f"{rate / 1e12:.0f} Tflop/s in {name}" for name, rate in record.ceilings.matmul.items())
    lines = [f"Ceilings: torch.mm {rates}; copies {record.ceilings.copy / 1e12:.2f} TB/s."]
    for point in record.points:
        rate = point.flops / point.seconds
        line = (
            f"{point.workload}, {point.precision}: {rate / 1e12:.1f} useful Tflop/s, "
            f"{rate / record.ceilings.matmul[point.precision]:.2f} of torch.mm's"
        )
        if point.bytes is not None:
            moved = point.bytes / point.seconds
            line += f"; {moved / 1e12:.2f} TB/s at least, {moved / record.ceilings.copy:.2f} of a copy's"
        lines.append(line + ".")
    return lines


def picture(record: GpuRecord, path: Path) -> None:
    """Rates over flops a byte under both ceilings; ways whose bytes nobody counted stand on the right edge.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    intensity = [2.0**power for power in range(-2, 15)]
    for number, (precision, ceiling) in enumerate(record.ceilings.matmul.items()):
        colour = f"C{number}"
        roof = [min(ceiling, record.ceilings.copy * each) / 1e12 for each in intensity]
        axes.loglog(intensity, roof, color=colour, label=f"torch.mm in {precision}, copies")
        own = [point for point in record.points if point.precision == precision]
        for known, marker in ((True, "o"), (False, ">")):
            some = [point for point in own if (point.bytes is not None) == known]
            at = [point.flops / point.bytes if point.bytes else intensity[-1] for point in some]
            axes.plot(at, [point.flops / point.seconds / 1e12 for point in some], marker, color=colour)
    axes.set(
        title=record.machine.processor,
        xlabel="flops a byte (›: bytes not counted)",
        ylabel="useful Tflop/s",
    )
    axes.grid(True, alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
