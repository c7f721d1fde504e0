"""What single nodes of a captured graph say."""

from typing import Any

import torch
from torch import fx

aten = torch.ops.aten


def argument(node: fx.Node, position: int, name: str, default: Any = None) -> Any:
    """A call's argument, given by position or by name."""
    return node.args[position] if position < len(node.args) else node.kwargs.get(name, default)


def is_whole_slice(node: fx.Node) -> bool:
    """Whether a node is a slice that keeps all, as x[:] and x[0:] are; TensorFlow writes the end as 2³¹ − 1."""
    if node.target is not aten.slice.Tensor:
        return False
    start, stop = argument(node, 2, "start"), argument(node, 3, "end")
    open_end = stop is None or (isinstance(stop, int) and stop >= 2**31 - 1)
    return start in (None, 0) and open_end and argument(node, 4, "step", 1) == 1
