"""Real handwritten digits on cluttered canvases, with the box of each digit known."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from fwdkern.errors import FwdkernError, InputError

SIDE = 64
CLASSES = tuple(str(digit) for digit in range(10))

# The collection is not shuffled: neighbours look alike, so cutting by position is the stricter split.
_FIRST_TEST_DIGIT = 1347
_SPLITS = {"train": slice(None, _FIRST_TEST_DIGIT), "test": slice(_FIRST_TEST_DIGIT, None)}

_FRAGMENTS = 5
_STROKES = 4
_CHUNK = 256
_VISIBLE = 0.05


@dataclass(frozen=True)
class Canvases:
    """Cluttered pictures of one digit each.

    images: float32 [n, 1, 64, 64] in [0, 1]; labels: int64 [n]; boxes: int64 [n, 4], rows x0, y0, x1, y1,
    the smallest boxes around the digits' ink in pixels, half open.
    """

    images: Tensor
    labels: Tensor
    boxes: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def canvases(n: int, seed: int, split: str = "test") -> Canvases:
    """Draw n canvases from scikit-learn's handwritten digits; the same arguments give the same canvases.

    The classes come in turn, 0 to 9 and again from 0; which digit of a class, its size (21 to 28 pixels),
    place, turn and brightness, and the clutter (strokes, pieces of digits, a gradient, noise) are random.

    split: "test" takes the last 450 digits of the collection, "train" the 1347 before them. The pieces of
    digits in the clutter come from the same split, so no scan is shared between the two.

    Raises InputError for a wrong n, seed or split and FwdkernError when scikit-learn is not installed.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise InputError(f"n is {n!r}; expected the number of canvases as an int of at least 1.")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise InputError(f"seed is {seed!r}; expected an int from 0 to 2**63 - 1.")
    if split not in _SPLITS:
        raise InputError(f"split is {split!r}; expected 'train' or 'test'.")
    generator = torch.Generator().manual_seed(seed)
    parts = [part for part, _ in _draw(n, generator, split)]
    return Canvases(
        torch.cat([part.images for part in parts]),
        torch.cat([part.labels for part in parts]),
        torch.cat([part.boxes for part in parts]),
    )


def _draw(n: int, generator: torch.Generator, split: str) -> Iterator[tuple[Canvases, Tensor]]:
    """Yield canvases in chunks, each with the coverage of its digits' ink, [chunk, 1, 64, 64] in [0, 1]."""
    handwriting, labels = _handwriting()
    handwriting, labels = handwriting[_SPLITS[split]], labels[_SPLITS[split]]
    for start in range(0, n, _CHUNK):
        count = min(_CHUNK, n - start)
        wanted = torch.arange(start, start + count).unsqueeze(1) % len(CLASSES)
        lottery = torch.rand(count, len(labels), generator=generator)
        chosen = lottery.where(labels == wanted, -1.0).argmax(dim=1)
        size = _uniform(count, 21, 28, generator)
        # 18 is half of the largest digit, turned, with its blur: the canvas cuts no digit off.
        centre = _uniform(2 * count, 18, SIDE - 18, generator).view(count, 2)
        turn = _uniform(count, -0.25, 0.25, generator)
        ink = _write(handwriting[chosen], centre, size, turn)
        images = _paint(_clutter(handwriting, ink, generator), ink, _uniform(count, 0.75, 1.0, generator))
        images = (images + 0.04 * torch.randn(images.shape, generator=generator)).clamp(0, 1)
        yield Canvases(images, labels[chosen], _boxes(ink)), ink


@cache
def _handwriting() -> tuple[Tensor, Tensor]:
    """All digits, [1797, 1, 12, 12] in [0, 1] with a rim of two empty pixels, and their labels [1797]."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise FwdkernError(
            "Drawing new canvases needs the handwritten digits of scikit-learn, which is not installed; "
            "run `pip install scikit-learn`, or use fwdkern.digits.examples(), which needs nothing more."
        ) from error
    collection = load_digits()
    pixels = torch.from_numpy(collection.images).float().unsqueeze(1) / 16
    return F.pad(pixels, (2, 2, 2, 2)), torch.from_numpy(collection.target).long()


def _uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(count, generator=generator)


def _offsets(centre: Tensor) -> tuple[Tensor, Tensor]:
    """Distances in x and y, each [n, 64, 64], of every pixel's middle from centre [n, 2]."""
    middle = torch.arange(SIDE) + 0.5
    dx = middle.view(1, 1, SIDE) - centre[:, 0].view(-1, 1, 1)
    dy = middle.view(1, SIDE, 1) - centre[:, 1].view(-1, 1, 1)
    return dx.expand(-1, SIDE, SIDE), dy.expand(-1, SIDE, SIDE)


