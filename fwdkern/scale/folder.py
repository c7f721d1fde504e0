"""The output of a run: whole shards under their final names, and what they were made with."""

import contextlib
import csv
import errno
import fcntl
import json
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from fwdkern.errors import InputError
from fwdkern.files import make_folder, replace_text

_SETTINGS, _LOCK, _MANIFEST, _LOG, _SHARDS = "settings.json", ".lock", "manifest.json", "log.jsonl", "shards"
_RECORD = "shard.json"
FULL = (errno.ENOSPC, errno.EDQUOT)


class RunFolder:
    """A folder that one run at a time writes to. Use it with `with`, which holds its lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[str] | None = None
        self._made = False

    def __enter__(self) -> "RunFolder":
        if self.path.is_dir() and not (self.path / _SETTINGS).exists():
            if others := {entry.name for entry in self.path.iterdir()} - {_LOCK, _SHARDS}:
                raise InputError(f"{self.path} holds other files, such as {min(others)}; choose an empty folder.")
        while self._lock is None:
            self._made = not self.path.exists()
            make_folder(self.path / _SHARDS)
            self._lock = self._locked()
        self._lock.truncate(0)
        self._lock.write(f"process {os.getpid()} on {socket.gethostname()}")
        self._lock.flush()
        return self

    def _locked(self) -> IO[str] | None:
        """The lock of the folder; None if it was removed meanwhile, by a run that had made it and did not begin."""
        path = self.path / _LOCK
        try:
            lock = open(path, "a+", encoding="utf-8")
        except FileNotFoundError:
            return None
        try:
            # The system lets go of the lock when its holder ends, in whatever way: it cannot be left behind.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            lock.close()
            raise InputError(f"{self.path} is being written to by {holder}; wait for it, or choose another.") from error
        # Nobody else sees the lock of a file that is not in the folder any more.
        if path.exists() and os.path.samestat(os.fstat(lock.fileno()), path.stat()):
            return lock
        lock.close()
        return None

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.truncate(0)
            # Before the lock is given up: the folder would be the next one's.
            if self._made and not (self.path / _SETTINGS).exists():  # no run began
                shutil.rmtree(self.path, ignore_errors=True)
            self._lock.close()
            self._lock = None

    @property
    def settings(self) -> dict[str, Any] | None:
        """What the shards here are made with, None in a new folder."""
        try:
            known = json.loads((self.path / _SETTINGS).read_text(encoding="utf-8"))
            return dict(known)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                f"{self.path / _SETTINGS} is not that of a run ({error}); choose another folder."
            ) from error

    def agree(self, settings: Mapping[str, Any], resume: bool) -> None:
        """Begin a run with these settings, or go on with one.

        Raises:
            InputError: there are results that must not be mixed with these.
        """
        given, known = json.loads(json.dumps(settings)), self.settings
        if known is None:
            replace_text(self.path / _SETTINGS, json.dumps(given, indent=2) + "\n")
            return
        if differing := sorted(_differences(known, given)):
            raise InputError(
                f"{self.path} holds results of another run: {'; '.join(differing)}. Choose another folder, or remove "
                "that one to start again."
            )
        if not resume:
            raise InputError(f"{self.path} holds results of this run already; --resume goes on with what is missing.")

    def committed(self) -> set[int]:
        """The numbers of the shards that are whole."""
        return {int(entry.name) for entry in (self.path / _SHARDS).iterdir() if entry.name.isdigit()}

    def shard(self, number: int) -> Path:
        """Where a shard is, or will be."""
        return self.path / _SHARDS / f"{number:05d}"

    def record(self, number: int) -> dict[str, Any]:
        """What a shard says about itself."""
        return dict(json.loads((self.shard(number) / _RECORD).read_text(encoding="utf-8")))

    def sweep(self) -> None:
        """Remove what an interrupted run was writing."""
        for entry in (self.path / _SHARDS).glob(".*.part"):
            shutil.rmtree(entry, ignore_errors=True)

    def log(self) -> IO[str]:
        """The log of all runs here, one JSON object a line, open for appending."""
        return (self.path / _LOG).open("a", encoding="utf-8", buffering=1)

    def summarise(self, failed: Sequence[Mapping[str, str]], write: Callable[[Path], None]) -> None:
        """Put what was gathered over all shards into ``summary/``: failures.csv and tables."""
        place = self.path / "summary"
        shutil.rmtree(place, ignore_errors=True)
        with committing(place) as folder:
            with (folder / "failures.csv").open("w", encoding="utf-8", newline="") as file:
                table = csv.DictWriter(file, ["key", "reason"], lineterminator="\n")
                table.writeheader()
                table.writerows(failed)
            write(folder)

    def finish(self, manifest: Mapping[str, Any]) -> None:
        """Say what there is, once all shards are."""
        replace_text(self.path / _MANIFEST, json.dumps(manifest, indent=2) + "\n")

    @property
    def manifest(self) -> dict[str, Any] | None:
        """What ``finish`` wrote; None while shards are missing."""
        path = self.path / _MANIFEST
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


@contextlib.contextmanager
def committing(place: Path) -> Iterator[Path]:
    """A folder to write into that appears as ``place``, whole and on the disk, when the block ends without an error.

    Where another process has put it there already, what was written here is dropped: both hold the same.
    """
    part = place.with_name(f".{place.name}-{uuid.uuid4().hex}.part")
    part.mkdir()
    try:
        yield part
        for folder, _, files in os.walk(part):
            for name in (*files, "."):
                _sync(os.path.join(folder, name))
        try:
            part.rename(place)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        _sync(place.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Put a shard's record into it."""
    (folder / _RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, is a disk without room."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


def _differences(known: Mapping[str, Any], given: Mapping[str, Any], of: str = "") -> Iterator[str]:
    for name in known.keys() | given.keys():
        there, now = known.get(name), given.get(name)
        if isinstance(there, dict) and isinstance(now, dict):
            yield from _differences(there, now, f"{of}{name}.")
        elif there != now:
            yield f"{of}{name} {there!r} there, {now!r} now"


def _sync(path: Path | str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
