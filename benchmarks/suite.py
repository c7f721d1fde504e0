"""A run of the benchmarks from the registry to files."""

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import curves, record, runner, table
from benchmarks.registry import GPU_WORKLOADS, WORKLOADS, find
from benchmarks.timing import Effort
from benchmarks.workload import Workload
from fwdkern.engine import calibration

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
        log = Console(stderr=True, highlight=False, log_path=False)
        with log.status("curves") as status:
            curves.draw(out, status.update if log.is_terminal else log.log)


def run_gpu(out: Path) -> None:
    """The same for the workloads of GPUs, within minutes, with tf32 allowed to all contenders.

    Raises:
        RuntimeError: there is no GPU that torch can use.
    """
    if not torch.cuda.is_available():
        raise RuntimeError("there is no GPU that torch can use")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    machine = record.this_machine()
    results = _measure(GPU_WORKLOADS, _GPU, with_memory=False)
    _keep(machine, results, out, re.sub(r"[^a-z0-9]+", "-", machine.processor.lower()).strip("-"))


def _measure(workloads: Sequence[Workload], effort: Effort, with_memory: bool) -> list[record.Result]:
    """Results, shown as they come. The planner's rates are measured anew, so that a run does not depend on what an
    earlier one found."""
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


def show(result: record.Result, console: Console) -> None:
    """One workload as a table with its sentences."""
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
