"""The result of an attribution."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from fwdkern.errors import InputError


@dataclass
class Relevance:
    """Relevance maps of K units for a batch of B inputs.

    Attributes:
        scores: the maps V, ``[B, K, H, W]`` for pixels, ``[B, K, C, H, W]`` for channels, ``[B, K, segments]``,
            ``[B, K, T]`` for tokens, ``[B, K, T, D]`` for the channels of tokens.
        bias: bias mass β, ``[B, K]``; part of ``scores`` unless ``bias_in_scores`` is off.
        outputs: the units' values a, ``[B, K]``.
        units: what row k is: coordinates ``[K, rank]`` or ``[B, 1, rank]``, channels ``[C, 1]``, classes ``[B, K]``, or
            the weights ``[B, *shape]`` of a sum.
        layer: the layer whose units they are; where a softmax ends the network, the layer below it.
        features: what the slices are, ``"pixels"``, ``"channels"``, ``"segments"``, ``"tokens"`` or
            ``"token channels"``.
        mode: how the maps were computed, ``"forward"`` or ``"reverse"``.
        origin: with ``layout="window"``, the image position (y, x) of each map's first pixel, ``[B, K, 2]``.
        outside: the part of each unit's value that lies outside its window, ``[B, K]``.
        note: what a reader of the maps must know, for example that they explain the logits below a softmax.
    """

    scores: Tensor
    bias: Tensor
    outputs: Tensor
    units: Tensor
    layer: str
    features: str
    mode: str
    bias_in_scores: bool = True
    origin: Tensor | None = None
    outside: Tensor | None = None
    note: str = ""
    _delta: Tensor | None = field(default=None, repr=False)

    @property
    def delta(self) -> Tensor:
        """Completeness error ``[B, K]``: outputs minus all that the maps account for; zero but for rounding."""
        if self._delta is None:
            # Summed in float64, some units at a time: the sum of 50 000 floats must not be the error it measures.
            total = torch.cat([part.double().flatten(2).sum(2) for part in self.scores.split(64, 1)], 1)
            rest = self.outside if self.bias_in_scores else self.bias
            explained = total if rest is None else total + rest.double()
            self._delta = (self.outputs.double() - explained).to(self.outputs.dtype)
        return self._delta

    def saliency(self, sign: Literal["positive", "absolute", "signed"] = "positive") -> Tensor:
        """Maps scaled to be looked at, each by its own largest entry; a map of zeros stays zeros.

        Args:
            sign: ``"positive"`` and ``"absolute"`` give values in [0, 1], ``"signed"`` in [−1, 1].

        Returns:
            ``[B, K, H, W]`` (channels are summed first), ``[B, K, segments]`` or ``[B, K, T]``.
        """
        maps = self.scores
        if self.features == "token channels":
            maps = maps.sum(3)
        elif self.features == "channels" and maps.dim() > 3:
            maps = maps.sum(2)
        if sign == "positive":
            maps = maps.clamp_min(0)
        elif sign == "absolute":
            maps = maps.abs()
        elif sign != "signed":
            raise InputError(f'sign={sign!r} is not one of "positive", "absolute", "signed"')
        largest = maps.abs().flatten(2).amax(2).view(*maps.shape[:2], *[1] * (maps.dim() - 2))
        return torch.where(largest > 0, maps / largest.clamp_min(torch.finfo(maps.dtype).tiny), 0)
