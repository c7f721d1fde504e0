"""PNG files that are whole or absent."""

import os
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from fwdkern import viz
from fwdkern.errors import FwdkernError, InputError
from tests.viz.pictures import read, render, result


@pytest.fixture
def figure() -> Figure:
    return viz.compare(torch.rand(1, 1, 8, 8), result(torch.randn(1, 1, 8, 8)))


def test_writes_the_figure_and_makes_parents(tmp_path: Path, figure: Figure) -> None:
    path = viz.save(figure, tmp_path / "a" / "b" / "picture.png")
    assert (read(path) == render(figure)).all()
    assert os.listdir(path.parent) == ["picture.png"]
    assert path.stat().st_mode & 0o044 == 0o044 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, figure: Figure, monkeypatch: pytest.MonkeyPatch) -> None:
    path = viz.save(figure, tmp_path / "picture.png")
    before = path.read_bytes()

    def half(part: Path, **_: object) -> None:
        part.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(figure, "savefig", half)
    with pytest.raises(FwdkernError, match=r"picture.png cannot be written \(No space left"):
        viz.save(figure, path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["picture.png"]


def test_a_file_in_the_way_of_the_folder_is_named(tmp_path: Path, figure: Figure) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FwdkernError, match="file cannot be made"):
        viz.save(figure, tmp_path / "file" / "picture.png")


def test_other_formats_are_refused(tmp_path: Path, figure: Figure) -> None:
    with pytest.raises(InputError, match=r"end the name in \.png"):
        viz.save(figure, tmp_path / "picture.jpg")
