"""From relevance to one saliency map of a class; docs/evaluation.md says how the defaults were chosen."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fwdkern.errors import CaptureError, InputError
from fwdkern.metrics.masking import mask
from fwdkern.model import FusedModel, fuse
from fwdkern.relevance import Relevance

logger = logging.getLogger("fwdkern")

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
        return _of_one_class(self._net, inputs, target).scores[:, 0]


class Saliency:
    """Where the units that speak for a class look.

    The shares that the units of a late layer have in the class score are summed over channels, stretched to the image
    and averaged over several sizes of it, since a late layer is coarse and another size moves its grid. Where the
    smoothed relevance of the pixels speaks for the class too, the map is raised.

    Args:
        model: in evaluation mode, or a network that ``fuse`` made.
        layer: whose units' shares are taken; by default the last layer with positions.
        scales: sizes of the image; those that the model cannot be captured at are left out, which is logged.
        smooth: standard deviation of the Gaussian over the shares, as a part of the image's shorter side.
        fine: likewise of the one over the pixels' relevance.
        raise_by: how much the pixels' relevance raises the map at most; 0 leaves it out.
    """

    def __init__(
        self,
        model: nn.Module,
        layer: str | None = None,
        scales: Sequence[float] = (6 / 7, 1, 9 / 7),
        smooth: float = 1 / 40,
        fine: float = 1 / 7,
        raise_by: float = 0.5,
    ) -> None:
        for name, value in (("smooth", smooth), ("fine", fine), *(("scales", scale) for scale in scales)):
            if not value > 0:
                raise InputError(f"{name}={value} must be more than 0")
        if not scales:
            raise InputError("scales: give at least one size")
        if not raise_by >= 0:
            raise InputError(f"raise_by={raise_by} must be 0 or more")
        self.model, self.layer, self.scales = model, layer, list(scales)
        self.smooth, self.fine, self.raise_by = smooth, fine, raise_by
        self._net: FusedModel | None = None

    def attribute(self, inputs: Tensor, target: Target = None) -> Tensor:
        """Maps ``[B, H, W]``, at least 0, for images ``[B, C, H, W]``."""
        self._net = self._net or _fused(self.model, inputs)
        relevance = _of_one_class(self._net, inputs, target)
        layer = self.layer or last_positions(self._net)
        side = min(inputs.shape[2:])
        maps = self._shares(self._net, inputs, relevance.units[:, 0], layer)
        maps = smoothed(maps, self.smooth * side)
        if self.raise_by:
            maps *= 1 + self.raise_by * mask(smoothed(relevance.scores[:, 0], self.fine * side), "whole")
        return maps

    def _shares(self, net: FusedModel, inputs: Tensor, target: Tensor, layer: str) -> Tensor:
        """Shares of the layer's positions, each map's largest 1, averaged over the sizes, ``[B, H, W]``."""
        taken, sizes, total = 0, inputs.shape[2:], torch.zeros_like(inputs[:, 0])
        for scale in self.scales:
            size = [max(1, round(scale * length)) for length in sizes]
            try:
                shares = net.contributions(_resized(inputs, size), target, layer).shares  # [B, K, h, w]
            except CaptureError as error:
                if scale == 1:
                    raise
                logger.info("saliency goes without images of %s: %s", list(size), error)
                continue
            if shares.dim() != 4:
                raise InputError(f"layer {layer!r} has no positions: its units have the shape {list(shares.shape[1:])}")
            taken += 1
            total += mask(_resized(shares.sum(1, keepdim=True), sizes)[:, 0], "whole")
        if not taken:
            raise InputError(f"the model takes images of none of the sizes scales={self.scales}; add 1")
        return total / taken


def _of_one_class(net: FusedModel, inputs: Tensor, target: Target) -> Relevance:
    relevance = net.attribute(inputs, target, bias="separate")
    if relevance.scores.shape[1] != 1:
        raise InputError(f"target: a saliency map is of one class for each image, got {relevance.scores.shape[1]}")
    return relevance


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
    """Maps ``[B, H, W]`` under a Gaussian of that many pixels, which is cut off at the border and keeps its weight."""
    rows, columns = (_gaussian(size, deviation).to(maps) for size in maps.shape[1:])
    return rows @ maps @ columns.T


def _gaussian(size: int, deviation: float) -> Tensor:
    """``[size, size]``: the weights of all pixels of a line for each of them."""
    place = torch.arange(size, dtype=torch.float64)
    weights = torch.exp(-0.5 * ((place[:, None] - place) / deviation) ** 2)
    return weights / weights.sum(1, keepdim=True)


def _resized(x: Tensor, size: Sequence[int]) -> Tensor:
    if list(x.shape[2:]) == list(size):
        return x
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False, antialias=True)


def _fused(model: nn.Module, inputs: Tensor) -> FusedModel:
    return model if isinstance(model, FusedModel) else fuse(model, inputs)
