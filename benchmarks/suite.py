"""A run of the benchmarks from the registry to files."""

import re
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from benchmarks import crossover, record, roofline, runner, table
from benchmarks.registry import GPU_WORKLOADS, WORKLOADS, find
from benchmarks.timing import Budget, Effort
from benchmarks.workload import Task, Workload
from fwdkern.engine import calibration
from fwdkern.engine.memory import release
from fwdkern.engine.rounding import rounding

if TYPE_CHECKING:
    from rich.console import Console

# rich and matplotlib are imported where they are used: `make gpu` does with what a GPU machine has.

RESULTS = Path(__file__).with_name("results")
_FULL, _QUICK, _GPU = Effort(), Effort(rounds=1), Effort(rounds=5, seconds=20)


def run(names: Sequence[str], quick: bool, out: Path) -> None:
    """Measure the named workloads, or all and the curves, print a table and write JSON, markdown and pictures.

    Raises:
        KeyError: a name is not in the registry; the message lists those that are.
    """
    machine = record.this_machine()
    results = _measure([find(name) for name in names] or WORKLOADS, _QUICK if quick else _FULL, not quick)
    if quick:
        return
    _keep(machine, results, out, "-".join([*names, machine.isa, f"{machine.threads}-threads"]))
    if not names:
        from rich.console import Console

        from benchmarks import curves

        log = Console(stderr=True, highlight=False, log_path=False)
        with log.status("curves") as status:
            curves.draw(out, status.update if log.is_terminal else log.log)


def run_gpu(out: Path, seconds: float, names: Sequence[str] = ()) -> None:
    """The same for the workloads of GPUs, with tf32 allowed to all rivals, within some seconds; the table comes last.
    What fails is told in its place and keeps nothing else from running.

    Raises:
        KeyError: a name is not in the registry; RuntimeError: there is no GPU that torch can use.
    """
    chosen = [find(name) for name in names] or GPU_WORKLOADS
    if not torch.cuda.is_available():
        raise RuntimeError("there is no GPU that torch can use")
    calibration.clear()
    with rounding("tf32", torch.device("cuda")):
        record_ = measure_gpu(chosen, "cuda", Budget(seconds), lambda text: print(text, file=sys.stderr, flush=True))
    keep_gpu(record_, out, re.sub(r"[^a-z0-9]+", "-", record_.machine.processor.lower()).strip("-"))


def measure_gpu(
    workloads: Sequence[Workload], device: str, budget: Budget, say: Callable[[str], None]
) -> record.GpuRecord:
    """Ceilings, then workloads in order while there is time, then the crossover of dense and gathered products."""
    machine = record.this_machine()
    say("ceilings: torch.mm and copies")
    small = {} if device != "cpu" else {"side": 64, "count": 2**12}
    ceilings = roofline.measure(device, **small)
    results: list[record.Result] = []
    points: list[record.Point] = []
    skipped: list[str] = []
    for number, workload in enumerate(workloads):
        effort = budget.effort(_GPU, len(workloads) - number)
        if effort is None:
            skipped.append(workload.name)
            say(f"{workload.name}: left out, the time is over")
            continue
        tasks: list[Task] = []

        def build(workload: Workload = workload, tasks: list[Task] = tasks) -> Task:
            tasks.append(workload.build())
            return tasks[-1]

        try:
            results.append(runner.run(replace(workload, build=build), effort, False, say))
            points += [point for task in tasks for point in roofline.points(results[-1], task)]
        except Exception as error:  # a first run on a machine must tell of all that fails
            reason = f"it failed, {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            results.append(runner.not_run(workload, reason))
            say("".join(traceback.format_exception(error)))
        tasks.clear()
        release(torch.device(device))
    crossovers: list[record.Crossover] = []
    if budget.left > 0:
        say("crossover of dense and gathered products")
        try:
            small = {} if device != "cpu" else {"channels": 8, "side": 4, "slices": 16, "rounds": 1}
            crossovers = crossover.measure(device, ceilings, **small)
        except Exception as error:
            say("".join(traceback.format_exception(error)))
            skipped.append("crossover")
    else:
        skipped.append("crossover")
    return record.GpuRecord(record.VERSION, machine, results, ceilings, points, crossovers, skipped)


def keep_gpu(done: record.GpuRecord, out: Path, stem: str) -> None:
    """Write JSON, markdown and the roofline, and print the markdown."""
    record.write(done, out / f"{stem}.json")
    text = table.markdown(done)
    if done.results:
        text += "\n".join(["## Ceilings", "", *(f"- {line}" for line in gpu_sentences(done)), ""])
    try:
        roofline.picture(done, out / f"{stem}.png")
        text += f"\n![Useful rates under the measured ceilings]({stem}.png)\n"
    except ImportError as missing:
        text += f"\nNo picture: {missing}.\n"
    (out / f"{stem}.md").write_text(text)
    print(text)


def gpu_sentences(done: record.GpuRecord) -> list[str]:
    """What stands below the tables."""
    lines = [*roofline.sentences(done), *crossover.sentences(done.crossovers)]
    if done.skipped:
        lines.append(
            f"Left out, since the time was over: {', '.join(done.skipped)}. "
            "`python -m benchmarks --gpu --seconds 600 NAME` measures one of them."
        )
    return lines


def _measure(workloads: Sequence[Workload], effort: Effort, with_memory: bool) -> list[record.Result]:
    """Results, shown as they come. The planner's rates are measured anew, so that a run does not depend on what an
    earlier one found."""
    from rich.console import Console

    calibration.clear()
    console, log = Console(highlight=False), Console(stderr=True, highlight=False, log_path=False)
    results = []
    for workload in workloads:
        with log.status(workload.name) as status:
            say = status.update if log.is_terminal else log.log
            results.append(runner.run(workload, effort, with_memory, say))
        show(results[-1], console)
    return results


def _keep(machine: record.Machine, results: list[record.Result], out: Path, stem: str) -> None:
    done = record.Record(record.VERSION, machine, results)
    record.write(done, out / f"{stem}.json")
    (out / f"{stem}.md").write_text(table.markdown(done))
    print(f"Written to {out}: {stem}.json, {stem}.md")


def show(result: record.Result, console: "Console") -> None:
    """One workload as a table with its sentences."""
    from rich.table import Table

    if result.absent:
        console.print(f"{result.title}: not run, {result.absent}", markup=False)
        return
    view = Table(*table.COLUMNS, title=result.title, title_justify="left", title_style="bold", box=None)
    for row in table.rows(result):
        view.add_row(*row)
    console.print(view)
    for line in table.summary(result):
        console.print(line, markup=False)
    console.print()
