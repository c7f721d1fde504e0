"""`fwdkern layers`: the parsed network, by the names that other commands want."""

import torch
from rich.table import Table

from fwdkern.cli import console
from fwdkern.cli.options import CropOption, ModelOption, ResizeOption, SizeOption, WeightsOption
from fwdkern.cli.session import open_session
from fwdkern.errors import InputError
from fwdkern.models import DEFAULT_MODEL


def layers(
    model: ModelOption = DEFAULT_MODEL,
    weights: WeightsOption = None,
    resize: ResizeOption = None,
    size: SizeOption = None,
    crop: CropOption = None,
) -> None:
    """List the layers of a model: name, operator, output shape, what each reads, and its relevance rule.

    Layers marked NO RULE cannot be explained, nor anything behind them.

    Examples:

        fwdkern layers

        fwdkern layers --model torchvision:resnet18 --crop 128
    """
    session = open_session(model, weights, None, "cpu", resize, size, crop)
    shape = session.preprocessing.output_size
    if shape is None:
        raise InputError("The input's size is not known; give --size or --crop.")
    net = session.fuse(torch.rand(1, session.preprocessing.channels, *shape))
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("name", "operator", "shape", "reads", "rule"):
        table.add_column(column, overflow="fold")
    for layer in net.layers:
        rule = layer.rule if layer.rule is not None else "[red]NO RULE[/red]"
        shown = "×".join(map(str, layer.shape)) or "scalar"
        table.add_row(layer.name, layer.operator, shown, ", ".join(layer.parents), rule)
    console.stdout.print()
    console.stdout.print(table)
    missing = sum(layer.rule is None for layer in net.layers)
    console.say(f"\n{len(net.layers)} layers, " + (f"{missing} without a rule" if missing else "all with a rule"))
