"""Tables inside a text."""

from pathlib import Path

import pytest

from fwdkern.errors import InputError
from fwdkern.evaluation.report import Report


def test_only_what_stands_between_the_lines_changes(tmp_path: Path) -> None:
    path = tmp_path / "report.md"
    path.write_text("# Title\n\n<!-- one -->\nold\n<!-- /one -->\nand <!-- two -->\n")
    Report(path, "one").put("| new |")
    Report(path, "one").put("| newer |")
    assert path.read_text() == "# Title\n\n<!-- one -->\n\n| newer |\n\n<!-- /one -->\nand <!-- two -->\n"


@pytest.mark.parametrize("text", ["", "<!-- one -->\n", "<!-- /one -->\n<!-- one -->\n"])
def test_a_text_without_the_place(text: str, tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text(text)
    with pytest.raises(InputError, match="must hold the line <!-- one -->"):
        Report(tmp_path / "report.md", "one")
    with pytest.raises(InputError, match="cannot be read"):
        Report(tmp_path / "absent.md", "one")
