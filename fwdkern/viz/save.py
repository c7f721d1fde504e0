"""Pictures as files."""

from pathlib import Path

from matplotlib.figure import Figure

from fwdkern.errors import InputError
from fwdkern.files import make_folder, replacing


def save(figure: Figure, path: Path | str) -> Path:
    """Write the figure as a PNG file and return its path; parent folders are made.

    The file appears under its name only when it is complete. Raises InputError for a name that does not end
    in .png and FwdkernError if the folder or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise InputError(f"The picture is to be saved as {path}; pictures are PNG files: end the name in .png.")
    make_folder(path.parent)
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=figure.dpi)
    return path
