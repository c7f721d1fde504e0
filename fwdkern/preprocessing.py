"""From an image file to a model's input tensor: every step is explicit and can be printed."""

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from fwdkern.errors import InputError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_FORMATS = ("PNG", "JPEG", "WEBP")
_MAX_PIXELS = 100_000_000


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes an input: resize or size, then crop, then values / 255, then (v - mean) / std.

    channels: 1 (grey) or 3 (RGB).
    resize: length in pixels of the shorter side, aspect ratio kept; size: exact (height, width), aspect ratio
    not kept; at most one of the two. crop: (height, width) cut from the centre.
    mean, std: one number per channel.
    """

    channels: int
    resize: int | None = None
    size: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise InputError(
                f"The model takes {self.channels} input channels; pictures are read as 1 (grey) or 3 (RGB)."
            )
        if self.resize is not None and self.size is not None:
            raise InputError("Both resize and size were given; resize keeps the aspect ratio, size does not: give one.")
        object.__setattr__(self, "mean", _per_channel("mean", self.mean, self.channels))
        object.__setattr__(self, "std", _per_channel("std", self.std, self.channels))
        if any(s <= 0 for s in self.std):
            raise InputError(f"std is {list(self.std)}; every entry must be positive.")

    @property
    def output_size(self) -> tuple[int, int] | None:
        """Height and width of every input, or None where they depend on the picture."""
        return self.crop or self.size

    def describe(self) -> str:
        """One line that says every step in order."""
        steps = ["grey" if self.channels == 1 else "RGB"]
        if self.resize is not None:
            steps.append(f"shorter side to {self.resize} (bilinear)")
        if self.size is not None:
            steps.append(f"scaled to {_by(self.size)} (bilinear, aspect ratio not kept)")
        if self.crop is not None:
            steps.append(f"centre crop {_by(self.crop)}")
        steps.append("values / 255")
        if any(self.mean) or any(s != 1 for s in self.std):
            steps.append(f"minus mean {_numbers(self.mean)}, divided by std {_numbers(self.std)}")
        else:
            steps.append("no normalisation")
        return " · ".join(steps)

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Return the model's input, float32 [C, H, W]."""
        return self.normalise(self.pixels(image))

    def pixels(self, image: Image.Image) -> torch.Tensor:
        """All steps but the normalisation: float32 [C, H, W] in [0, 1]."""
        return self.levels(image).float() / 255

    def levels(self, image: Image.Image) -> torch.Tensor:
        """Resized and cropped: uint8 [C, H, W]."""
        image = image.convert("L" if self.channels == 1 else "RGB")
        height, width = self._resized(image.height, image.width)
        if (width, height) != image.size:
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        if self.crop is not None:
            top, left = _crop_corner((height, width), self.crop)
            image = image.crop((left, top, left + self.crop[1], top + self.crop[0]))
        values = np.array(image).reshape(image.height, image.width, self.channels)
        return torch.from_numpy(values).permute(2, 0, 1).contiguous()

    @property
    def black(self) -> list[float]:
        """What a black pixel becomes, one number for each channel."""
        return [-mean / std for mean, std in zip(self.mean, self.std, strict=True)]

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels [..., C, H, W] in [0, 1] to the model's inputs, of the same shape, dtype and device."""
        return (pixels - self._column(self.mean, pixels)) / self._column(self.std, pixels)

    def map_boxes(self, boxes: torch.Tensor | Sequence[Sequence[float]], picture: tuple[int, int]) -> torch.Tensor:
        """Boxes of a picture, moved to where the model's input shows what they hold.

        Coordinates count pixels from the top left corner, so that the first pixel reaches from 0 to 1. A box whose
        last row and column are given by their numbers, as in ILSVRC's annotations, needs 1 added to x1 and y1.

        Args:
            boxes: [n, 4], each x0, y0, x1, y1 in pixels of the picture that this object is called with.
            picture: that picture's (height, width).

        Returns:
            float64 [n, 4] in pixels of the input, cut off at its border. A box that the crop cuts away is kept, with no
            area, so that it can be counted.
        """
        given = torch.as_tensor(boxes, dtype=torch.float64, device="cpu")
        if given.numel() == 0:
            return torch.zeros(0, 4, dtype=torch.float64)
        if given.dim() != 2 or given.shape[1] != 4:
            raise InputError(f"boxes must be [n, 4], each x0, y0, x1, y1; got {list(given.shape)}")
        if min(picture) < 1:
            raise InputError(f"The picture's height and width are {tuple(picture)}; both must be positive.")
        height, width = self._resized(*picture)
        scale = torch.tensor([width / picture[1], height / picture[0]] * 2, dtype=torch.float64)
        top, left = (0, 0) if self.crop is None else _crop_corner((height, width), self.crop)
        rows, columns = self.crop or (height, width)
        moved = given * scale - torch.tensor([left, top] * 2, dtype=torch.float64)
        return moved.clamp_min(0).minimum(torch.tensor([columns, rows] * 2, dtype=torch.float64))

    def display(self, inputs: torch.Tensor) -> torch.Tensor:
        """Undo the normalisation: inputs [..., C, H, W] to pictures in [0, 1], same shape."""
        pixels = inputs.detach().float().cpu()
        return (pixels * self._column(self.std, pixels) + self._column(self.mean, pixels)).clamp(0, 1)

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """Height and width before the crop."""
        if self.size is not None:
            return self.size
        if self.resize is None:
            return height, width
        short = min(height, width)
        return max(1, height * self.resize // short), max(1, width * self.resize // short)

    @staticmethod
    def _column(values: Sequence[float], like: torch.Tensor) -> torch.Tensor:
        return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None, None]  # [C, 1, 1]


