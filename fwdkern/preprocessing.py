"""From an image file to a model's input tensor: every step is explicit and can be printed."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
        image = image.convert("L" if self.channels == 1 else "RGB")
        if self.size is not None:
            image = image.resize(self.size[::-1], Image.Resampling.BILINEAR)
        elif self.resize is not None and min(image.size) != self.resize:
            short = min(image.size)
            width, height = (max(1, side * self.resize // short) for side in image.size)
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        if self.crop is not None:
            image = _centre_crop(image, self.crop)
        values = np.asarray(image, dtype=np.float32).reshape(image.height, image.width, self.channels) / 255
        pixels = torch.from_numpy(values).permute(2, 0, 1)  # [C, H, W]
        return ((pixels - self._column(self.mean)) / self._column(self.std)).contiguous()

    def display(self, inputs: torch.Tensor) -> torch.Tensor:
        """Undo the normalisation: inputs [..., C, H, W] to pictures in [0, 1], same shape."""
        pixels = inputs.detach().float().cpu()
        return (pixels * self._column(self.std) + self._column(self.mean)).clamp(0, 1)

    @staticmethod
    def _column(values: Sequence[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32)[:, None, None]  # [C, 1, 1]


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
    try:
        with warnings.catch_warnings():
            # Pillow only warns up to twice its own limit; the lower limit here is checked before decoding.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as image:
                if image.width * image.height > _MAX_PIXELS:
                    raise InputError(_too_large(path, f"{image.width} x {image.height} pixels"))
                image.load()
                return _flatten(ImageOps.exif_transpose(image))
    except Image.DecompressionBombError as error:
        raise InputError(_too_large(path, "far too many pixels")) from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is not a PNG, JPEG or WebP picture.") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read as a picture ({error}); is the file complete?") from error


def _too_large(path: Path, size: str) -> str:
    return f"{path} has {size}; at most {_MAX_PIXELS // 1_000_000} million are read: scale it down first."


def _flatten(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey PNG
        eight_bit = (np.asarray(image, dtype=np.float64) / 257).round().clip(0, 255)
        return Image.fromarray(eight_bit.astype(np.uint8))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _centre_crop(image: Image.Image, crop: tuple[int, int]) -> Image.Image:
    height, width = crop
    if image.height < height or image.width < width:
        raise InputError(
            f"A centre crop of {_by(crop)} does not fit in a picture of {_by((image.height, image.width))} "
            "(height x width); give a larger resize or a smaller crop."
        )
    left = round((image.width - width) / 2)
    top = round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


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
