"""Writing files so that no reader ever sees half of one."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fwdkern.errors import FwdkernError


def make_folder(folder: Path) -> None:
    """Make a folder and its parents; raises FwdkernError, naming what is in the way, if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FwdkernError(
            f"The folder {folder} cannot be made ({error.strerror or error}); choose another one."
        ) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write into that takes the place of ``path`` once it is complete; after an error nothing is left of it.

    Raises FwdkernError if it cannot be written.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".part")
        os.close(handle)
        part = Path(name)
        try:
            yield part
            part.chmod(0o666 & ~_umask())  # mkstemp makes private files
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise FwdkernError(f"{path} cannot be written ({error.strerror or error}).") from error


def replace_text(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old one or the whole new one."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
