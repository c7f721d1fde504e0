"""Measurements of single images on disk: one CSV file a method, appended batch by batch, so that a run can go on."""

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fwdkern.errors import FwdkernError, InputError
from fwdkern.files import make_folder, replace_text

_SETTINGS = "settings.json"
# What a row holds beside one number for each measure.
FIXED = ("image", "target", "seconds", "reasons")


class Records:
    """A folder of measurements made under the same settings.

    Args:
        folder: made if absent; a folder with results of other settings is refused.
        settings: what the results depend on, as JSON values: model, images, preprocessing ...

    Raises:
        InputError: the folder holds results of other settings, or a file in it is none of this class's.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        make_folder(folder)
        self.folder = folder
        self._kept: dict[str, Any] = {"methods": {}, **json.loads(json.dumps(settings))}
        known = self._read_settings()
        if known is not None:
            self._refuse_others(known, self._kept)
            self._kept["methods"] = known["methods"]
        self._write_settings()

    @property
    def settings(self) -> dict[str, Any]:
        """The settings, with those of each method so far under "methods"."""
        return self._kept

    @property
    def methods(self) -> list[str]:
        """The methods that have results here, in the order in which they came."""
        return [name for name in self._kept["methods"] if self._path(name).exists()]

    def register(self, method: str, settings: Mapping[str, Any]) -> None:
        """Say with which settings a method runs; what it chooses only in a run, such as a layer, may be added later.

        Raises:
            InputError: its results here were made with other ones.
        """
        if not method or method.startswith(".") or "/" in method:
            raise InputError(f"The method's name {method!r} is also a file's: it cannot hold / or begin with a dot.")
        given = json.loads(json.dumps(settings))
        known = self._kept["methods"].get(method)
        if known is not None and self._path(method).exists():
            both = known.keys() & given.keys()
            self._refuse_others({n: known[n] for n in both}, {n: given[n] for n in both}, f" of {method}")
            given = {**known, **given}
        self._kept["methods"][method] = given
        self._write_settings()

    def rows(self, method: str) -> list[dict[str, str]]:
        """The rows of a method so far. A last line that was cut off is taken off the file."""
        path = self._path(method)
        if not path.exists():
            return []
        text = path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            replace_text(path, whole)
        found = list(csv.DictReader(io.StringIO(whole)))
        if found and not set(FIXED) <= found[0].keys():
            raise InputError(f"{path} is not a table of measurements; choose another folder.")
        return found

    def append(self, method: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows, all with the same keys in the same order, and see them onto the disk."""
        path = self._path(method)
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        if not path.exists() or not path.stat().st_size:
            writer.writeheader()
        writer.writerows(rows)
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(text.getvalue())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise FwdkernError(f"The results cannot be written to {path} ({error.strerror or error}).") from error

    def _path(self, method: str) -> Path:
        return self.folder / f"{method}.csv"

    def _read_settings(self) -> dict[str, Any] | None:
        path = self.folder / _SETTINGS
        if not path.exists():
            return None
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(known["methods"], dict):
                raise KeyError("methods")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} is not the record of an evaluation ({error!r}); choose another folder."
            ) from error
        return dict(known)

    def _refuse_others(self, known: Mapping[str, Any], given: Mapping[str, Any], of: str = "") -> None:
        names = sorted((known.keys() | given.keys()) - {"methods"})
        others = [f"{n} {known.get(n)!r} there, {given.get(n)!r} now" for n in names if known.get(n) != given.get(n)]
        if others:
            raise InputError(
                f"{self.folder} holds results of other settings{of}: {'; '.join(others)}. "
                "Choose another folder, or remove that one to start again."
            )

    def _write_settings(self) -> None:
        replace_text(self.folder / _SETTINGS, json.dumps(self._kept, indent=2) + "\n")
