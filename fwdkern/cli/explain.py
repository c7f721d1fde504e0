"""`fwdkern explain`: which pixels, or which words, speak for a class."""

from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from fwdkern import viz
from fwdkern.cli import console
from fwdkern.cli.explain_text import explain_text
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
    TextFileOption,
    TextOption,
    VocabularyOption,
    WeightsOption,
    parse_features,
)
from fwdkern.cli.session import class_scores, highest_classes, open_session
from fwdkern.errors import InputError
from fwdkern.models import DEFAULT_MODEL, DEFAULT_READER, find_class

_EXAMPLES = 6
_FOR_IMAGES = {"features", "grid", "resize", "size", "crop", "mean", "std"}


def explain(
    context: typer.Context,
    images: ImagesArgument = None,
    text: TextOption = None,
    text_file: TextFileOption = None,
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
    vocabulary: VocabularyOption = None,
    classes: ClassesOption = None,
    device: DeviceOption = "cpu",
    resize: ResizeOption = None,
    size: SizeOption = None,
    crop: CropOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
) -> None:
    """Show which pixels of an image, or which words of a sentence, raise and lower a class score.

    Each row of a picture is the image, its signed map, and the positive part laid over it. Sentences are printed
    with coloured words, and written as pictures and as one HTML page; their last row is the contrast between the
    first two classes asked for, or between the predicted class and the next.

    Examples:

        fwdkern explain

        fwdkern explain seven.png --target 7 --target 1

        fwdkern explain *.jpg --top 3 -m torchvision:resnet18 -w r18.safetensors

        fwdkern explain cat.jpg --features patches:16 -m my.nets:build --crop 192

        fwdkern explain --text "a gripping, funny film"
    """
    given = {name for name in context.params if _given(context, name)}
    if given & {"text", "text_file"}:
        if "images" in given:
            raise InputError("Images and sentences were both given; explain one or the other.")
        if given & _FOR_IMAGES:
            raise InputError(f"--{min(given & _FOR_IMAGES)} is for images; give it without --text and --text-file.")
        name = model if "model" in given else DEFAULT_READER
        spread = bias if "bias" in given else Bias.SEPARATE
        explain_text(text or [], text_file, name, weights, vocabulary, classes, device, target, top, spread, mode, out)
        return
    if vocabulary is not None:
        raise InputError("--vocabulary is for sentences; give it with --text or --text-file.")
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
            wanted = torch.tensor([asked] * len(group)) if asked else highest_classes(class_scores(net, inputs), top)
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


def _given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
