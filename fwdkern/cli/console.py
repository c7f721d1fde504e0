"""What the command line prints: results on stdout, errors, warnings and progress on stderr."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

_PATIENCE = 2.0  # seconds of work before a progress bar appears

stdout = Console(highlight=False)
stderr = Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """Print one line as it is, without wrapping or markup."""
    stdout.print(text, markup=False, soft_wrap=True)


def complain(text: str) -> None:
    """Print an error."""
    stderr.print(f"Error: {text}", style="red", markup=False, soft_wrap=True)


def warn(text: str) -> None:
    """Print a warning."""
    stderr.print(f"Warning: {text}", style="yellow", markup=False, soft_wrap=True)


class Steps:
    """Counts finished steps of a piece of work."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=total)

    def start(self, what: str) -> None:
        """Say what is being worked on."""
        self._progress.update(self._task, description=what)

    def done(self) -> None:
        """Count one step as finished."""
        self._progress.advance(self._task)


@contextmanager
def progress(total: int) -> Iterator[Steps]:
    """Show a progress bar over `total` steps once the work has taken two seconds."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bar = Progress(*columns, console=stderr, transient=True)
    steps = Steps(bar, total)
    timer = threading.Timer(_PATIENCE, bar.start)
    timer.daemon = True
    timer.start()
    try:
        yield steps
    finally:
        timer.cancel()
        timer.join()
        bar.stop()


class Counter:
    """Counts inputs of a long run, with their rate, the time that is left and how many failed."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=None, failed="")

    def show(self, done: int, total: int, failed: int) -> None:
        """Say how many inputs are done, of which some failed."""
        first = self._progress.tasks[0].total is None
        note = f"{failed} failed" if failed else ""
        if first:  # what an earlier run did says nothing about this one's rate
            self._progress.reset(self._task, total=total, completed=done, failed=note)
        else:
            self._progress.update(self._task, completed=done, failed=note)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


@contextmanager
def counter() -> Iterator[Counter]:
    """Show one live bar over inputs."""
    columns = (BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn(), TextColumn("{task.fields[failed]}"))
    with Progress(*columns, console=stderr, transient=True, speed_estimate_period=120) as bar:
        yield Counter(bar)