def _write(pixels: Tensor, centre: Tensor, size: Tensor, turn: Tensor) -> Tensor:
    """Scale digits [n, 1, 12, 12] to size [n] pixels, turn them by radians [n], put them at centre [n, 2]."""
    dx, dy = _offsets(centre)
    cosine, sine = turn.cos().view(-1, 1, 1), turn.sin().view(-1, 1, 1)
    scale = (16 / 12 / size).view(-1, 1, 1)
    grid = torch.stack([(dx * cosine + dy * sine) * scale, (dy * cosine - dx * sine) * scale], dim=-1)
    shades = F.grid_sample(pixels, grid, mode="bicubic", padding_mode="zeros", align_corners=False)
    # The scans are 8 pixels wide and blurred; a steeper ramp turns their greys back into the edge of a pen.
    ramp = ((shades - 0.35) / 0.4).clamp(0, 1)
    return ramp * ramp * (3 - 2 * ramp)  # [n, 1, 64, 64]


def _paint(canvas: Tensor, coverage: Tensor, brightness: Tensor) -> Tensor:
    """Lay paint of one brightness per canvas [n] over canvases [n, 1, 64, 64]."""
    return canvas + coverage * (brightness.view(-1, 1, 1, 1) - canvas)


def _clutter(handwriting: Tensor, ink: Tensor, generator: torch.Generator) -> Tensor:
    """A shaded ground with strokes and cut-off digits, [n, 1, 64, 64]; what touches the ink is left out.

    Touching clutter would make one digit into another (a stroke on top of a 1 reads as a 7).
    """
    count = len(ink)
    free = 1 - F.max_pool2d(ink, 5, stride=1, padding=2)
    canvas = _ground(count, generator)
    for _ in range(_STROKES):
        canvas = _paint(canvas, free * _stroke(count, generator), _uniform(count, 0.25, 0.9, generator))
    for _ in range(_FRAGMENTS):
        fragment = _fragment(handwriting, count, generator)
        canvas = _paint(canvas, free * fragment, _uniform(count, 0.4, 0.95, generator))
    return canvas


def _ground(count: int, generator: torch.Generator) -> Tensor:
    """A gradient in a random direction, [n, 1, 64, 64], from 0 to at most 0.4."""
    dx, dy = _offsets(torch.full((count, 2), SIDE / 2))
    angle = _uniform(count, 0, 2 * math.pi, generator).view(-1, 1, 1)
    slope = (dx * angle.cos() + dy * angle.sin()) / (SIDE * math.sqrt(2)) + 0.5
    return (slope * _uniform(count, 0, 0.4, generator).view(-1, 1, 1)).unsqueeze(1)


def _stroke(count: int, generator: torch.Generator) -> Tensor:
    """A straight pen stroke of random place, length and width, as coverage [n, 1, 64, 64]."""
    dx, dy = _offsets(_uniform(2 * count, 0, SIDE, generator).view(count, 2))
    angle = _uniform(count, 0, math.pi, generator).view(-1, 1, 1)
    half_length = _uniform(count, 4, 12, generator).view(-1, 1, 1)
    half_width = _uniform(count, 0.6, 1.8, generator).view(-1, 1, 1)
    along = dx * angle.cos() + dy * angle.sin()
    across = dy * angle.cos() - dx * angle.sin()
    distance = torch.hypot(along - along.clamp(-half_length, half_length), across)
    return (half_width + 0.5 - distance).clamp(0, 1).unsqueeze(1)


def _fragment(handwriting: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Less than half of a random digit, cut along a random line, as coverage [n, 1, 64, 64]."""
    chosen = torch.randint(len(handwriting), (count,), generator=generator)
    centre = _uniform(2 * count, 0, SIDE, generator).view(count, 2)
    size = _uniform(count, 18, 28, generator)
    digit = _write(handwriting[chosen], centre, size, _uniform(count, -math.pi, math.pi, generator))
    dx, dy = _offsets(centre)
    angle = _uniform(count, 0, 2 * math.pi, generator).view(-1, 1, 1)
    cut = _uniform(count, 1, 4, generator).view(-1, 1, 1)
    return digit * (dx * angle.cos() + dy * angle.sin() - cut).clamp(0, 1).unsqueeze(1)


def _boxes(ink: Tensor) -> Tensor:
    """The smallest boxes [n, 4] around visible ink [n, 1, 64, 64]."""
    visible = ink[:, 0] > _VISIBLE
    bounds = []
    for axis in (1, 2):
        occupied = visible.any(dim=axis).int()  # [n, 64]
        bounds.append((occupied.argmax(dim=1), SIDE - occupied.flip(1).argmax(dim=1)))
    (x0, x1), (y0, y1) = bounds
    return torch.stack([x0, y0, x1, y1], dim=1)
