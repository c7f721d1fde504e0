"""What the command line prints: results on stdout, errors, warnings and progress on stderr."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

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
