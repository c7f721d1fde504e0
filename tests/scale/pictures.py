"""Small pictures on disk, some of them broken, and what maps of them must be."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fwdkern.digits import examples
from fwdkern.preprocessing import Preprocessing

SHARD = 8
DIGITS = Preprocessing(channels=1, crop=(64, 64))


def levels(index: int) -> np.ndarray:
    """The built-in canvases, shifted so that all pictures differ, uint8 [64, 64]."""
    canvases = (examples().images[:, 0] * 255).round().byte().numpy()
    return np.roll(canvases[index % 24], index // 24, axis=1)


def png(index: int) -> bytes:
    """One of them as a file."""
    file = io.BytesIO()
    Image.fromarray(levels(index)).save(file, "png")
    return file.getvalue()


def write_pictures(folder: Path, count: int, broken: tuple[int, ...] = ()) -> Path:
    """``count`` files, of which some are cut off."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        data = png(index)
        (folder / f"{index:04d}.png").write_bytes(data[:200] if index in broken else data)
    return folder


def tensor(index: int) -> Tensor:
    """The model's input for one of them, [1, 1, 64, 64]."""
    return torch.from_numpy(levels(index)).float()[None, None] / 255


def files(folder: Path) -> dict[str, bytes]:
    """Every file of the shards and the summary of a run."""
    places = [folder / "shards", folder / "summary"]
    found = (path for place in places for path in place.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}