def load_image(path: Path | str) -> Image.Image:
    """Read a PNG, JPEG or WebP file as an RGB or grey picture.

    The EXIF orientation is applied, transparency is laid on white, 16-bit greys are scaled to 8 bits.
    Raises InputError, naming the file, for anything that cannot be read or has over 100 million pixels.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"There is no file {path}.")
    if path.is_dir():
        raise InputError(f"{path} is a folder; name the image files in it, for example {path}/*.jpg.")
    return _decoded(path, str(path))


def decode_image(data: bytes, name: str) -> Image.Image:
    """The same from the bytes of a file; `name` is for the messages."""
    return _decoded(io.BytesIO(data), name)


def _decoded(file: Path | BinaryIO, name: str) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # Pillow only warns up to twice its own limit; the lower limit here is checked before decoding.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file, formats=_FORMATS) as image:
                if image.width * image.height > _MAX_PIXELS:
                    raise InputError(_too_large(name, f"{image.width} x {image.height} pixels"))
                image.load()
                return _flatten(ImageOps.exif_transpose(image))
    except Image.DecompressionBombError as error:
        raise InputError(_too_large(name, "far too many pixels")) from error
    except UnidentifiedImageError as error:
        raise InputError(f"{name} is not a PNG, JPEG or WebP picture.") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name} cannot be read as a picture ({error}); is the file complete?") from error


def _too_large(name: str, size: str) -> str:
    return f"{name} has {size}; at most {_MAX_PIXELS // 1_000_000} million are read: scale it down first."


def _flatten(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey PNG
        eight_bit = (np.asarray(image, dtype=np.float64) / 257).round().clip(0, 255)
        return Image.fromarray(eight_bit.astype(np.uint8))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _crop_corner(size: tuple[int, int], crop: tuple[int, int]) -> tuple[int, int]:
    """The first row and column of a centre crop (height, width) from a picture of that size."""
    if size[0] < crop[0] or size[1] < crop[1]:
        raise InputError(
            f"A centre crop of {_by(crop)} does not fit in a picture of {_by(size)} "
            "(height x width); give a larger resize or a smaller crop."
        )
    return round((size[0] - crop[0]) / 2), round((size[1] - crop[1]) / 2)


def _per_channel(name: str, values: Sequence[float], channels: int) -> tuple[float, ...]:
    values = tuple(float(v) for v in values)
    if len(values) == 1:
        return values * channels
    if len(values) != channels:
        raise InputError(
            f"{name} has {len(values)} numbers; the model takes {channels} channels: give 1 or {channels}."
        )
    return values


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"


def _numbers(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{v:g}" for v in values) + ")"
