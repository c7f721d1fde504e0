"""Measurements on disk: what is kept, what goes on, what is refused."""

from pathlib import Path

import pytest

from fwdkern.errors import FwdkernError, InputError
from fwdkern.evaluation import Records

ROW = {"image": "a", "target": 1, "seconds": "0.1", "reasons": "", "energy": "50"}


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    records = Records(tmp_path / "new", {"model": "m"})
    records.register("gradcam", {"layer": "last"})
    records.append("gradcam", [ROW, {**ROW, "image": 'b, "quoted"'}])
    records.append("gradcam", [{**ROW, "image": "c", "reasons": "no box (energy)"}])
    again = Records(tmp_path / "new", {"model": "m"})
    assert again.methods == ["gradcam"] and again.settings["methods"] == {"gradcam": {"layer": "last"}}
    assert [row["image"] for row in again.rows("gradcam")] == ["a", 'b, "quoted"', "c"]
    assert again.rows("gradcam")[2]["reasons"] == "no box (energy)"
    assert again.rows("mask") == []


def test_a_line_that_was_cut_off_is_measured_again(tmp_path: Path) -> None:
    records = Records(tmp_path, {})
    records.register("mask", {})
    records.append("mask", [ROW, {**ROW, "image": "b"}])
    path = tmp_path / "mask.csv"
    path.write_text(path.read_text()[:-9])
    assert [row["image"] for row in records.rows("mask")] == ["a"]
    records.append("mask", [{**ROW, "image": "b"}])
    assert [row["image"] for row in records.rows("mask")] == ["a", "b"]


def test_a_file_without_its_header_gets_one(tmp_path: Path) -> None:
    records = Records(tmp_path, {})
    (tmp_path / "mask.csv").write_text("image,tar")
    assert records.rows("mask") == []
    records.append("mask", [ROW])
    assert [row["image"] for row in records.rows("mask")] == ["a"]


def test_what_a_method_chooses_later_is_added(tmp_path: Path) -> None:
    records = Records(tmp_path, {})
    records.register("gradcam", {})
    records.append("gradcam", [ROW])
    records.register("gradcam", {"layer": "last"})
    records.register("gradcam", {})
    assert records.settings["methods"]["gradcam"] == {"layer": "last"}
    with pytest.raises(InputError, match="other settings of gradcam: layer"):
        records.register("gradcam", {"layer": "first"})


def test_results_of_other_settings_are_not_mixed(tmp_path: Path) -> None:
    records = Records(tmp_path, {"model": "one", "half": "all"})
    records.register("mask", {"iterations": 10})
    records.register("mask", {"iterations": 20})  # nothing was measured yet
    records.append("mask", [ROW])
    with pytest.raises(InputError, match="other settings: model 'one' there, 'two' now"):
        Records(tmp_path, {"model": "two", "half": "all"})
    with pytest.raises(InputError, match="other settings of mask: iterations 20 there, 30 now"):
        Records(tmp_path, {"model": "one", "half": "all"}).register("mask", {"iterations": 30})
    assert Records(tmp_path, {"model": "one", "half": "all"}).settings["methods"]["mask"] == {"iterations": 20}


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"methods": 3}'])
def test_a_folder_of_something_else_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(InputError, match="not the record of an evaluation"):
        Records(tmp_path, {})
    assert (tmp_path / "settings.json").read_text() == text


def test_files_that_are_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot hold /"):
        Records(tmp_path / "names", {}).register("a/b", {})
    with pytest.raises(FwdkernError, match="cannot be made"):
        Records(tmp_path / "file", {})
    records = Records(tmp_path / "folder", {})
    (tmp_path / "folder" / "mask.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="not a table of measurements"):
        records.rows("mask")
