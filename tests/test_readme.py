"""What README.md shows runs, and what it lists is there."""

import re
from pathlib import Path

import matplotlib
import pytest

from fwdkern.rules import registry

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = list(re.finditer(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL))


def line(block: re.Match[str]) -> int:
    return README.count("\n", 0, block.start()) + 1


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"line{line(block)}")
def test_python_block_runs(block: re.Match[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_RULES", dict(registry._RULES))  # some blocks add rules
    # Blank lines before the code, so that a traceback shows the line of README.md.
    code = "\n" * line(block) + block[1]
    exec(compile(code, str(ROOT / "README.md"), "exec"), {"__name__": "readme"})
    for written in re.findall(r'savefig\("(.*?)"\)', block[1]):
        assert (tmp_path / written).stat().st_size > 0


def test_python_blocks_are_found() -> None:
    assert len(BLOCKS) == README.count("```python")
    assert len(BLOCKS) >= 3


def test_rules_are_those_of_the_registry() -> None:
    table = README.split("## Rules", 1)[1].split("\n## ", 1)[0]
    listed = [name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall("`(.*?)`", row)]
    assert sorted(listed) == sorted({name for name, _ in registry._RULES.values()})


def test_links_lead_to_files() -> None:
    links = [link for link in re.findall(r"\]\((.*?)\)", README) if not link.startswith("https://")]
    assert links
    for link in links:
        assert (ROOT / link).is_file(), link


def test_commands_exist() -> None:
    from fwdkern.cli import app

    known = {command.callback.__name__ for command in app.registered_commands if command.callback}
    assert set(re.findall(r"^    fwdkern (\w+)", README, re.MULTILINE)) == known


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^(\w+):", makefile, re.MULTILINE))
    named = set(re.findall(r"^    make (\w+)", README, re.MULTILINE)) | set(re.findall(r"`make (\w+)`", README))
    assert named and named <= targets
