"""Reading what an evaluation looks at."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fwdkern.digits import examples
from fwdkern.errors import InputError
from fwdkern.evaluation import read_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index, name in enumerate(("b.png", "a.jpg", "c.webp")):
        Image.new("RGB", (8, 6), (index * 40, 0, 0)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def test_a_folder_in_order_and_by_halves(folder: Path) -> None:
    assert [example.name for example in read_images(folder)] == ["a.jpg", "b.png", "c.webp"]
    assert [example.name for example in read_images(folder, half="even")] == ["a.jpg", "c.webp"]
    assert [example.name for example in read_images(folder, half="odd")] == ["b.png"]
    assert read_images(folder)[0].load().size == (8, 6)


def test_annotations_choose_files_and_bring_labels_and_boxes(folder: Path) -> None:
    notes = folder / "boxes.json"
    notes.write_text(json.dumps([{"file": "c.webp", "index": 4, "boxes": [[0, 1, 2, 3]]}, {"file": "a.jpg"}]))
    first, second = read_images(folder, notes)
    assert (first.name, first.label, first.boxes) == ("c.webp", 4, [[0.0, 1.0, 2.0, 3.0]])
    assert (second.name, second.label, second.boxes) == ("a.jpg", None, None)


def test_an_archive(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (11, 4, 5, 3), dtype=np.uint8)
    np.savez(tmp_path / "set.npz", images=pictures, labels=np.arange(11))
    found = read_images(tmp_path / "set.npz")
    assert [example.name for example in found[:2]] == ["00", "01"] and found[10].label == 10
    assert np.array_equal(np.asarray(found[3].load()), pictures[3])


def test_the_built_in_examples_are_exact() -> None:
    canvases = examples()
    found = read_images()
    assert len(found) == len(canvases) and found[5].label == int(canvases.labels[5])
    assert found[5].boxes == [canvases.boxes[5].tolist()]
    assert np.array_equal(np.asarray(found[5].load()) / np.float32(255), canvases.images[5, 0].numpy())


@pytest.mark.parametrize(
    "text, message",
    [
        ("not json", "cannot be read"),
        ("[]", "holds no annotations"),
        ('{"file": "a.jpg"}', "holds no annotations"),
        ('[{"index": 3}]', "expected a JSON list"),
        ('["a.jpg"]', "expected a JSON list"),
        ('[{"file": "a.jpg", "boxes": [[1, 2, 3]]}]', "expected a JSON list"),
        ('[{"file": "a.jpg", "boxes": [["x", 2, 3, 4]]}]', "expected a JSON list"),
        ('[{"file": "../a.jpg"}]', "not a file in"),
        ('[{"file": "a.jpg"}, {"file": "a.jpg"}]', "twice"),
    ],
)
def test_annotations_that_cannot_be_used(text: str, message: str, folder: Path) -> None:
    (folder / "boxes.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_images(folder, folder / "boxes.json")


def test_images_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        read_images(tmp_path / "absent")
    with pytest.raises(InputError, match="holds 0 images"):
        read_images(tmp_path)
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(InputError, match=r"cannot be read as an \.npz"):
        read_images(tmp_path / "cut.npz")
    np.save(tmp_path / "one", np.zeros(3))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    with pytest.raises(InputError, match=r"cannot be read as an \.npz"):
        read_images(tmp_path / "one.npz")
    np.savez(tmp_path / "float.npz", images=np.zeros((2, 4, 4, 3)), labels=np.zeros(2, int))
    with pytest.raises(InputError, match="must be uint8"):
        read_images(tmp_path / "float.npz")
    np.savez(tmp_path / "few.npz", images=np.zeros((2, 4, 4, 3), np.uint8), labels=np.zeros(3, int))
    with pytest.raises(InputError, match="must be integers"):
        read_images(tmp_path / "few.npz")
    with pytest.raises(InputError, match="Annotations belong to a folder"):
        read_images(None, tmp_path / "boxes.json")
