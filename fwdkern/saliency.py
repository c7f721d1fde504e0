"""From relevance to one saliency map of a class; docs/evaluation.md says how the defaults were chosen."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fwdkern.engine.decomposition import Contributions
from fwdkern.errors import InputError
from fwdkern.graph import Layer
from fwdkern.metrics.masking import Keep, mask
from fwdkern.metrics.scores import check_outputs
from fwdkern.model import FusedModel, fuse

Target = int | list[Any] | Tensor | None

_HALF = 0.5
_POWERS = (0.5, 1, 2)


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
        relevance = self._net.attribute(inputs, target, bias="separate")
        if relevance.scores.shape[1] != 1:
            raise InputError(f"one class per input has a saliency map, not {relevance.scores.shape[1]}")
        return relevance.scores[:, 0]


class Saliency:
    """Of three maps the one whose upper half keeps most of the class when all else is hidden.

    The shares that the units of a late layer and of one of higher resolution have in the class score are smoothed and
    combined in three ways. Each map hides the image but for its upper half, and the network is asked how probable the
    class still is: the preservation game of Fong and Vedaldi (https://arxiv.org/abs/1704.03296), played with few maps
    in place of a descent. Then the map's square root, the map itself or its square is taken: which multiplies the image
    and keeps most of the class's probability, as a part of the whole image's, less the map's mean. docs/evaluation.md
    compares them.

    Args:
        model: in evaluation mode, or a network that ``fuse`` made; it returns class scores, or their softmax.
        layer: the late layer; by default the last one with positions.
        smooth: standard deviation of the narrow Gaussian, as a part of the image's shorter side; the wide one has twice
            that.
        baselines: what the inputs hold where they are hidden: one number, or one for each channel.
    """

    def __init__(
        self,
        model: nn.Module,
        layer: str | None = None,
        smooth: float = 1 / 14,
        baselines: float | Sequence[float] = 0.0,
    ) -> None:
        if not smooth > 0:
            raise InputError(f"smooth={smooth} must be more than 0")
        self.model, self.layer, self.smooth = model, layer, smooth
        self.baselines = baselines if isinstance(baselines, (int, float)) else list(baselines)
        self._net: FusedModel | None = None

    def attribute(self, inputs: Tensor, target: Target = None) -> Tensor:
        """Maps ``[B, H, W]`` in [0, 1] for images ``[B, C, H, W]``."""
        self._net = net = self._net or _fused(self.model, inputs)
        layer = self.layer or last_positions(net)
        late, higher = (net.contributions(inputs, target, name) for name in (layer, above(net, layer)))
        asked = _Asked(net, inputs, late.target, self._hidden(inputs))
        candidates = self._candidates(_stretched(late, inputs), _stretched(higher, inputs))
        chosen = _best(candidates, [asked.probability(maps, _HALF) for maps in candidates])
        contrasts = [chosen**power for power in _POWERS]
        return _best(contrasts, [asked.gain(maps) for maps in contrasts])

    def _candidates(self, late: Tensor, higher: Tensor) -> list[Tensor]:
        """Maps ``[B, H, W]`` in [0, 1] from those of both layers: narrow ones of the late layer, and of both together;
        wide ones of where both agree."""
        narrow = self.smooth * min(late.shape[1:])

        def soft(maps: Tensor, deviation: float) -> Tensor:
            return mask(smoothed(maps, deviation), "whole")

        near, wide = soft(late, narrow), (soft(late, 2 * narrow), soft(higher, 2 * narrow))
        return [
            near,
            mask(near + soft(higher, narrow), "whole"),
            # Where one of them is zero the other still counts a little.
            mask(wide[0] * wide[1] + 0.1 * (wide[0] + wide[1]), "whole"),
        ]

    def _hidden(self, inputs: Tensor) -> Tensor:
        hidden = inputs.new_tensor(self.baselines)
        if hidden.dim() and len(hidden) != inputs.shape[1]:
            raise InputError(f"baselines={self.baselines}: the inputs have {inputs.shape[1]} channels")
        return hidden.view(-1, 1, 1)


class _Asked:
    """A network asked about parts of images ``[B, C, H, W]``.

    Args:
        target: classes ``[B]``; hidden: what the inputs hold where they are hidden, ``[C or 1, 1, 1]``.
    """

    def __init__(self, net: FusedModel, inputs: Tensor, target: Tensor, hidden: Tensor) -> None:
        # Convolutions on a CPU take half the time in this layout.
        self._inputs = inputs.contiguous(memory_format=torch.channels_last)
        self._net, self._target, self._hidden = net, target, hidden

    def probability(self, maps: Tensor, keep: Keep) -> Tensor:
        """How probable the class is when only what maps ``[B, H, W]`` keep is seen, ``[B]``."""
        factors = mask(maps, keep)[:, None].to(self._inputs)
        return self._probability(torch.lerp(self._hidden, self._inputs, factors))

    def gain(self, maps: Tensor) -> Tensor:
        """What whole maps keep of the images' own probabilities, less the maps' means, ``[B]``."""
        return self.probability(maps, "whole") / self._whole - maps.mean((1, 2))

    @cached_property
    def _whole(self) -> Tensor:
        likely = self._probability(self._inputs)
        # Of an image that is nearly impossible, no part is worth more than the smallest number.
        return likely.clamp_min(torch.finfo(likely.dtype).tiny)

    def _probability(self, inputs: Tensor) -> Tensor:
        with torch.no_grad():
            outputs = check_outputs(self._net(inputs), len(inputs))
        if outputs.shape[1] == 1:
            return outputs[:, 0].sigmoid()
        _, ends_in_softmax = self._net.class_layer
        likely = outputs if ends_in_softmax and (outputs >= 0).all() else outputs.softmax(1)
        return likely.gather(1, self._target[:, None])[:, 0]


def _best(maps: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
    """Of each example the map ``[H, W]`` with the highest value ``[B]``; the first of equals."""
    order = torch.stack(list(values)).argmax(0)
    return torch.stack(list(maps))[order, torch.arange(len(order), device=order.device)]


def _stretched(contributions: Contributions, inputs: Tensor) -> Tensor:
    """Shares of a layer's positions that speak for the class, stretched to the image, ``[B, H, W]`` in [0, 1]."""
    shares = contributions.shares  # [B, K, h, w]
    if shares.dim() != 4:
        layer, shape = contributions.layer, list(shares.shape[1:])
        raise InputError(f"layer {layer!r} has no positions: its units have the shape {shape}")
    maps = F.interpolate(shares.sum(1, keepdim=True), inputs.shape[2:], mode="bilinear", antialias=True)
    return mask(maps[:, 0], "whole")


def last_positions(net: FusedModel) -> str:
    """The last layer whose units have positions in the image, ``[K, h, w]`` with h · w > 1.

    Raises:
        InputError: there is none.
    """
    found = [layer.name for layer in _with_positions(net) if layer.shape[1] * layer.shape[2] > 1]
    if not found:
        raise InputError("the network has no layer [K, h, w] with positions; look at its raw relevance")
    return found[-1]


def above(net: FusedModel, layer: str) -> str:
    """The last layer before another one that has at least one and a half times its resolution; else that one itself."""
    own, found = net.layer(layer), layer
    if len(own.shape) != 3:
        return layer
    for other in _with_positions(net):
        if other.name == own.name:
            break
        if all(2 * a >= 3 * b for a, b in zip(other.shape[1:], own.shape[1:], strict=True)):
            found = other.name
    return found


def _with_positions(net: FusedModel) -> list[Layer]:
    """The layers ``[K, h, w]`` whose last two axes are those of the image, in order.

    Convolutions and pools have such axes, and what has the shape of a layer that it reads keeps its axes. Reshaping
    loses them: the heads and windows of attention, ``[heads, T, T]``, have no positions in the image.
    """
    first: dict[str, int | None] = {}  # of both axes, None where there are none
    for layer in net.layers:
        first[layer.name] = _first_axis(layer, [(net.layer(p).shape, first[p]) for p in layer.parents if p != "input"])
    return [layer for layer in net.layers if first[layer.name] == 1]


def _first_axis(layer: Layer, parents: list[tuple[tuple[int, ...], int | None]]) -> int | None:
    if len(layer.shape) != 3:
        return None
    if any(word in layer.operator for word in ("conv", "pool", "upsample")):
        return 1
    if "view" in layer.operator or "reshape" in layer.operator:
        return None
    for shape, axis in parents:
        if axis is None:
            continue
        if layer.operator in ("permute", "transpose"):
            if axis == 0 and layer.shape == (shape[2], shape[0], shape[1]):
                return 1
            return 0 if axis == 1 and layer.shape == (shape[1], shape[2], shape[0]) else None
        return axis
    return 1 if "input" in layer.parents else None


def smoothed(maps: Tensor, deviation: float) -> Tensor:
    """Maps ``[B, H, W]`` under a Gaussian of that many pixels, which is cut off at the border and keeps its weight."""
    rows, columns = (_gaussian(size, deviation).to(maps) for size in maps.shape[1:])
    return rows @ maps @ columns.T


def _gaussian(size: int, deviation: float) -> Tensor:
    """``[size, size]``: the weights of all pixels of a line for each of them."""
    place = torch.arange(size, dtype=torch.float64)
    weights = torch.exp(-0.5 * ((place[:, None] - place) / deviation) ** 2)
    return weights / weights.sum(1, keepdim=True)


def _fused(model: nn.Module, inputs: Tensor) -> FusedModel:
    return model if isinstance(model, FusedModel) else fuse(model, inputs)
