"""Pictures of how time depends on density, image side and number of units, each with its figures as JSON."""

import functools
import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import fwdkern
from benchmarks import networks
from benchmarks.kernel_gathered_gemm import make_case
from benchmarks.rivals.functional import vjp_units
from benchmarks.timing import Effort, interleaved

_EFFORT = Effort(rounds=5, seconds=8)


@dataclass(frozen=True)
class Curve:
    """lines: name -> median seconds at each x."""

    name: str
    title: str
    x_label: str
    x: list[float]
    lines: dict[str, list[float]]


def draw(out: Path, say: Callable[[str], None]) -> None:
    """Measure and draw all curves whose data is here."""
    for make in (by_density, by_side, by_units):
        say(f"curve: {make.__name__.removeprefix('by_')}")
        try:
            keep(make(), out)
        except networks.Absent:
            continue


def keep(curve: Curve, out: Path) -> None:
    """Write a curve as JSON and as a picture into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    (out / f"curve-{curve.name}.json").write_text(json.dumps(asdict(curve), indent=1, ensure_ascii=False) + "\n")
    picture(curve, out / f"curve-{curve.name}.png")


def by_density(densities: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.85, 1.0)) -> Curve:
    """gathered_gemm against dense convolution on one layer."""
    channels, side, slices = 64, 32, 192
    measured = []
    for density in densities:
        case = make_case(channels, side, slices, density, torch.Generator().manual_seed(0))
        case.check()
        dense = functools.partial(F.conv2d, case.maps, case.kernel, padding=1)
        measured.append({"gathered_gemm": case.run, "dense convolution": dense})
    title = f"3×3 layer, {channels} channels, {side}², {slices} slices"
    return _measure("density", title, "density of active units, in and out", list(densities), measured)


def by_side(sides: tuple[int, ...] = (112, 160, 224, 320)) -> Curve:
    """All units of an early layer as windows."""
    network, photo = networks.squeezenet(), networks.imagenet_photos(1)
    net = fwdkern.fuse(network, photo)
    measured = []
    for side in sides:
        image = networks.resized(photo, side)
        call = functools.partial(net.attribute_units, image, "features.5", layout="window")
        call()
        measured.append({"fwdkern": call})
    title = "SqueezeNet 1.1, all units of features.5 as windows"
    return _measure("side", title, "image side in pixels", list(map(float, sides)), measured)


def by_units(counts: tuple[int, ...] = (1, 4, 16, 64, 256, 1000)) -> Curve:
    """Class maps of one photograph; the rival is stopped where it takes too long."""
    network, photo = networks.squeezenet(), networks.imagenet_photos(1)
    net, front = fwdkern.fuse(network, photo), networks.whole(network)
    with torch.no_grad():
        order = network(photo)[0].argsort(descending=True)
    measured = []
    for count in counts:
        chosen = order[:count]
        runs = {"fwdkern": functools.partial(net.attribute, photo, chosen[None])}
        if count <= 64:
            runs["vmap(vjp), 64 a chunk"] = functools.partial(vjp_units, front, photo, chosen, 64)
        for run in runs.values():
            run()
        measured.append(runs)
    title = "SqueezeNet 1.1, class maps of one photograph"
    return _measure("units", title, "number of classes", list(map(float, counts)), measured)


def _measure(
    name: str, title: str, x_label: str, x: list[float], measured: list[dict[str, Callable[[], object]]]
) -> Curve:
    lines: dict[str, list[float]] = {label: [] for label in measured[0]}
    for runs in measured:
        for label, taken in interleaved(runs, _EFFORT).items():
            lines[label].append(statistics.median(taken))
    return Curve(name, title, x_label, x, lines)


def picture(curve: Curve, path: Path) -> None:
    """Both axes logarithmic."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for label, seconds in curve.lines.items():
        axes.loglog(curve.x[: len(seconds)], seconds, marker="o", label=label)
    axes.set_xticks(curve.x, [f"{value:g}" for value in curve.x])
    axes.minorticks_off()
    axes.set(title=curve.title, xlabel=curve.x_label, ylabel="seconds, median")
    axes.grid(True, alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
