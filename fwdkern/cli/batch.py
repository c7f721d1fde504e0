"""`fwdkern batch`: maps of very many images, restartable."""

from pathlib import Path
from typing import Annotated

import typer

from fwdkern import scale, viz
from fwdkern.cli import console
from fwdkern.cli.options import (
    Bias,
    BiasOption,
    ClassesOption,
    CropOption,
    DeviceOption,
    MeanOption,
    Mode,
    ModelOption,
    ModeOption,
    ResizeOption,
    SizeOption,
    StdOption,
    WeightsOption,
    parse_unit,
)
from fwdkern.cli.session import open_session
from fwdkern.models import DEFAULT_MODEL, find_class
from fwdkern.scale.choices import Dtype, Format, Keep, Maps, Measure

_KEPT, _RUN, _INPUT = "Kept", "Run", "Input"


def batch(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT...", help="Folders, globs in quotes, .tar shards, .parquet files; s3://... too."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where the shards go.")],
    maps: Annotated[Maps, typer.Option(help="What is computed of each image.")] = Maps.RELEVANCE,
    target: Annotated[
        list[str] | None,
        typer.Option("--target", "-t", metavar="CLASS", help="A class by index or name; repeat, or 'all'."),
    ] = None,
    top: Annotated[
        int, typer.Option("--top", "-k", min=1, metavar="K", help="Without a target: the K highest classes.")
    ] = 1,
    layer: Annotated[
        list[str] | None,
        typer.Option("--layer", "-l", metavar="NAME", help="A layer's name, for maps of layers; repeat for several."),
    ] = None,
    index: Annotated[
        list[str] | None,
        typer.Option("--units", "-u", metavar="C,Y,X", help="A unit's index, for maps of units; repeat for several."),
    ] = None,
    features: Annotated[
        str,
        typer.Option(
            metavar="WHAT",
            help="pixels, channels or patches:N (sums over squares of N pixels).",
            rich_help_panel="Maps",
        ),
    ] = "pixels",
    bias: BiasOption = Bias.UNIFORM,
    mode: ModeOption = Mode.AUTO,
    keep: Annotated[
        Keep,
        typer.Option(
            help="Maps of every image, no maps, or of each channel those of its best images.", rich_help_panel=_KEPT
        ),
    ] = Keep.MAPS,
    best: Annotated[
        int, typer.Option(min=1, metavar="N", help="How many images a channel.", rich_help_panel=_KEPT)
    ] = 9,
    strongest: Annotated[
        int | None,
        typer.Option(
            "--strongest",
            "-n",
            min=1,
            metavar="N",
            help="Only the N strongest channels or units.",
            rich_help_panel=_KEPT,
        ),
    ] = None,
    dtype: Annotated[Dtype, typer.Option(help="Of the maps on disk.", rich_help_panel=_KEPT)] = Dtype.FLOAT16,
    metric: Annotated[
        list[Measure] | None, typer.Option(help="Judge each map; repeat for several.", rich_help_panel=_KEPT)
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="Of the shards.", rich_help_panel=_KEPT)] = Format.ZARR,
    resume: Annotated[
        bool, typer.Option("--resume", help="Make what an earlier run left missing.", rich_help_panel=_RUN)
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Processes that compute; one a core or GPU.", rich_help_panel=_RUN),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Of each worker.", rich_help_panel=_RUN)
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Images at a time; 16.", rich_help_panel=_RUN)
    ] = None,
    shard_size: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Images of a shard; 256.", rich_help_panel=_RUN)
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="A Ray cluster, or 'auto'; without, this machine alone.", rich_help_panel=_RUN
        ),
    ] = None,
    image_column: Annotated[
        str, typer.Option(metavar="NAME", help="Of Parquet files: the images.", rich_help_panel=_INPUT)
    ] = "image",
    key_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of Parquet files: keys; row numbers without.", rich_help_panel=_INPUT),
    ] = None,
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
    """Compute maps of very many images with Ray Data, in shards that are whole or absent.

    A run that was stopped, by whatever, goes on with --resume and the same options. Images that cannot be decoded are
    listed with the reason in summary/failures.csv. docs/scale.md tells what the shards hold.

    Examples:

        fwdkern batch photos/ -o maps -m torchvision:resnet18 -w r18.safetensors

        fwdkern batch "shards/*.tar" -o maps --maps saliency --features patches:8 --resume

        fwdkern batch photos/ -o neurons --maps channels -l layer3 --keep best --features patches:4
    """
    session = open_session(model, weights, classes, device, resize, size, crop, mean, std)
    work = scale.Work(
        maps=maps.value,
        target="all" if target == ["all"] else tuple(find_class(name, session.classes) for name in target or ()),
        top=top,
        layers=tuple(layer or ()),
        units=tuple(tuple(parse_unit(text)) for text in index or ()),
        strongest=strongest,
        features=features,
        bias=bias.value,
        mode=mode.value,
        dtype=dtype.value,
        keep=keep.value,
        best=best,
        metrics=tuple(name.value for name in metric or ()),
    )
    with console.counter() as counter:
        summary = scale.run(
            inputs,
            out,
            session.named.model,
            session.preprocessing,
            work,
            name=session.named.name,
            device=device,
            columns=scale.Columns(image_column, key_column),
            form=form.value,
            shard_size=shard_size,
            batch_size=batch_size,
            workers=workers,
            threads=threads,
            address=address,
            resume=resume,
            progress=lambda event: counter.show(event.done, event.total, event.failed),
        )
    for line in summary.lines():
        console.say(line)
    # Contributions are one number a channel, and inputs that all failed have nothing.
    if keep is not Keep.VALUES and maps is not Maps.CONTRIBUTIONS and summary.failed < summary.inputs:
        console.say(str(viz.save(scale.gallery(scale.open(out)), out / "summary" / "gallery.png")))
