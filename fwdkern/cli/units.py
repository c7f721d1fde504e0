"""`fwdkern units`: what single units of a layer saw."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from fwdkern import FusedModel, Relevance, viz
from fwdkern.cli import console
from fwdkern.cli.folder import PictureFolder
from fwdkern.cli.options import (
    Bias,
    BiasOption,
    ClassesOption,
    CropOption,
    DeviceOption,
    ImagesArgument,
    MeanOption,
    Mode,
    ModelOption,
    ModeOption,
    OutOption,
    ResizeOption,
    SizeOption,
    StdOption,
    WeightsOption,
    parse_unit,
)
from fwdkern.cli.session import Picture, open_session
from fwdkern.errors import CompletenessWarning, InputError
from fwdkern.models import DEFAULT_MODEL, find_class


def units(
    layer: Annotated[
        str, typer.Option("--layer", "-l", metavar="NAME", help="A layer's name; fwdkern layers lists them.")
    ],
    images: ImagesArgument = None,
    index: Annotated[
        list[str] | None,
        typer.Option("--units", "-u", metavar="C,Y,X", help="A unit's index in its layer; repeat for several."),
    ] = None,
    channels: Annotated[
        bool, typer.Option("--channels", help="Sums over all positions of each channel, strongest first.")
    ] = False,
    strongest: Annotated[
        int,
        typer.Option(
            "--strongest", "-n", min=1, metavar="N", help="Without an index: the strongest unit of N channels."
        ),
    ] = 13,
    for_class: Annotated[
        str | None,
        typer.Option(
            "--for-class",
            metavar="CLASS",
            help="The units that this class's map is mostly made of; 'top' for the top one.",
        ),
    ] = None,
    grid: Annotated[
        bool, typer.Option("--grid/--rows", help="Small maps in a grid, or large ones beside the image.")
    ] = True,
    bias: BiasOption = Bias.UNIFORM,
    mode: ModeOption = Mode.AUTO,
    out: OutOption = Path("fwdkern-out"),
    model: ModelOption = DEFAULT_MODEL,
    weights: WeightsOption = None,
    classes: ClassesOption = None,
    device: DeviceOption = "cpu",
    resize: ResizeOption = None,
    size: SizeOption = None,
    crop: CropOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
) -> None:
    """Show what single units of a layer saw, each inside the frame of its receptive field.

    One picture per image. Without --units or --channels: in each of the channels with the highest values, the unit
    with the highest value.

    Examples:

        fwdkern units --layer relu_1

        fwdkern units seven.png -l relu_1 -u 3,10,12 -u 5,4,4 --rows

        fwdkern units seven.png -l relu_4 --for-class 7

        fwdkern units cat.jpg -l layer3.0.relu --channels -m my.nets:build
    """
    if channels and index:
        raise InputError("Both --channels and --units were given; a channel's sum has no single unit: give one.")
    if for_class is not None and (channels or index):
        raise InputError("--for-class chooses the units itself: give it without --units and --channels.")
    session = open_session(model, weights, classes, device, resize, size, crop, mean, std)
    pictures = session.pictures(images or [], examples=1)
    with PictureFolder(out) as folder, console.progress(len(pictures)) as steps:
        steps.start("capturing the model")
        net = session.fuse(pictures[0].inputs)
        name = net.layer(layer).name
        for picture in pictures:
            steps.start(picture.name)
            if for_class is not None:
                wanted = None if for_class == "top" else find_class(for_class, session.classes)
                result = largest_shares(net, picture.inputs, wanted, name, strongest)
                fields = net.receptive_field(name, result.units)
                shown, draw = session.preprocessing.display(picture.inputs), viz.unit_grid if grid else viz.compare
                figure = draw(shown, result, receptive_fields=fields, names=[picture.name])
                folder.add(figure, f"{picture.stem}-{name}-for-{for_class}", result)
                steps.done()
                continue
            chosen = _chosen(net, picture, name, index or [], channels, strongest)
            result = net.attribute_units(picture.inputs, name, chosen, "pixels", bias.value, mode.value)
            shown = session.preprocessing.display(picture.inputs)
            if isinstance(chosen, str):
                figure = viz.channel_grid(shown, result, names=[picture.name], limit=strongest)
            else:
                draw = viz.unit_grid if grid else viz.compare
                fields = net.receptive_field(name, chosen)
                figure = draw(shown, result, receptive_fields=fields, names=[picture.name])
            folder.add(figure, f"{picture.stem}-{name}-{'channels' if channels else 'units'}", result)
            steps.done()


def _chosen(
    net: FusedModel, picture: Picture, layer: str, index: list[str], channels: bool, strongest: int
) -> str | Tensor:
    if channels:
        return "channels"
    if not index:
        return strongest_units(net, picture.inputs, layer, strongest)
    parsed = [parse_unit(text) for text in index]
    shape = net.layer(layer).shape
    for text, unit in zip(index, parsed, strict=True):
        if len(unit) != len(shape):
            raise InputError(
                f"--units {text} has {len(unit)} numbers; a unit of {layer} needs {len(shape)}: the layer is "
                f"{'×'.join(map(str, shape))}."
            )
    return torch.tensor(parsed, device=picture.inputs.device)  # [K, rank]


def largest_shares(net: FusedModel, inputs: Tensor, target: int | None, layer: str, count: int) -> Relevance:
    """The `count` units of a layer with the largest shares of a class score, each map times its unit's weight.

    inputs: one image [1, C, H, W]. What they leave over is printed.
    """
    parts = net.decompose(inputs, target, layer, top=count)
    rest, total = float(parts.outputs[0, -1]), float(parts.outputs.sum())
    shown = parts.outputs.shape[1] - 1
    console.say(f"{layer}: {shown} units hold {total - rest:.4g} of the class score {total:.4g}, the rest {rest:.4g}")
    return replace(
        parts,
        scores=parts.scores[:, :-1],
        bias=parts.bias[:, :-1],
        outputs=parts.outputs[:, :-1],
        units=parts.units[0],
    )


def strongest_units(net: FusedModel, inputs: Tensor, layer: str, count: int) -> Tensor:
    """Return the index [K, rank] of the unit with the largest |value| in each of the `count` strongest channels.

    inputs: one image [1, C, H, W].
    """
    # One segment that covers the image: the values of all units for the price of a single slice.
    everything = torch.zeros(inputs.shape[2:], dtype=torch.long, device=inputs.device)
    with warnings.catch_warnings():
        # One number per unit cancels to rounding error; these scores are thrown away, only the values are used.
        warnings.simplefilter("ignore", CompletenessWarning)
        result = net.attribute_units(inputs, layer, "all", everything)
    channels = net.layer(layer).shape[0]
    best = result.outputs[0].abs().view(channels, -1).max(dim=1)
    order = best.values.topk(min(count, channels)).indices
    per_channel = result.units.view(channels, -1, result.units.shape[1])  # [C, positions, rank]
    return per_channel[order, best.indices[order]]
