"""`fwdkern evaluate`: which method's maps show what a model looked at."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fwdkern import viz
from fwdkern.cli import console
from fwdkern.cli.options import (
    CropOption,
    DeviceOption,
    MeanOption,
    ModelOption,
    ResizeOption,
    SizeOption,
    StdOption,
    WeightsOption,
)
from fwdkern.cli.session import open_session
from fwdkern.evaluation import METHODS, Records, make_methods, picture, read_images, rows, run, table
from fwdkern.evaluation.images import digest
from fwdkern.evaluation.report import Report
from fwdkern.evaluation.run import batches
from fwdkern.files import replace_text
from fwdkern.models import DEFAULT_MODEL
from fwdkern.weights import weights_digest

_BATCH = 10


class Half(StrEnum):
    """Which of the images, counted from 0."""

    ALL = "all"
    EVEN = "even"
    ODD = "odd"


class Target(StrEnum):
    """Which class the maps are of."""

    TOP = "top"
    LABEL = "label"


def evaluate(
    images: Annotated[
        Path | None,
        typer.Argument(help="A folder of images, or an .npz file of images and labels; without, the built-in ones."),
    ] = None,
    annotations: Annotated[
        Path | None,
        typer.Option("--annotations", "-a", metavar="FILE", help="Classes and boxes: JSON list of file, index, boxes."),
    ] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option("--method", metavar="NAME", help=f"Repeat for several; all by default: {', '.join(METHODS)}."),
    ] = None,
    target: Annotated[Target, typer.Option(help="Explain each image's top class, or its label.")] = Target.TOP,
    half: Annotated[
        Half, typer.Option(help="Images at even or odd places: choose settings on one half, report the other.")
    ] = Half.ALL,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="Rows of single images, table.md and table.png.")
    ] = Path("fwdkern-evaluation"),
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A Markdown file that gets the table, between the lines <!-- NAME --> and <!-- /NAME --> where NAME "
            "is the last part of --out.",
        ),
    ] = None,
    model: ModelOption = DEFAULT_MODEL,
    weights: WeightsOption = None,
    device: DeviceOption = "cpu",
    resize: ResizeOption = None,
    size: SizeOption = None,
    crop: CropOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
) -> None:
    """Compare saliency methods by the model's own scores on what their maps leave visible, and against boxes.

    Average drop and increase after masking, with raw and softmax scores; energy and pointing game where there are
    boxes. A run that was stopped goes on where it was: the same command continues it.

    Examples:

        fwdkern evaluate

        fwdkern evaluate photos/ -m torchvision:resnet18 -w r18.safetensors --method fwdkern --method gradcam

        fwdkern evaluate photos/ -a boxes.json --target label -m torchvision:resnet18 -w r18.safetensors
    """
    session = open_session(model, weights, None, device, resize, size, crop, mean, std)
    place = None if report is None else Report(report, out.name)
    examples = read_images(images, annotations, half.value)
    made = make_methods(session.named.model, methods or list(METHODS), session.preprocessing.black)
    settings = {
        "model": session.named.name,
        "weights": weights_digest(session.named.model),
        "input": session.preprocessing.describe(),
        "images": "built-in" if images is None else images.name,
        "examples": digest(examples),
        "half": half.value,
        "target": target.value,
    }
    records = Records(out, settings)
    with console.progress(batches(len(examples), _BATCH) * len(made)) as steps:

        def progress(what: str) -> None:
            steps.done()
            steps.start(what)

        run(session.named.model, made, examples, session.preprocessing, records, target.value, _BATCH, progress)
    found = rows(records)
    text = table(found)
    viz.save(picture(found, f"{session.named.name.split(':')[-1]}, {settings['images']}"), out / "table.png")
    replace_text(out / "table.md", text)
    if place is not None:
        place.put(text)
    console.say(text)
    console.say(f"{out / 'table.md'}, {out / 'table.png'}, and one .csv of single images for each method")
