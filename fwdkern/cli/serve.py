"""`fwdkern serve`: the page for people who do not program."""

import importlib.util
import os
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from fwdkern.cli import console
from fwdkern.cli.options import (
    ClassesOption,
    CropOption,
    MeanOption,
    ResizeOption,
    SizeOption,
    StdOption,
    WeightsOption,
)
from fwdkern.cli.session import adjusted
from fwdkern.errors import FwdkernError
from fwdkern.models import load_model


def serve(
    host: Annotated[
        str, typer.Option(metavar="NAME", help="Where to listen; beyond this machine --token is needed.")
    ] = ("127.0.0.1"),
    port: Annotated[int, typer.Option(min=1, max=65535, metavar="N", help="At which port.")] = 8765,
    token: Annotated[
        str | None, typer.Option(metavar="SECRET", help="What visitors must know; they open /?token=SECRET.")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Another name that the server answers to.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="NAME", help="Offer this network too: as for fwdkern explain."),
    ] = None,
    weights: WeightsOption = None,
    classes: ClassesOption = None,
    resize: ResizeOption = None,
    size: SizeOption = None,
    crop: CropOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    memory: Annotated[int, typer.Option(min=512, metavar="MIB", help="Memory that each visitor may use.")] = 4096,
    seconds: Annotated[float, typer.Option(min=1, metavar="N", help="Time that one request may take.")] = 180,
    sessions: Annotated[int, typer.Option(min=1, metavar="N", help="Visitors at a time.")] = 8,
) -> None:
    """Serve a page on which networks can be looked at: their layers, channels and units, and what each one saw.

    Everything stays on this machine: the page loads nothing from elsewhere and nothing is sent away.

    Examples:

        fwdkern serve

        fwdkern serve -m torchvision:resnet18 -w r18.safetensors
    """
    if importlib.util.find_spec("fastapi") is None or importlib.util.find_spec("uvicorn") is None:
        raise FwdkernError(
            "The page needs FastAPI and uvicorn, which are not installed; run: pip install 'fwdkern[app]'"
        )
    from fwdkern.app.limits import MIB, Limits
    from fwdkern.app.network_source import NetworkSource
    from fwdkern.app.server import Settings
    from fwdkern.app.server import serve as run

    offered, preprocessing = None, None
    if model is not None:
        known = load_model(model, weights)  # an error is better seen here than by a visitor
        preprocessing = adjusted(known.preprocessing, resize, size, crop, mean, std)
        offered = NetworkSource(
            model,
            f"{known.name} with {weights.name}" if weights else known.name,
            model,
            _whole(weights),
            _whole(classes),
        )
    settings = Settings(
        host,
        port,
        token,
        tuple(allow_host or ()),
        offered,
        preprocessing,
        Limits(memory=memory * MIB, seconds=seconds, opening=seconds, sessions=sessions),
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
    )
    shown = f"[{host}]" if ":" in host else host
    query = f"?token={quote(token, safe='')}" if token else ""
    console.say(f"fwdkern serves http://{shown}:{port}/{query} until Ctrl-C")
    run(settings)


def _whole(path: Path | None) -> str | None:
    return None if path is None else str(path.resolve())
