"""Writing pictures so that no reader ever sees half of one."""

import os
import tempfile
from pathlib import Path

from matplotlib.figure import Figure

from fwdkern.errors import FwdkernError, InputError


def save(figure: Figure, path: Path | str) -> Path:
    """Write the figure as a PNG file and return its path; parent folders are made.

    The file appears under its name only when it is complete. Raises InputError for a name that does not end
    in .png and FwdkernError if the folder or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise InputError(f"The picture is to be saved as {path}; pictures are PNG files: end the name in .png.")
    make_folder(path.parent)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".part")
        os.close(handle)
        part = Path(name)
        try:
            figure.savefig(part, format="png", dpi=figure.dpi)
            part.chmod(0o666 & ~_umask())  # mkstemp makes private files
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise FwdkernError(f"The picture {path} cannot be written ({error.strerror or error}).") from error
    return path


def make_folder(folder: Path) -> None:
    """Make a folder and its parents; raises FwdkernError, naming what is in the way, if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FwdkernError(
            f"The folder {folder} cannot be made ({error.strerror or error}); choose another one."
        ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
