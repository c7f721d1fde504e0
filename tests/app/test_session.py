"""Limits of a visitor: memory, time, idleness, and room for others."""

import asyncio
import os
import time
from collections.abc import Coroutine
from dataclasses import asdict
from typing import Any

import psutil
import pytest

from fwdkern.app.input_source import samples
from fwdkern.app.limits import MIB, Limits
from fwdkern.app.network_source import NetworkSource, named
from fwdkern.app.process import Worker, WorkerError
from fwdkern.app.session import Session, label_of
from fwdkern.app.sessions import Sessions
from fwdkern.errors import InputError


def within(work: Coroutine[Any, Any, None], seconds: float = 120) -> None:
    asyncio.run(asyncio.wait_for(work, seconds))


async def refused(work: Coroutine[Any, Any, bytes], status: int) -> str:
    with pytest.raises(WorkerError) as caught:
        await work
    assert caught.value.status == status
    return str(caught.value)


def test_a_worker_that_holds_too_much_is_stopped() -> None:
    async def work() -> None:
        worker = Worker(Limits(memory=32 * MIB), 1)
        await worker.start()
        assert worker.pid is not None
        process = psutil.Process(worker.pid)
        asked = asyncio.create_task(worker.ask("open", {"source": asdict(named("digits")), "preprocessing": None}, 60))
        while not asked.done():
            worker.watch()
            await asyncio.sleep(0.05)
        message = await refused(asked, 503)  # type: ignore[arg-type]
        assert "32 MiB" in message
        assert not worker.alive and (not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)

    within(work())


def test_ten_thousand_layers_end_at_the_time_limit_and_the_session_goes_on() -> None:
    async def work() -> None:
        session = Session("visitor", Limits(opening=60), 1)
        await session.open(named("digits"))
        await session.add(samples()[0])
        deep = NetworkSource("deep", "deep", "tests.app.networks:ten_thousand_layers")
        session.limits = session.worker.limits = Limits(opening=4)  # type: ignore[union-attr]
        started = time.monotonic()
        assert "longer than the 4 seconds" in await refused(session.open(deep), 503)
        assert time.monotonic() - started < 30
        session.limits = Limits(opening=60)
        assert await session.ask("look", "sample-0", {})
        session.close()

    within(work())


def test_a_worker_that_is_killed_before_it_runs() -> None:
    async def work() -> None:
        worker = Worker(Limits(), 1)
        assert not worker.alive and worker.pid is None
        worker.watch()
        worker.kill("nobody needs it")
        await worker.start()
        assert "nobody needs it" in await refused(worker.ask("open", {}, 60), 503)

    within(work())


def test_a_start_that_is_given_up_leaves_no_worker() -> None:
    async def work() -> None:
        session = Session("visitor", Limits(), 1)
        started: list[Worker] = []

        class Slow(Worker):
            def _start(self) -> None:
                started.append(self)
                time.sleep(0.3)
                super()._start()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("fwdkern.app.session.Worker", Slow)
            opening = asyncio.create_task(session.open(named("digits")))
            await asyncio.sleep(0.1)
            session.watch()
            session.cancel()
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
        assert session.worker is None
        while started[0].pid is None or psutil.pid_exists(started[0].pid):
            await asyncio.sleep(0.05)
        assert await session.open(named("digits"))
        session.close()

    within(work())


def test_what_is_given_up_while_a_worker_is_brought_back_is_asked_again() -> None:
    async def work() -> None:
        session = Session("visitor", Limits(), 1)
        await session.open(named("digits"))
        await session.add(samples()[0])
        assert session.worker is not None
        session.worker.kill("for a test")
        asked = asyncio.create_task(session.ask("look", "sample-0", {}))
        while session.worker.pid is None or session.worker._busy is None or not session.worker.alive:
            await asyncio.sleep(0)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert await session.ask("look", "sample-0", {})
        session.close()

    within(work())


@pytest.mark.parametrize("answered", [False, True], ids=["while computed", "as the answer comes"])
def test_a_change_of_the_preprocessing_that_is_given_up_is_not_in_force(answered: bool) -> None:
    async def work() -> None:
        session = Session("visitor", Limits(), 1)
        before = await session.open(named("digits"))
        changing = asyncio.create_task(session.preprocess({"mean": [0.25], "std": [0.5]}))
        await asyncio.sleep(0)
        if answered:
            time.sleep(1)  # holds the loop, so that the answer is delivered in the round that cancels
            await asyncio.sleep(0)
        changing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await changing
        assert session.network == before and session.worker is not None and not session.worker.alive
        await session.add(samples()[0])
        session.close()

    within(work())


