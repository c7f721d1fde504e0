"""`fwdkern explain`: which pixels speak for a class."""

from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from fwdkern import FusedModel, viz
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
    parse_features,
)
from fwdkern.cli.session import open_session
from fwdkern.errors import InputError
from fwdkern.models import DEFAULT_MODEL, find_class

_EXAMPLES = 6


def explain(
    images: ImagesArgument = None,
    target: Annotated[
        list[str] | None,
        typer.Option("--target", "-t", metavar="CLASS", help="A class by index or name; repeat for several."),
    ] = None,
    top: Annotated[
        int, typer.Option("--top", "-k", min=1, metavar="K", help="Without a target: the K highest classes.")
    ] = 1,
    features: Annotated[
        str,
        typer.Option(
            metavar="WHAT",
            help="pixels, channels (each input channel by itself) or patches:N (squares of N pixels).",
            rich_help_panel="Maps",
        ),
    ] = "pixels",
    grid: Annotated[
        bool, typer.Option("--grid/--single", help="All images as rows of one picture, or one picture per image.")
    ] = False,
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
    """Show which pixels raise and lower a class score.

    Each row of a picture is the image, its signed map, and the positive part laid over it.

    Examples:

        fwdkern explain

        fwdkern explain seven.png --target 7 --target 1

        fwdkern explain *.jpg --top 3 -m torchvision:resnet18 -w r18.safetensors

        fwdkern explain cat.jpg --features patches:16 -m my.nets:build --crop 192
    """
    session = open_session(model, weights, classes, device, resize, size, crop, mean, std)
    pictures = session.pictures(images or [], _EXAMPLES)
    asked = [find_class(name, session.classes) for name in target or []]
    groups = [pictures] if grid else [[picture] for picture in pictures]
    if grid and len({picture.shape for picture in pictures}) > 1:
        raise InputError("--grid needs images of one size; give --crop or --size.")
    with PictureFolder(out) as folder, console.progress(len(groups)) as steps:
        steps.start("capturing the model")
        net = session.fuse(pictures[0].inputs)
        for group in groups:
            steps.start(group[0].name)
            inputs = torch.cat([picture.inputs for picture in group])  # [B, C, H, W]
            slices = parse_features(features, group[0].shape)
            wanted = torch.tensor([asked] * len(group)) if asked else _highest(net, inputs, top)
            result = net.attribute(inputs, wanted.to(session.device), slices, bias.value, mode.value)
            figure = viz.compare(
                session.preprocessing.display(inputs),
                result,
                names=[picture.name for picture in group],
                classes=session.classes,
                segments=slices if isinstance(slices, Tensor) else None,
            )
            folder.add(figure, "explain" if grid else f"{group[0].stem}-explain", result)
            steps.done()


def _highest(net: FusedModel, inputs: Tensor, count: int) -> Tensor:
    with torch.no_grad():
        scores = net(inputs)
    if not isinstance(scores, Tensor) or scores.dim() != 2:
        raise InputError("The model does not return class scores [B, classes]; look at a layer with fwdkern units.")
    if count > scores.shape[1]:
        raise InputError(f"--top is {count}, but the model knows {scores.shape[1]} classes.")
    return scores.topk(count).indices  # [B, K]
