"""The server's end of a worker process."""

import asyncio
import contextlib
import json
import multiprocessing
import threading
from multiprocessing.context import ForkServerContext
from typing import Any

import psutil

from fwdkern.app.limits import MIB, Limits

_GRACE = 2.0  # seconds that a cancelled computation has to stop by itself
_CANCELLED = "it was cancelled"
_STUCK = "an earlier computation that was cancelled did not end"
_LOST = b"L"


class WorkerError(Exception):
    """A request without an answer; status is what HTTP calls it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def context() -> ForkServerContext:
    """Workers are forked from a process that has imported torch and nothing of any visitor."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(["fwdkern.app.worker"])
    return made


class Worker:
    """One worker process; one request at a time, the caller sees to that."""

    def __init__(self, limits: Limits, threads: int) -> None:
        self.limits, self.threads = limits, threads
        self.progress: tuple[int, int] | None = None
        self._number = 0
        self._reason = ""
        self._process: Any = None  # until it runs
        self._busy: int | None = None  # the newest request without an answer
        self._unanswered: set[int] = set()  # with those that were given up, which the process may still be working on
        self._waiting: asyncio.Future[tuple[bytes, bytes]] | None = None
        self._cancelled = False

    async def start(self) -> None:
        """Start the process; raises WorkerError, with the reason, where that fails."""
        self._loop = asyncio.get_running_loop()
        try:
            await asyncio.to_thread(self._start)
        except OSError as error:  # no memory or processes left, or a folder for sockets with too long a name
            raise WorkerError(503, f"No process could be started that computes for you: {error}.") from error

    def _start(self) -> None:
        from fwdkern.app import worker

        made = context()
        self._connection, theirs = made.Pipe()
        limits = self.limits
        arguments = (theirs, limits.memory, max(limits.seconds, limits.opening), limits.pixels, self.threads)
        process = made.Process(target=worker.main, args=arguments, daemon=True)
        process.start()
        theirs.close()
        self._process = process
        if self._reason:  # it was killed before it ran
            process.kill()
        # Here and not in `start`, which may have been cancelled: somebody has to read what the process says.
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def alive(self) -> bool:
        """Whether it can take a request."""
        return self._process is not None and self._process.is_alive() and not self._reason

    @property
    def pid(self) -> int | None:
        """The process's number, None before it runs."""
        return None if self._process is None else self._process.pid

    async def ask(self, do: str, arguments: dict[str, Any], seconds: float) -> bytes:
        """The answer to one request. A caller that is cancelled cancels the computation.

        Raises:
            WorkerError: the visitor's mistake, a cancelled or too long computation, or a lost worker.
        """
        self._number += 1
        self._cancelled, self.progress = False, None
        self._busy, self._waiting = self._number, self._loop.create_future()
        self._unanswered.add(self._number)
        try:
            self._send({"id": self._number, "do": do, "with": arguments})
            async with asyncio.timeout(seconds):  # wait_for forgets a cancellation that meets the answer
                letter, rest = await self._waiting
        except TimeoutError:
            self.kill(f"it took longer than the {seconds:g} seconds that this request may take")
            raise self._lost() from None
        except asyncio.CancelledError:
            self.cancel()
            raise
        finally:
            self._waiting = self.progress = None
        if letter == b"A":
            return rest
        if letter == b"C":
            raise WorkerError(409, "The computation was cancelled.")
        if letter in (b"E", b"F"):
            raise WorkerError(422 if letter == b"E" else 500, json.loads(rest)["error"])
        raise self._lost()

    def cancel(self) -> None:
        """Stop the running computation; the worker itself is stopped if it does not obey."""
        if self._busy is None or self._cancelled:
            return
        self._cancelled, number = True, self._busy
        self._send({"id": number, "do": "cancel"})
        self._loop.call_later(_GRACE, self._stop_stuck, number)

    def _stop_stuck(self, number: int) -> None:
        if number in self._unanswered:
            self.kill(_CANCELLED if number == self._busy else _STUCK)

    def watch(self) -> None:
        """Stop the worker if it holds more memory than it may; called several times a second."""
        try:
            held = psutil.Process(self._process.pid).memory_info().rss if self.alive else 0
        except psutil.Error:
            return
        if held > self.limits.memory:
            self.kill(f"it used more than the {self.limits.memory // MIB} MiB of memory that a visitor may use")

    def kill(self, reason: str) -> None:
        """Stop the process at once, or as soon as it has been started."""
        self._reason = self._reason or reason
        if self._process is not None:
            self._process.kill()

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._connection.send_bytes(json.dumps(message).encode())
        except OSError:
            self._done(_LOST, self._busy, b"")

    def _read(self) -> None:
        try:
            while True:
                reply = self._connection.recv_bytes()
                letter, number, rest = reply[:1], int.from_bytes(reply[1:9], "little"), reply[9:]
                if letter == b"P":
                    told = json.loads(rest)
                    self.progress = (told["done"], told["total"])
                else:
                    self._tell(letter, number, rest)
        except (EOFError, OSError):
            self._process.join()
            self._tell(_LOST, None, b"")

    def _tell(self, letter: bytes, number: int | None, rest: bytes) -> None:
        with contextlib.suppress(RuntimeError):  # the server is gone
            self._loop.call_soon_threadsafe(self._done, letter, number, rest)

    def _done(self, letter: bytes, number: int | None, rest: bytes) -> None:
        """A reply to an earlier request, which was given up, finds nobody waiting."""
        if letter == _LOST:
            self._unanswered.clear()
        elif number is not None:
            self._unanswered.discard(number)
        if letter == _LOST or number == self._busy:
            self._busy = None
            if self._waiting is not None and not self._waiting.done():
                self._waiting.set_result((letter, rest))

    def _lost(self) -> WorkerError:
        if self._cancelled and self._reason in (_CANCELLED, _STUCK):
            return WorkerError(409, "The computation was cancelled.")
        code = self._process.exitcode
        why = self._reason or (f"it ended by signal {-code}" if code is not None and code < 0 else "it ended")
        return WorkerError(503, f"The process that computes for you was stopped: {why}. Another one takes its place.")