def test_a_worker_stuck_in_a_cancelled_request_is_stopped_though_another_waits() -> None:
    async def work() -> None:
        worker = Worker(Limits(), 1)
        await worker.start()
        opening = {"source": asdict(named("digits")), "preprocessing": None}
        await worker.ask("open", opening, 60)
        process = psutil.Process(worker.pid)
        process.suspend()  # as deaf as one that computes in C
        stuck = asyncio.create_task(worker.ask("open", opening, 60))
        await asyncio.sleep(0.1)
        stuck.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stuck
        started = time.monotonic()
        message = await refused(worker.ask("open", opening, 60), 503)
        assert "cancelled did not end" in message and time.monotonic() - started < 10
        assert not worker.alive

    within(work())


def test_a_cancelled_request_does_not_stop_the_next() -> None:
    async def work() -> None:
        worker = Worker(Limits(), 1)
        await worker.start()
        opening = {"source": asdict(named("digits")), "preprocessing": None}
        for _ in range(3):
            given_up = asyncio.create_task(worker.ask("open", opening, 60))
            await asyncio.sleep(0.01)
            given_up.cancel()
            with pytest.raises(asyncio.CancelledError):
                await given_up
        assert await worker.ask("open", opening, 60)
        await asyncio.sleep(2.2)
        assert worker.alive and not worker._unanswered
        worker.kill("the test is over")

    within(work())


def test_many_inputs_at_a_time_keep_to_the_limit() -> None:
    async def work() -> None:
        session = Session("visitor", Limits(inputs=2), 1)
        await session.open(named("digits"))
        found = await asyncio.gather(*(session.add(source) for source in samples()[:5]), return_exceptions=True)
        assert len(session.inputs) == 2 and sum(isinstance(one, WorkerError) for one in found) == 3
        session.close()

    within(work())


def test_one_session_that_cannot_be_watched_does_not_end_the_watch() -> None:
    async def work() -> None:
        sessions = Sessions(Limits(idle=0.3), 1)
        broken, idle = sessions.begin(), sessions.begin()

        def fail() -> None:
            raise OSError("no such process")

        broken.watch = fail  # type: ignore[method-assign]
        await sessions.start()
        await asyncio.sleep(1)
        assert sessions.find(idle.identity) is None
        sessions.close()

    within(work())


def test_sessions_make_room_and_leave_when_idle() -> None:
    async def work() -> None:
        sessions = Sessions(Limits(sessions=2, idle=0.3), 1)
        first, second = sessions.begin(), sessions.begin()
        assert first.identity != second.identity and len(first.identity) >= 43
        assert os.stat(first.folder).st_mode & 0o077 == 0, "nobody else reads uploads"
        assert sessions.find(first.identity) is first
        third = sessions.begin()
        assert sessions.find(second.identity) is None and not second.folder.exists()
        assert "session has ended" in await refused(second.open(named("digits")), 410)
        await sessions.start()
        await asyncio.sleep(1.5)
        assert sessions.find(first.identity) is None and sessions.find(third.identity) is None
        assert not first.folder.exists() and not third.folder.exists()
        assert sessions.find(None) is None and sessions.find("") is None
        sessions.close()

    within(work())


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("a.png", "a.png"),
        ("../../etc/passwd", "passwd"),
        ("C:\\x\\y.png", "y.png"),
        ("a\x00\nb", "ab"),
        ("é" * 99, "é" * 80),
    ],
)
def test_labels(given: str, shown: str) -> None:
    assert label_of(given) == shown


def test_a_file_without_a_name() -> None:
    for given in ("", "/", "..\\", "\n"):
        with pytest.raises(InputError, match="no name"):
            label_of(given)


def test_a_process_that_cannot_be_started_is_told_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Worker) -> None:
        raise OSError("AF_UNIX path too long")

    monkeypatch.setattr(Worker, "_start", fail)
    assert "AF_UNIX path too long" in asyncio.run(refused(_start_only(), 503))


async def _start_only() -> bytes:
    await Worker(Limits(), 1).start()
    return b""
