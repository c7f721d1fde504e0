"""`fwdkern demo`: a first look, with the built-in network and its built-in examples."""

import time
from pathlib import Path

import torch

from fwdkern import viz
from fwdkern.cli import console
from fwdkern.cli.folder import PictureFolder
from fwdkern.cli.options import OutOption
from fwdkern.cli.session import open_session
from fwdkern.cli.units import strongest_units
from fwdkern.models import DEFAULT_MODEL

# Early, middle and late activations of the built-in network.
_DEPTHS = ("relu", "relu_2", "relu_4")
_SALIENCY_INPUTS = 5
_UNITS = 6


def demo(out: OutOption = Path("fwdkern-demo")) -> None:
    """Draw class saliency, single neurons of three depths and channel sums of the built-in digit reader.

    Needs no files. The network was trained on handwritten digits in clutter.
    """
    start = time.perf_counter()
    session = open_session(DEFAULT_MODEL)
    pictures = session.pictures([], _SALIENCY_INPUTS)
    with PictureFolder(out) as folder, console.progress(3) as steps:
        steps.start("class saliency")
        net = session.fuse(pictures[0].inputs)
        batch = torch.cat([picture.inputs for picture in pictures])  # [B, 1, 64, 64]
        names = [picture.name for picture in pictures]
        classes = net.attribute(batch)
        shown = session.preprocessing.display(batch)
        figure = viz.compare(
            shown, classes, title="What speaks for the top class", names=names, classes=session.classes
        )
        folder.add(figure, "class-saliency", classes)
        steps.done()

        steps.start("single neurons")
        first, first_shown = batch[:1], shown[:1]
        chosen = [strongest_units(net, first, layer, _UNITS) for layer in _DEPTHS]
        single = [net.attribute_units(first, layer, units) for layer, units in zip(_DEPTHS, chosen, strict=True)]
        fields = [net.receptive_field(layer, units) for layer, units in zip(_DEPTHS, chosen, strict=True)]
        figure = viz.unit_grid(first_shown, single, fields, title="Single neurons of three depths", names=names[:1])
        folder.add(figure, "single-neurons", *single)
        steps.done()

        steps.start("channel sums")
        sums = net.attribute_units(first, _DEPTHS[-1], "channels")
        figure = viz.channel_grid(first_shown, sums, title="Channel sums of the last block", names=names[:1])
        folder.add(figure, "channel-sums", sums)
        steps.done()
    console.say(
        f"Done in {time.perf_counter() - start:.1f} s; the pictures are in {out.resolve()}. "
        f"Largest relative completeness error of all maps: {folder.worst:.1e}."
    )
