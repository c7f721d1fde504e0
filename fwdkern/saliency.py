"""From relevance to one saliency map of a class; docs/evaluation.md says how the defaults were chosen."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fwdkern.errors import InputError
from fwdkern.model import FusedModel, fuse

Target = int | list[Any] | Tensor | None


class RawRelevance:
    """The relevance map of a class as it is, pixel by pixel; its positive part speaks for the class.

    Args:
        model: in evaluation mode, or a network that ``fuse`` made.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._net: FusedModel | None = None

    def attribute(self, inputs: Tensor, target: Target = None) -> Tensor:
        """Maps ``[B, H, W]`` for images ``[B, C, H, W]``."""
        self._net = self._net or _fused(self.model, inputs)
        return self._net.attribute(inputs, target, bias="separate").scores[:, 0]


class Saliency:
    """Where the units that speak for a class look: their shares of its score, smoothed.

    Args:
        model: in evaluation mode, or a network that ``fuse`` made.
        layer: whose units' shares are taken; by default the last layer with positions.
        smooth: standard deviation of the Gaussian as a part of the image's shorter side.
    """

    def __init__(self, model: nn.Module, layer: str | None = None, smooth: float = 1 / 14) -> None:
        if not smooth > 0:
            raise InputError(f"smooth={smooth} must be more than 0")
        self.model, self.layer, self.smooth = model, layer, smooth
        self._net: FusedModel | None = None

    def attribute(self, inputs: Tensor, target: Target = None) -> Tensor:
        """Maps ``[B, H, W]``, at least 0, for images ``[B, C, H, W]``."""
        self._net = self._net or _fused(self.model, inputs)
        layer = self.layer or last_positions(self._net)
        shares = self._net.contributions(inputs, target, layer).shares  # [B, K, h, w]
        if shares.dim() != 4:
            raise InputError(f"layer {layer!r} has no positions: its units have the shape {list(shares.shape[1:])}")
        large = F.interpolate(shares.sum(1, keepdim=True), inputs.shape[2:], mode="bilinear", align_corners=False)
        return smoothed(large[:, 0], self.smooth * min(inputs.shape[2:])).clamp_min(0)


def last_positions(net: FusedModel) -> str:
    """The last layer whose units have positions, ``[K, h, w]`` with h · w > 1.

    Raises:
        InputError: there is none.
    """
    found = [layer.name for layer in net.layers if len(layer.shape) == 3 and layer.shape[1] * layer.shape[2] > 1]
    if not found:
        raise InputError("the network has no layer [K, h, w] with positions; look at its raw relevance")
    return found[-1]


def smoothed(maps: Tensor, deviation: float) -> Tensor:
    """Maps ``[B, H, W]`` under a Gaussian of that many pixels; beyond the border lie zeros."""
    rows, columns = (_gaussian(size, deviation).to(maps) for size in maps.shape[1:])
    return rows @ maps @ columns.T


def _gaussian(size: int, deviation: float) -> Tensor:
    """``[size, size]``: what each pixel of a line gives to each."""
    place = torch.arange(size, dtype=torch.float64)
    weights = torch.exp(-0.5 * ((place[:, None] - place) / deviation) ** 2)
    return weights / (deviation * (2 * torch.pi) ** 0.5)


def _fused(model: nn.Module, inputs: Tensor) -> FusedModel:
    return model if isinstance(model, FusedModel) else fuse(model, inputs)
