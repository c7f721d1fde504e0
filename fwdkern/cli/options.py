"""Options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from torch import Tensor

from fwdkern.engine.features import patches
from fwdkern.errors import InputError

_MODEL, _INPUT, _MAPS, _TEXT = "Model", "Input", "Maps", "Text"


class Bias(StrEnum):
    """How the bias mass is spread over a map."""

    UNIFORM = "uniform"
    RECEPTIVE_FIELD = "receptive_field"
    SEPARATE = "separate"


class Mode(StrEnum):
    """In which direction maps are computed."""

    AUTO = "auto"
    FORWARD = "forward"
    REVERSE = "reverse"


ImagesArgument = Annotated[
    list[Path] | None,
    typer.Argument(metavar="[IMAGE]...", help="PNG, JPEG or WebP files; without any, the built-in examples of digits."),
]
TextOption = Annotated[
    list[str] | None,
    typer.Option("--text", metavar="SENTENCE", help="A sentence; repeat for several.", rich_help_panel=_TEXT),
]
TextFileOption = Annotated[
    Path | None,
    typer.Option("--text-file", metavar="FILE", help="Sentences, one a line.", rich_help_panel=_TEXT),
]
VocabularyOption = Annotated[
    Path | None,
    typer.Option(
        "--vocabulary",
        metavar="FILE",
        help="The words of the model's embedding, in its order, as a .json list.",
        rich_help_panel=_TEXT,
    ),
]
ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="digits (built in), torchvision:NAME, timm:NAME, FILE.onnx, or package.module:factory for your own.",
        rich_help_panel=_MODEL,
    ),
]
WeightsOption = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        "-w",
        metavar="FILE",
        help="Weights as .safetensors; every name and shape must fit.",
        rich_help_panel=_MODEL,
    ),
]
ClassesOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Class names: .json, or text with one name a line.", rich_help_panel=_MODEL),
]
DeviceOption = Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda, cuda:1, ...", rich_help_panel=_MODEL)]
ResizeOption = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Scale the shorter side to N pixels.", rich_help_panel=_INPUT),
]
SizeOption = Annotated[
    str | None,
    typer.Option(metavar="N|HxW", help="Scale to exactly this, aspect ratio not kept.", rich_help_panel=_INPUT),
]
CropOption = Annotated[
    str | None, typer.Option(metavar="N|HxW", help="Cut this out of the centre.", rich_help_panel=_INPUT)
]
MeanOption = Annotated[
    str | None,
    typer.Option(metavar="A,B,C", help="Subtracted from values in 0..1, per channel.", rich_help_panel=_INPUT),
]
StdOption = Annotated[
    str | None,
    typer.Option(metavar="A,B,C", help="Divided by, after the mean, per channel.", rich_help_panel=_INPUT),
]
BiasOption = Annotated[
    Bias,
    typer.Option(
        help="Spread the biases over all pixels, over each unit's receptive field, or leave them out of the map.",
        rich_help_panel=_MAPS,
    ),
]
ModeOption = Annotated[
    Mode,
    typer.Option(
        help="Carry maps forward or pull them back; the results agree, auto takes the cheaper.",
        rich_help_panel=_MAPS,
    ),
]
OutOption = Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where the pictures go.")]


def parse_size(name: str, text: str) -> tuple[int, int]:
    """Read `64` or `48x64` as height and width."""
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) > 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise InputError(f"--{name} is {text!r}; expected a number of pixels like 224, or HEIGHTxWIDTH like 192x256.")
    return int(parts[0]), int(parts[-1])


def parse_numbers(name: str, text: str) -> tuple[float, ...]:
    """Read `0.5` or `0.485,0.456,0.406`."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"--{name} is {text!r}; expected numbers with commas, like 0.485,0.456,0.406.") from error


def parse_unit(text: str) -> list[int]:
    """Read `12,7,9` as the index of a unit in its layer."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() for part in parts):
        raise InputError(f"--units is {text!r}; expected a unit's index, like 12,7,9 for channel 12, row 7, column 9.")
    return [int(part) for part in parts]


def parse_features(text: str, shape: tuple[int, int]) -> str | Tensor:
    """Read `pixels`, `channels` or `patches:N`; patches become a label map [H, W] of N x N squares."""
    if text in ("pixels", "channels"):
        return text
    kind, _, side = text.partition(":")
    if kind != "patches" or not side.isdigit() or int(side) == 0:
        raise InputError(f"--features is {text!r}; expected pixels, channels or patches:N, for example patches:8.")
    return patches(int(side), shape)
