"""The images of an evaluation, with what is known about each."""

import hashlib
import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
from PIL import Image
from torch import Tensor

from fwdkern.errors import InputError
from fwdkern.preprocessing import load_image

Half = Literal["all", "even", "odd"]
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_EXPECTED = (
    'expected a JSON list of {"file": "a.jpg", "index": 3, "boxes": [[x0, y0, x1, y1]]}, index and boxes optional'
)


@dataclass(frozen=True)
class Example:
    """One image.

    Attributes:
        name: unique among the examples of a run.
        load: reads the picture; raises InputError where it cannot be read.
        label: its class, if known.
        boxes: of that class, each x0, y0, x1, y1 in pixels of the picture; None where nobody drew any.
    """

    name: str
    load: Callable[[], Image.Image] = field(repr=False)
    label: int | None = None
    boxes: list[list[float]] | None = None


def read_images(images: Path | None = None, annotations: Path | None = None, half: Half = "all") -> list[Example]:
    """The examples of an evaluation, in a fixed order; the pictures themselves are read later.

    Args:
        images: a folder of PNG, JPEG and WebP files, or a .npz file with ``images`` uint8 ``[n, H, W, C]`` and
            ``labels`` ``[n]``. None: the built-in examples, with labels and boxes.
        annotations: a JSON list of objects with ``file`` (in that folder), ``index`` (its class) and ``boxes``. Only
            the listed files are taken.
        half: the examples at even or odd places of the order: settings are chosen on one half and reported on the
            other.
    """
    if images is None:
        found = _embedded()
    elif images.suffix == ".npz":
        found = _archive(images)
    elif annotations is None:
        found = [Example(path.name, partial(load_image, path)) for path in _pictures(images)]
    else:
        found = _annotated(images, annotations)
    if annotations is not None and (images is None or images.suffix == ".npz"):
        raise InputError(
            "Annotations belong to a folder of images; an .npz file and the built-in examples have theirs."
        )
    chosen = {"all": found, "even": found[::2], "odd": found[1::2]}[half]
    if not chosen:
        where = "The built-in set" if images is None else str(images)
        raise InputError(f"{where} holds {len(found)} images, of which none is in the half asked for ({half}).")
    return chosen


def digest(examples: Sequence[Example]) -> str:
    """A short name of what is known about the examples, so that results of others are not mixed in."""
    known = [[example.name, example.label, example.boxes] for example in examples]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.")
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)


def _annotated(folder: Path, annotations: Path) -> list[Example]:
    _pictures(folder)
    try:
        entries = json.loads(annotations.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"The annotations in {annotations} cannot be read ({error}).") from error
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{annotations} holds no annotations; {_EXPECTED}.")
    examples = [_example(folder, annotations, entry) for entry in entries]
    names = [example.name for example in examples]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{annotations} lists {twice} twice; put all its boxes into one entry.")
    return examples


def _example(folder: Path, annotations: Path, entry: Any) -> Example:
    try:
        name, label, boxes = str(entry["file"]), entry.get("index"), entry.get("boxes")
        path = folder / name
        if path.parent.resolve() != folder.resolve():
            raise InputError(f"{annotations} names {name!r}, which is not a file in {folder}.")
        label = None if label is None else int(label)
        boxes = None if boxes is None else [[float(value) for value in box] for box in boxes]
        if boxes and any(len(box) != 4 for box in boxes):
            raise ValueError("a box has not 4 numbers")
    except InputError:
        raise
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise InputError(f"{annotations} has the entry {str(entry)[:80]} ({error!r}); {_EXPECTED}.") from error
    return Example(name, partial(load_image, path), label, boxes)


def _archive(path: Path) -> list[Example]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            pictures, labels = archive["images"], archive["labels"]
    except (OSError, ValueError, KeyError, TypeError, BadZipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read as an .npz file of images and labels ({error}).") from error
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] not in (1, 3):
        raise InputError(
            f"images in {path} must be uint8 [n, H, W, 1 or 3], got {pictures.dtype} {list(pictures.shape)}"
        )
    if labels.shape != pictures.shape[:1] or labels.dtype.kind not in "iu":
        raise InputError(
            f"labels in {path} must be integers [{len(pictures)}], got {labels.dtype} {list(labels.shape)}"
        )
    digits = len(str(len(pictures) - 1))
    return [
        Example(f"{index:0{digits}d}", partial(Image.fromarray, picture.squeeze()), int(label))
        for index, (picture, label) in enumerate(zip(pictures, labels, strict=True))
    ]


def _embedded() -> list[Example]:
    from fwdkern.digits import examples

    canvases = examples()
    return [
        Example(f"{index:02d}", partial(_grey, image), int(label), [box.tolist()])
        for index, (image, label, box) in enumerate(zip(canvases.images, canvases.labels, canvases.boxes, strict=True))
    ]


def _grey(image: Tensor) -> Image.Image:
    return Image.fromarray((image[0] * 255).round().byte().numpy())
