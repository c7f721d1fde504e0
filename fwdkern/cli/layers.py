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

    Layers marked NO RULE cannot be explained, nor anything behind them, which is marked too. The others can.

    Examples:

        fwdkern layers

        fwdkern layers --model torchvision:resnet18 --crop 128
    """
    session = open_session(model, weights, None, "cpu", resize, size, crop)
    shape = session.preprocessing.output_size
    if shape is None:
        raise InputError("The input's size is not known; give --size or --crop.")
    example = torch.rand(1, session.preprocessing.channels, *shape)
    net = session.fuse(example)
    obstacles = net.obstacles(example)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("name", "operator", "shape", "reads", "rule"):
        table.add_column(column, overflow="fold")
    for layer in net.layers:
        behind = obstacles.get(layer.name, ())
        rule = layer.rule or ""
        if behind:
            rule = "[red]NO RULE[/red]" if layer.name in behind else f"[dim]behind {', '.join(behind)}[/dim]"
        shown = "×".join(map(str, layer.shape)) or "scalar"
        table.add_row(layer.name, layer.operator, shown, ", ".join(layer.parents), rule)
    console.stdout.print()
    console.stdout.print(table)
    missing = len({name for behind in obstacles.values() for name in behind})
    explained = sum(layer.name not in obstacles for layer in net.layers)
    console.say(
        f"\n{len(net.layers)} layers, "
        + (f"{missing} without a rule, {explained} can be explained" if missing else "all with a rule")
    )
