"""A batch of pictures that appears whole or not at all."""

import shutil
import tempfile
from pathlib import Path
from types import TracebackType

from matplotlib.figure import Figure

from fwdkern.cli import console
from fwdkern.errors import FwdkernError
from fwdkern.files import make_folder
from fwdkern.relevance import Relevance
from fwdkern.viz.save import save


class PictureFolder:
    """Collects pictures beside their place and moves them there when all of them are done.

    Use it with `with`: leaving the block by an error writes nothing. worst: largest relative completeness error.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.worst = 0.0
        self._errors: dict[str, tuple[float, float]] = {}

    def __enter__(self) -> "PictureFolder":
        self._made = not self.folder.exists()
        make_folder(self.folder)
        try:
            self._stage = Path(tempfile.mkdtemp(dir=self.folder, prefix=".unfinished-"))
        except OSError as error:
            raise FwdkernError(
                f"Nothing can be written to {self.folder} ({error.strerror or error}); choose another folder."
            ) from error
        return self

    def add(self, figure: Figure, stem: str, *results: Relevance) -> None:
        """Keep a picture of these results; it is called `stem`.png."""
        save(figure, self._stage / f"{stem}.png")
        self._keep(f"{stem}.png", results)

    def add_page(self, page: str, name: str, *results: Relevance) -> None:
        """Keep an HTML page of these results under this file name."""
        (self._stage / name).write_text(page, encoding="utf-8")
        self._keep(name, results)

    def _keep(self, name: str, results: tuple[Relevance, ...]) -> None:
        errors = [completeness_errors(result) for result in results]
        self._errors[name] = (max(e[0] for e in errors), max(e[1] for e in errors))
        self.worst = max(self.worst, self._errors[name][1])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                for name, (absolute, relative) in self._errors.items():
                    path = self.folder / name
                    (self._stage / name).replace(path)
                    console.say(f"{path}  completeness error {absolute:.1e}, relative {relative:.1e}")
        finally:
            shutil.rmtree(self._stage, ignore_errors=True)
            if kind is not None and self._made:
                shutil.rmtree(self.folder, ignore_errors=True)


def completeness_errors(result: Relevance) -> tuple[float, float]:
    """Return the largest |delta| of a result, and the largest relative one.

    Relative to the unit's value or the sum of its map's magnitudes, whichever is larger; 0 for maps of zeros.
    """
    delta = result.delta.abs().double()
    if not delta.numel():
        return 0.0, 0.0
    magnitude = result.scores.abs().double().flatten(2).sum(2)
    scale = magnitude.maximum(result.outputs.abs().double())
    relative = delta / scale.clamp_min(1e-300)
    return float(delta.max()), float(relative.max())
