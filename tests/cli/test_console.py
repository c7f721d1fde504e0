"""Progress appears only for long work."""

import io
import time

import pytest
from rich.console import Console

from fwdkern.cli import console


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    text = io.StringIO()
    monkeypatch.setattr(console, "stderr", Console(file=text, force_terminal=True, width=80))
    monkeypatch.setattr(console, "_PATIENCE", 0.2)
    return text


def test_short_work_shows_nothing(screen: io.StringIO) -> None:
    with console.progress(2) as steps:
        steps.start("short")
        steps.done()
    assert screen.getvalue() == ""


def test_long_work_shows_what_is_going_on(screen: io.StringIO) -> None:
    with console.progress(2) as steps:
        steps.start("long work")
        steps.done()
        time.sleep(0.6)
    assert "long work" in screen.getvalue() and "1/2" in screen.getvalue()


def test_an_error_stops_the_bar(screen: io.StringIO) -> None:
    with pytest.raises(RuntimeError, match="broken"), console.progress(1):
        time.sleep(0.4)
        raise RuntimeError("broken")
    length = len(screen.getvalue())
    time.sleep(0.3)
    assert len(screen.getvalue()) == length
