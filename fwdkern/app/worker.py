"""The worker process of one visitor: parses the network and computes, within limits, until its pipe closes.

Requests come as JSON, answers go as safetensors or JSON with one letter in front: "A" an answer, "E" an error that the
visitor caused, "F" a failure of ours, "C" cancelled, "P" progress; eight bytes of the request's number follow it.
"""

import _thread
import json
import os
import queue
import resource
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any

import psutil
import torch

from fwdkern.app.answers import pack
from fwdkern.app.explorer import Explorer
from fwdkern.app.input_source import InputSource
from fwdkern.app.network_source import NetworkSource
from fwdkern.errors import FwdkernError, InputError
from fwdkern.preprocessing import Preprocessing

_STEP = 0.2  # seconds between two reports of progress


class _Cancelled(BaseException):
    """Raised in the middle of a computation that the visitor no longer wants."""


@dataclass
class _Current:
    """What the main thread is working on, and what it is to stop."""

    request: int | None = None
    cancelled: set[int] = field(default_factory=set)


def main(connection: Connection, memory: int, seconds: float, pixels: int, threads: int) -> None:
    """Serve requests until the other end closes. The arguments are bounds, see `Limits`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the server decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    current = _Current()

    def stop(number: int, frame: FrameType | None) -> None:
        if current.request in current.cancelled:
            current.cancelled.discard(current.request)  # once: the next signal may come while this one is handled
            raise _Cancelled

    signal.signal(signal.SIGUSR1, stop)
    torch.set_num_threads(threads)
    _bound_memory(memory)
    requests: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_receive, args=(connection, requests, current), daemon=True).start()
    desk = _Desk(connection, pixels)
    while True:
        request = requests.get()
        try:
            current.request = request["id"]
            _bound_time(seconds * threads)
            letter, rest = desk.serve(request) if request["id"] not in current.cancelled else (b"C", b"")
            current.request = None
        except _Cancelled:
            current.request = None
            letter, rest = b"C", b""
        current.cancelled.discard(request["id"])
        _send(connection, letter, request["id"], rest)
        if requests.empty() and desk.explorer is not None:
            desk.explorer.work_ahead()


def _receive(connection: Connection, requests: "queue.Queue[dict[str, Any]]", current: _Current) -> None:
    """Read the pipe while the main thread computes; without a server there is nothing left to do."""
    try:
        while True:
            request = json.loads(connection.recv_bytes())
            if request["do"] != "cancel":
                requests.put(request)
                continue
            current.cancelled.add(request["id"])
            _thread.interrupt_main(signal.SIGUSR1)
    except (EOFError, OSError):
        os._exit(0)


def _bound_memory(memory: int) -> None:
    """A hard bound on top of the one that the server watches: addresses are reserved more freely than they are used."""
    limit = psutil.Process().memory_info().vms + 2 * memory
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _bound_time(seconds: float) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime + seconds) + 1, hard))


def _send(connection: Connection, letter: bytes, request: int, rest: bytes) -> None:
    connection.send_bytes(letter + request.to_bytes(8, "little") + rest)


class _Desk:
    """Turns requests into replies."""

    def __init__(self, connection: Connection, pixels: int) -> None:
        self.connection, self.pixels = connection, pixels
        self.explorer: Explorer | None = None
        self._reported = 0.0
        self._request = 0

    def serve(self, request: dict[str, Any]) -> tuple[bytes, bytes]:
        """Letter and content of the reply."""
        self._request = request["id"]
        try:
            return b"A", self._answer(request["do"], request["with"])
        except FwdkernError as error:
            return b"E", _error(str(error))
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, MemoryError) or "allocate memory" in str(error):
                return b"E", _error("This needs more memory than one visitor may use; try a smaller network or image.")
            return self._failure(error)
        except Exception as error:
            return self._failure(error)

    def _answer(self, do: str, given: dict[str, Any]) -> bytes:
        if do == "open":
            self.explorer = None  # its memory goes before the next network comes
            asked = given["preprocessing"]
            preprocessing = None if asked is None else Preprocessing(**asked)
            self.explorer = Explorer(NetworkSource(**given["source"]), preprocessing, self.pixels)
            return json.dumps(self.explorer.describe()).encode()
        if self.explorer is None:
            raise InputError("No network is open; choose one first.")
        if do == "preprocess":
            changed = replace(self._known(), **given)
            self.explorer.prepare(changed)
            return json.dumps(self.explorer.describe()).encode()
        arguments = {**given, "source": InputSource(**given["source"])}
        if do == "saliency":
            arguments["progress"] = self._progress
        return pack(*getattr(self.explorer, do)(**arguments))

    def _known(self) -> Preprocessing:
        assert self.explorer is not None
        if self.explorer.preprocessing is None:
            raise InputError(
                "This network reads sentences; they are split at their words and not preprocessed further."
            )
        return self.explorer.preprocessing

    def _progress(self, done: int, total: int) -> None:
        if time.monotonic() > self._reported + _STEP:
            self._reported = time.monotonic()
            told = json.dumps({"done": done, "total": total}).encode()
            _send(self.connection, b"P", self._request, told)

    @staticmethod
    def _failure(error: Exception) -> tuple[bytes, bytes]:
        traceback.print_exception(error, file=sys.stderr)
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        return b"F", _error(f"This failed inside fwdkern ({type(error).__name__}: {first}).")


def _error(message: str) -> bytes:
    return json.dumps({"error": message}).encode()
