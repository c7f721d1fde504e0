"""What every command begins with: a model, its preprocessing, and the pictures it is to look at."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

import fwdkern
from fwdkern.cli import console
from fwdkern.cli.options import parse_numbers, parse_size
from fwdkern.errors import InputError
from fwdkern.models import DEFAULT_MODEL, NamedModel, load_classes, load_model
from fwdkern.preprocessing import Preprocessing, load_image


@dataclass(frozen=True)
class Picture:
    """One input: its name, a stem for file names, and the model's input [1, C, H, W]."""

    name: str
    stem: str
    inputs: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.inputs.shape[2], self.inputs.shape[3]


@dataclass(frozen=True)
class Session:
    """A loaded model and how pictures become its inputs."""

    named: NamedModel
    preprocessing: Preprocessing
    classes: list[str] | None
    device: torch.device

    def pictures(self, paths: Sequence[Path], examples: int) -> list[Picture]:
        """Read all files before any work begins; without files, `examples` of the embedded canvases."""
        if paths:
            return [
                self._picture(path.name, stem, self.preprocessing(load_image(path)))
                for path, stem in zip(paths, _stems(paths), strict=True)
            ]
        if self.named.name != DEFAULT_MODEL:
            raise InputError(f"No image was given; name at least one file for {self.named.name} to look at.")
        from fwdkern.digits import examples as embedded

        canvases = embedded()
        return [
            self._picture(f"example {index}, a {int(canvases.labels[index])}", f"example-{index:02d}", image)
            for index, image in enumerate(canvases.images[:examples])
        ]

    def fuse(self, example: Tensor) -> fwdkern.FusedModel:
        """Capture the model at the size of `example` [1, C, H, W]."""
        return fwdkern.fuse(self.named.model, example)

    def _picture(self, name: str, stem: str, pixels: Tensor) -> Picture:
        return Picture(name, stem, pixels[None].to(self.device))


def class_scores(net: fwdkern.FusedModel, inputs: Tensor) -> Tensor:
    """The class scores [B, classes] of a batch; raises InputError where the model returns something else."""
    with torch.no_grad():
        scores = net(inputs)
    if not isinstance(scores, Tensor) or scores.dim() != 2:
        raise InputError("The model does not return class scores [B, classes]; look at a layer with fwdkern units.")
    return scores


def highest_classes(scores: Tensor, count: int) -> Tensor:
    """The classes with the highest scores, [B, count]."""
    if count > scores.shape[1]:
        raise InputError(f"--top is {count}, but the model knows {scores.shape[1]} classes.")
    return scores.topk(count).indices


def open_session(
    model: str,
    weights: Path | None = None,
    classes: Path | None = None,
    device: str = "cpu",
    resize: int | None = None,
    size: str | None = None,
    crop: str | None = None,
    mean: str | None = None,
    std: str | None = None,
) -> Session:
    """Load the model that the options name and print it with its preprocessing."""
    place = parse_device(device)
    named = load_model(model, weights)
    preprocessing = adjusted(named.preprocessing, resize, size, crop, mean, std)
    names = load_classes(classes) if classes is not None else named.classes
    console.say(f"model   {named.name}" + (f" with {weights}" if weights else ""))
    console.say(f"input   {preprocessing.describe()}")
    if not named.trained:
        console.warn(f"{named.name} has random weights; give --weights FILE.safetensors to explain a trained model.")
    named.model.to(place)
    return Session(named, preprocessing, names, place)


def adjusted(
    known: Preprocessing,
    resize: int | None,
    size: str | None,
    crop: str | None,
    mean: str | None,
    std: str | None,
) -> Preprocessing:
    """Known preprocessing with the steps that the options change."""
    if size is not None:
        if resize is not None:
            raise InputError("Both --size and --resize were given; --resize keeps the aspect ratio: give one.")
        known = replace(known, size=parse_size("size", size), resize=None, crop=None)
    if resize is not None:
        known = replace(known, resize=resize)
    if crop is not None:
        known = replace(known, crop=parse_size("crop", crop))
    if mean is not None:
        known = replace(known, mean=parse_numbers("mean", mean))
    if std is not None:
        known = replace(known, std=parse_numbers("std", std))
    return known


def parse_device(name: str) -> torch.device:
    """Read `cpu` or `cuda:1`; raises InputError for a device that cannot be used."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"The device {name!r} cannot be used here ({str(error).splitlines()[0]}).") from error
    return device


def _stems(paths: Sequence[Path]) -> list[str]:
    """Stems of the files' names; a repeated one gets a number."""
    stems: list[str] = []
    for path in paths:
        stem, copy = path.stem, 2
        while stem in stems:
            stem, copy = f"{path.stem}-{copy}", copy + 1
        stems.append(stem)
    return stems
