"""What a map's slices are: pixels or tokens, channels × pixels, or segments. One label per input element is enough."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fwdkern.errors import InputError


@dataclass(frozen=True)
class Features:
    """The partition of one input's elements into slices.

    Attributes:
        labels: int64 ``[1 or B, E]``: the slice of each of the E elements of an input.
        count: number of slices S; shape: how S is laid out in a result, its product is S.
        kind: ``"pixels"``, ``"channels"`` or ``"segments"``; of sequences [B, T, D] ``"tokens"`` for the first and
        ``"token channels"`` for the second, channels being last there.
        positions: how many places an input's channels share; last: whether channels are an input's last dimension.
    """

    labels: Tensor
    count: int
    shape: tuple[int, ...]
    kind: str
    positions: int
    last: bool = False

    def seed(self, x: Tensor, start: int, stop: int) -> Tensor:
        """Forward mode's beginning: slices start..stop of the own maps of input ``[B, *shape]``.

        Returns:
            ``[stop − start, B, *shape]``.
        """
        rows = x.new_zeros(stop - start, x.shape[0], x[0].numel())
        labels = self.labels.expand(x.shape[0], -1)
        example, element = ((labels >= start) & (labels < stop)).nonzero(as_tuple=True)
        rows[labels[example, element] - start, example, element] = x.flatten(1)[example, element]
        return rows.view(-1, *x.shape)

    def contract(self, pulled: Tensor, x: Tensor) -> Tensor:
        """Reverse mode's end: pulled targets ``[K, B, *shape]`` times input ``[B, *shape]``, summed within slices.

        Returns:
            ``[B, K, S]``.
        """
        if self.kind == "pixels" and x.dim() > 2:
            # Channel by channel: a product of whole tensors takes memory, and an einsum copies one of them.
            total = pulled[:, :, 0] * x[:, 0]
            for channel in range(1, x.shape[1]):
                total.addcmul_(pulled[:, :, channel], x[:, channel])
            return total.flatten(2).transpose(0, 1)
        if self.kind == "tokens":
            return torch.einsum("kbtd,btd->bkt", pulled, x)
        product = (pulled * x).flatten(2).transpose(0, 1)
        if self.kind != "segments":
            return product
        sums = product.new_zeros(*product.shape[:2], self.count)
        return sums.scatter_add_(2, self.labels.unsqueeze(1).expand_as(product), product)

    def gather(self, scores: Tensor) -> Tensor:
        """Scores of every element ``[B, K, T, D]`` of a sequence summed within slices: ``[B, K, *features]``."""
        if self.kind == "tokens":
            return scores.sum(3)
        if self.kind != "segments":
            return scores
        flat = scores.flatten(2)
        sums = flat.new_zeros(*flat.shape[:2], self.count)
        return sums.scatter_add_(2, self.labels.unsqueeze(1).expand_as(flat), flat)

    def spread(self, weights: Tensor) -> Tensor:
        """Sum weights of positions ``[1, K, N]`` within slices, channels sharing a position's weight evenly.

        Returns:
            ``[1 or B, K, S]``.
        """
        channels = self.labels.shape[1] // weights.shape[2]
        batch, count = self.labels.shape[0], weights.shape[1]
        wide = _over_channels(weights / channels, channels, self.last).expand(batch, -1, -1)
        sums = wide.new_zeros(batch, count, self.count)
        return sums.scatter_add_(2, self.labels.unsqueeze(1).expand(batch, count, -1), wide)


def position_shape(x: Tensor, sequence: bool) -> torch.Size:
    """The shape of an input's positions: [H, W] of images [B, C, H, W], [T] of sequences [B, T, D]."""
    return x.shape[1:2] if sequence else x.shape[2:] if x.dim() > 2 else x.shape[1:]


def _over_channels(values: Tensor, channels: int, last: bool) -> Tensor:
    """Values of positions [..., N] as values of an input's elements [..., E]."""
    return values.repeat_interleave(channels, -1) if last else values.repeat(*[1] * (values.dim() - 1), channels)


def patches(side: int, shape: tuple[int, int]) -> Tensor:
    """A label map ``[H, W]`` of squares of ``side`` pixels, numbered row by row; those at the end may be cut off."""
    rows, columns = (torch.arange(length) // side for length in shape)
    return rows[:, None] * (int(columns[-1]) + 1) + columns


def parse_features(features: str | Tensor, x: Tensor, sequence: bool = False) -> Features:
    """``"pixels"``, ``"channels"`` or an integer label map ``[*positions]`` or ``[B, *positions]``; of a sequence
    ``"pixels"`` may be called ``"tokens"``."""
    shape, positions = x.shape[1:], position_shape(x, sequence)
    count = positions.numel()
    repeats = shape.numel() // count
    if isinstance(features, str):
        if features == "pixels" or (features == "tokens" and sequence):
            labels = _over_channels(torch.arange(count, device=x.device), repeats, sequence)
            return Features(labels[None], count, tuple(positions), "tokens" if sequence else "pixels", count, sequence)
        if features == "channels":
            labels = torch.arange(shape.numel(), device=x.device)
            kind = "token channels" if sequence else "channels"
            return Features(labels[None], shape.numel(), tuple(shape), kind, count, sequence)
        raise InputError(f'features={features!r} is not one of "pixels", "channels" or an integer label map')
    if not isinstance(features, Tensor) or features.is_floating_point() or features.dtype is torch.bool:
        given = features.dtype if isinstance(features, Tensor) else type(features).__name__
        raise InputError(f"features: a label map must be an integer tensor, got {given}")
    one = features.shape == positions
    if not one and features.shape != (x.shape[0], *positions):
        raise InputError(
            f"features: a label map must have shape {list(positions)} or {[x.shape[0], *positions]}, "
            f"got {list(features.shape)}"
        )
    labels = features.to(x.device).long().reshape(1 if one else x.shape[0], -1)
    if labels.numel() and int(labels.min()) < 0:
        raise InputError(f"features: labels must not be negative, got {int(labels.min())}")
    segments = int(labels.max()) + 1
    if segments > labels.shape[1]:
        raise InputError(
            f"features: labels must number the segments from 0; the largest is {segments - 1} "
            f"with only {labels.shape[1]} positions"
        )
    return Features(_over_channels(labels, repeats, sequence), segments, (segments,), "segments", count, sequence)
