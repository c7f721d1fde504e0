"""Results as tables."""

from benchmarks.record import NOT_RUN, Figure, Record, Result

COLUMNS = ("contender", "median", "spread", "ratio", "memory", "measured on")


def rows(result: Result) -> list[tuple[str, ...]]:
    """One row a contender, the own ones first; ``ratio`` is its time over that of the first own contender."""
    own = next((f for f in result.figures if f.role == "own" and f.seconds is not None), None)
    return [_row(figure, own) for figure in result.figures]


def summary(result: Result) -> list[str]:
    """Sentences below the table."""
    lines = []
    if result.ratio is not None:
        lines.append(f"{result.ratio:.3g} times as fast as the best rival, {result.best_rival}.")
    if result.floor is not None and result.share is not None:
        lines.append(
            f"{result.multiplies:.3g} multiply-adds, at torch.mm's rate ({2 * result.mm_rate / 1e9:.0f} GFLOP/s in this"
            f" process) {seconds(result.floor)}: {result.share:.2f} of it."
        )
    for goal in result.goals:
        if goal.value is None:
            lines.append(f"Goal not measured: {goal.text}.")
        else:
            shown = size(goal.value) if goal.value > 1e6 else f"{goal.value:.3g}"
            lines.append(f"Goal {'met' if goal.met else 'MISSED'}: {goal.text}; it is {shown}.")
    return lines


def markdown(record: Record) -> str:
    """The whole record."""
    machine = record.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    lines = [
        "# Benchmarks",
        "",
        f"{machine.processor}, {machine.cores} cores, {machine.threads} threads, {size(machine.memory)}, "
        f"{machine.isa} kernels by {machine.compiler}; {versions}. Load before the run: {machine.load_before:.1f}.",
        "",
        "Medians; the spread is the fastest and the slowest round. Every result was first compared with autograd's (a "
        "kernel's with float64) on sampled maps; a wrong one has no speed. Times measured on a part are scaled to the "
        "whole. Rivals compute maps without bias; fwdkern adds it and checks that maps are complete.",
        "",
    ]
    for result in record.results:
        lines += [f"## {result.title}", "", f"`{result.name}`", ""]
        if result.absent:
            lines += [f"Not run: {result.absent}.", ""]
            continue
        lines += [_line(COLUMNS), _line(("---",) * len(COLUMNS)), *map(_line, rows(result)), ""]
        lines += [*(f"- {text}" for text in summary(result)), f"- Tolerance of the check: {result.tolerance:.1g}.", ""]
    return "\n".join(lines)


def seconds(value: float) -> str:
    """``12.3 ms``."""
    if value < 1e-3:
        return f"{value * 1e6:.3g} µs"
    if value < 1:
        return f"{value * 1e3:.3g} ms"
    return f"{value:.3g} s" if value < 1000 else f"{value:.0f} s"


def size(value: float) -> str:
    """``12.3 MiB``."""
    return f"{value / 2**30:.2f} GiB" if value >= 2**30 else f"{value / 2**20:.1f} MiB"


def _row(figure: Figure, own: Figure | None) -> tuple[str, ...]:
    name = f"{figure.name} ({figure.variant})" if figure.variant else figure.name
    if figure.seconds is None or figure.low is None or figure.high is None:
        return name, "–", "–", "–", "–", figure.wrong if figure.wrong.startswith(NOT_RUN) else f"WRONG: {figure.wrong}"
    ratio = f"{figure.seconds / own.seconds:.3g}" if own and own.seconds else "–"
    spread = f"{seconds(figure.low)} – {seconds(figure.high)}"
    memory = size(figure.memory.peak) if figure.memory else ""
    part = f"{figure.part}, scaled" if figure.part else f"all, {figure.rounds} rounds"
    return name, seconds(figure.seconds), spread, ratio, memory, part


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"
