"""A run of the benchmarks from the registry to files."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import curves, record, runner, table
from benchmarks.registry import WORKLOADS, find
from benchmarks.timing import Effort
from fwdkern.engine import calibration

RESULTS = Path(__file__).with_name("results")
_FULL, _QUICK = Effort(), Effort(rounds=1)


def run(names: Sequence[str], quick: bool, out: Path) -> None:
    """Measure the named workloads, or all and the curves, print a table and write JSON, markdown and pictures.

    The planner's rates are measured anew, so that a run does not depend on what an earlier one found.

    Raises:
        KeyError: a name is not in the registry; the message lists those that are.
    """
    workloads = [find(name) for name in names] or WORKLOADS
    calibration.clear()
    console, log = Console(highlight=False), Console(stderr=True, highlight=False, log_path=False)
    machine = record.this_machine()
    results = []
    for workload in workloads:
        with log.status(workload.name) as status:
            say = status.update if log.is_terminal else log.log
            result = runner.run(workload, _QUICK if quick else _FULL, not quick, say)
        show(result, console)
        results.append(result)
    if quick:
        return
    stem = "-".join([*names, machine.isa, f"{machine.threads}-threads"])
    done = record.Record(record.VERSION, machine, results)
    record.write(done, out / f"{stem}.json")
    (out / f"{stem}.md").write_text(table.markdown(done))
    if not names:
        with log.status("curves") as status:
            curves.draw(out, status.update if log.is_terminal else log.log)
    console.print(f"Written to {out}: {stem}.json, {stem}.md")


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
