"""Tables inside a Markdown text that people write."""

from pathlib import Path

from fwdkern.errors import InputError
from fwdkern.files import replace_text


class Report:
    """The place of a table in a file: between the lines ``<!-- name -->`` and ``<!-- /name -->``.

    Raises:
        InputError: the file, or the two lines in it, are not there.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path, self._first, self._last = path, f"<!-- {name} -->\n", f"<!-- /{name} -->"
        self._around()

    def put(self, text: str) -> None:
        """Replace what stands there."""
        before, after = self._around()
        replace_text(self.path, f"{before}\n{text.strip()}\n\n{after}")

    def _around(self) -> tuple[str, str]:
        try:
            whole = self.path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"The report {self.path} cannot be read ({error}); write it first.") from error
        start, end = whole.find(self._first), whole.find(self._last)
        if start < 0 or end < start:
            raise InputError(
                f"{self.path} must hold the line {self._first.strip()}, then {self._last}: the table goes between."
            )
        return whole[: start + len(self._first)], whole[end:]
