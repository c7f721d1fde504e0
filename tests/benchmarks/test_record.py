"""Records go to JSON and back, and anything else is refused by field."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks import record, table
from benchmarks.memory import Memory
from benchmarks.record import Figure, Record, Result, Verdict

_FIGURES = [
    Figure("fwdkern", "own", "", "", 1.0, 0.5, 0.4, 0.75, 9, 1e-6, "", Memory(2**20, 0, 2**18)),
    Figure("slow", "rival", "8 a chunk", "32 of 64 slices", 2.0, 5.0, 4.0, 6.0, 3, 1e-6, "", None),
    Figure("bad", "rival", "", "", 1.0, None, None, None, 0, None, "its error is 1", None),
]
_RESULT = Result(
    "name", "Title", "", _FIGURES, "slow", 10.0, 1e-4, 5e10, 1e9, 0.02, 0.04, [Verdict("at least 5", 10.0, True)]
)
_ABSENT = Result("other", "Other", "no weights", [], "", None, 0.0, 0.0, 0.0, None, None, [])


def example() -> Record:
    return Record(record.VERSION, record.this_machine(), [_RESULT, _ABSENT])


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "new" / "r.json"
    record.write(example(), path)
    assert record.read(path) == example_with(record.read(path).machine)
    assert [file.name for file in path.parent.iterdir()] == ["r.json"]


def example_with(machine: record.Machine) -> Record:
    return Record(record.VERSION, machine, [_RESULT, _ABSENT])


def test_no_path_of_the_machine_is_recorded() -> None:
    text = json.dumps(asdict(record.this_machine()))
    assert str(Path.home()) not in text and str(Path(__file__).parents[2]) not in text
    assert not re.search(r'"/\w+/', text)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content.pop("machine"), "record: expected the fields"),
        (lambda content: content["results"][0].update(ratio="fast"), r"record.results\[0\].ratio"),
        (lambda content: content["results"][0]["figures"][1].update(extra=1), r"figures\[1\]: expected the fields"),
        (lambda content: content["machine"]["versions"].update(torch=2), "record.machine.versions.torch"),
        (lambda content: content.update(version=99), "version 99"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, change, words: str) -> None:
    content = asdict(example())
    change(content)
    path = tmp_path / "r.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=words):
        record.read(path)


def test_markdown_says_what_was_scaled_wrong_and_absent() -> None:
    text = table.markdown(example())
    assert "| slow (8 a chunk) | 5 s | 4 s – 6 s | 10 |  | 32 of 64 slices, scaled |" in text
    assert "| fwdkern | 500 ms | 400 ms – 750 ms | 1 | 1.0 MiB | all, 9 rounds |" in text
    assert "WRONG: its error is 1" in text
    assert "Not run: no weights." in text
    assert "Goal met: at least 5; it is 10." in text
    assert "0.04 of it" in text
