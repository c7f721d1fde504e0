"""The same run in both memory formats."""

import copy
import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

FORMATS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}


def in_both(
    run: Callable[..., Tensor], network: nn.Module, x: Tensor, *rest: object
) -> dict[str, Callable[[], Tensor]]:
    """Variants that call run(network, x, *rest), each with its own copies. x: [B, C, H, W]."""
    return {name: functools.partial(run, *in_format(network, x, name), *rest) for name in FORMATS}


def in_format(network: nn.Module, x: Tensor, name: str) -> tuple[nn.Module, Tensor]:
    """Copies in a memory format."""
    layout = FORMATS[name]
    return copy.deepcopy(network).to(memory_format=layout), x.clone(memory_format=layout)
