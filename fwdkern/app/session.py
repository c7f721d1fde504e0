"""One visitor: a folder for what was uploaded, a worker, and all that is needed to bring a lost worker back."""

import asyncio
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fwdkern.app.input_source import InputSource
from fwdkern.app.limits import MIB, Limits
from fwdkern.app.network_source import NetworkSource
from fwdkern.app.process import Worker, WorkerError
from fwdkern.errors import InputError

_GONE = "your session has ended, because it was idle or others needed the room: reload the page to begin another"


class Session:
    """One visitor's state. Requests are computed one after the other."""

    def __init__(self, identity: str, limits: Limits, threads: int) -> None:
        self.identity, self.limits, self.threads = identity, limits, threads
        self.folder = Path(tempfile.mkdtemp(prefix="fwdkern-serve-"))  # nobody else may read it
        self.inputs: dict[str, InputSource] = {}
        self.network: bytes | None = None  # its description as JSON
        self.worker: Worker | None = None
        self.last_used = time.monotonic()
        self.closed = False
        self._source: NetworkSource | None = None
        self._preprocessing: dict[str, Any] | None = None
        self._turn, self._upload = asyncio.Lock(), asyncio.Lock()

    @property
    def busy(self) -> bool:
        """Whether a request is being computed."""
        return self._turn.locked()

    async def open(self, source: NetworkSource, preprocessing: dict[str, Any] | None = None) -> bytes:
        """Parse a network; the one before it stays if that fails."""
        async with self._turn:
            worker = await self._started(reopen=False)
            try:
                self.network = await worker.ask("open", _opening(source, preprocessing), self.limits.opening)
            except BaseException:
                await self._reopen_quietly()
                raise
            self._drop_file(self._source, keep=source)
            self._source, self._preprocessing = source, preprocessing
            return self.network

    async def preprocess(self, changed: dict[str, Any]) -> bytes:
        """Change how images become inputs."""
        async with self._turn:
            worker = await self._started()
            try:
                self.network = await worker.ask("preprocess", changed, self.limits.seconds)
            except BaseException as error:
                # It may have been applied already; what the visitor got no answer about must not be in force.
                if not (isinstance(error, WorkerError) and error.status == 422):
                    worker.kill("a change of the preprocessing was given up")
                raise
            self._preprocessing = changed
            return self.network

    async def ask(self, do: str, identity: str, arguments: dict[str, Any]) -> bytes:
        """The worker's answer to a question about one input."""
        async with self._turn:
            if identity not in self.inputs:
                raise WorkerError(404, "This input is not in your strip any more; add it again.")
            worker = await self._started()
            return await worker.ask(do, {"source": asdict(self.inputs[identity]), **arguments}, self.limits.seconds)

    async def add(self, source: InputSource) -> bytes:
        """Look at a new input and keep it if the network can read it."""
        async with self._turn:  # which the count needs too: others may be adding
            if len(self.inputs) >= self.limits.inputs and source.identity not in self.inputs:
                raise WorkerError(422, f"The strip holds {self.limits.inputs} inputs already; remove one first.")
            worker = await self._started()
            answer = await worker.ask("look", {"source": asdict(source)}, self.limits.seconds)
            self.inputs[source.identity] = source
            return answer

    def remove(self, identity: str) -> None:
        """Forget an input and its file."""
        source = self.inputs.pop(identity, None)
        if source is not None and source.path:
            Path(source.path).unlink(missing_ok=True)

    async def receive(self, parts: AsyncIterator[bytes], most: int, suffix: str) -> tuple[Path, str]:
        """Write an upload into the folder, under a name of our own; returns it and the content's identity.

        One at a time, so that a visitor fills the disk with no more than one.

        Raises:
            WorkerError: it is larger than ``most`` bytes or empty; nothing of it stays.
        """
        async with self._upload:
            return await self._receive(parts, most, suffix)

    async def _receive(self, parts: AsyncIterator[bytes], most: int, suffix: str) -> tuple[Path, str]:
        if self.closed:
            raise WorkerError(410, _GONE)
        handle, name = tempfile.mkstemp(dir=self.folder, suffix=suffix)
        digest, size = hashlib.sha256(), 0
        try:
            with os.fdopen(handle, "wb") as file:
                async for part in parts:
                    size += len(part)
                    if size > most:
                        raise WorkerError(413, f"The file is larger than the {most // MIB} MiB that may be uploaded.")
                    digest.update(part)
                    file.write(part)
            if not size:
                raise WorkerError(422, "The file is empty.")
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        return Path(name), digest.hexdigest()[:24]

    def cancel(self) -> None:
        """Stop the running computation."""
        if self.worker is not None:
            self.worker.cancel()

    def watch(self) -> None:
        """Stop the worker if it uses too much."""
        if self.worker is not None:
            self.worker.watch()

    def close(self, reason: str = _GONE) -> None:
        """Stop the worker and delete all files."""
        self.closed = True
        if self.worker is not None:
            self.worker.kill(reason)
        shutil.rmtree(self.folder, ignore_errors=True)

    async def _started(self, reopen: bool = True) -> Worker:
        """A living worker that has the network open."""
        if self.closed:
            raise WorkerError(410, _GONE)
        self.last_used = time.monotonic()
        if self.worker is None or not self.worker.alive:
            worker = Worker(self.limits, self.threads)
            try:
                await worker.start()
            except BaseException:
                worker.kill("nobody waits for it any more")
                raise
            if self.closed:  # meanwhile
                worker.kill(_GONE)
                raise WorkerError(410, _GONE)
            self.worker = worker
            if reopen and self._source is not None:
                await self._reopen(worker)
        return self.worker

    async def _reopen(self, worker: Worker) -> None:
        assert self._source is not None
        try:
            await worker.ask("open", _opening(self._source, self._preprocessing), self.limits.opening)
        except BaseException:
            worker.kill("the network could not be opened again")  # the next request tries it with another worker
            raise

    async def _reopen_quietly(self) -> None:
        """After a failed opening the worker holds no network: one that has died is replaced when it is needed."""
        if self._source is not None and self.worker is not None and self.worker.alive and not self.closed:
            self.worker.kill("another network could not be opened")

    def _drop_file(self, source: NetworkSource | None, keep: NetworkSource) -> None:
        if source is None:
            return
        for name in {source.name, source.weights or ""} - {keep.name, keep.weights or ""}:
            if Path(name).parent == self.folder:
                Path(name).unlink(missing_ok=True)


def _opening(source: NetworkSource, preprocessing: dict[str, Any] | None) -> dict[str, Any]:
    return {"source": asdict(source), "preprocessing": preprocessing}


def label_of(given: str) -> str:
    """What an uploaded file is called on the page: its last name without control characters; never used as a path."""
    last = given.replace("\\", "/").rsplit("/", 1)[-1]
    shown = "".join(c for c in last if c.isprintable()).strip()[:80]
    if not shown:
        raise InputError("The file has no name.")
    return shown
