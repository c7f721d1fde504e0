"""What is left of an operator at one input once its data-dependent coefficients are frozen: an affine map.

Shapes: ``maps`` are ``[S, B, *shape]``, S slices (or targets) of a batch of B; one slice is a tangent in forward mode,
a cotangent in reverse mode. ``boxes`` are ``[4, B, *shape]``, the receptive field of every unit as
(height − y0, width − x0, y1, x1), 0 where a unit sees nothing: in this coding a union of fields is a maximum.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor

from fwdkern.ops.gate import gate_bits, gate_count, gate_maps, gate_mask


class Frozen(ABC):
    """An operator with frozen coefficients: ``output = linear(inputs) + offset``.

    ``offset``, broadcastable to the output ``[B, *shape]``, is what the operator adds by itself; it is bias mass.
    """

    offset: Tensor | None = None
    # Which of the operator's operands the map depends on, None for all: a frozen factor is not one of them.
    operands: tuple[int, ...] | None = None
    # Whether a reverse pass leaves this operator to the one that it reads, which may do both at once.
    deferred = False
    # Whether the offset holds constants of the network, which may be infinite, as those under a mask are.
    unbounded = False

    @abstractmethod
    def forward(self, *maps: Tensor) -> Tensor:
        """The linear part applied to the parents' maps ``[S, B, *in]``; returns ``[S, B, *out]``."""

    @abstractmethod
    def reverse(self, maps: Tensor) -> tuple[Tensor, ...]:
        """Its transpose: ``[S, B, *out]`` to one ``[S, B, *in]`` a parent."""

    def pull(self, maps: Tensor, behind: Sequence["Frozen"] = ()) -> tuple[tuple[Tensor, ...], Tensor]:
        """The transposes of operators behind this one, the last of them first, then its own.

        Args:
            maps: cotangents of the last operator's output; behind: operators with one parent, each the only reader
                of the one before it, the last first.

        Returns:
            Cotangents ``[S, B, *in]``, one a parent, and this operator's bias mass ``[S, B]``.
        """
        for operator in behind:
            (maps,) = operator.reverse(maps)
        return self.reverse(maps), self.mass(maps)

    def mass(self, maps: Tensor) -> Tensor:
        """Bias mass ``[S, B]`` of cotangents ``[S, B, *out]``: what they make of the offset."""
        if self.offset is None:
            return maps.new_zeros(maps.shape[:2])
        parts = maps * self.offset
        if self.unbounded:
            parts = torch.where(maps == 0, 0, parts)
        return parts.unsqueeze(-1).sum(tuple(range(2, parts.dim() + 1)))

    @abstractmethod
    def reach(self, *boxes: Tensor) -> Tensor:
        """Receptive fields of the outputs, ``[4, B, *out]``, from those of the parents."""


class Diagonal(Frozen):
    """Every output is its input times a frozen coefficient.

    Args:
        scale: ``[B, *shape]`` or broadcastable to it.
        offset: bias mass, broadcastable likewise.
        shape: the operator's output shape ``[B, *shape]``.
    """

    def __init__(self, scale: Tensor, offset: Tensor | None, shape: torch.Size) -> None:
        self._scale, self.offset, self.shape = scale, offset, shape

    @property
    def scale(self) -> Tensor:
        """The coefficients; of a gate bool ``[B, *shape]``."""
        return self._scale

    def forward(self, *maps: Tensor) -> Tensor:
        return self._scaled(maps[0])

    def reverse(self, maps: Tensor) -> tuple[Tensor, ...]:
        return (self._scaled(maps),)

    def _scaled(self, maps: Tensor) -> Tensor:
        return maps * self.scale

    def reach(self, *boxes: Tensor) -> Tensor:
        return boxes[0].expand(4, *self.shape)


class Gate(Diagonal):
    """A coefficient that is 1 where a unit is open and 0 where it is closed, kept as one bit a unit.

    Args:
        values: ``[B, *shape]``; open where they are above 0 (a bool tensor: where it is True).
        offset: as in ``Diagonal``.
    """

    def __init__(self, values: Tensor, offset: Tensor | None = None) -> None:
        self.offset, self.shape, self.deferred = offset, values.shape, offset is None
        self.bits = gate_bits(_with_channels(values))

    @property
    def scale(self) -> Tensor:
        channels = self.shape[1] if len(self.shape) > 1 else 1
        return gate_mask(self.bits, channels).reshape(self.shape)

    @cached_property
    def density(self) -> float:
        """The share of open units, from a fifth of the places along each axis of positions."""
        channels = self.shape[1] if len(self.shape) > 1 else 1
        sample = self.bits[(slice(None), *[slice(None, None, 5)] * (self.bits.dim() - 2))]
        return gate_count(sample) / max(sample[..., 0].numel() * channels, 1)

    def _scaled(self, maps: Tensor) -> Tensor:
        return fold(maps, lambda rows: gate_maps(_with_channels(rows), self.bits).reshape(rows.shape))


def _with_channels(values: Tensor) -> Tensor:
    return values.unsqueeze(1) if values.dim() == 1 else values


class Relabel(Frozen):
    """Every output is a copy of one input, or zero: reshapes, permutations, slices, padding, shifts.

    Args:
        operator: the relabelling of one tensor ``[B, *in]``.
        shape: input shape ``[B, *in]``.
        transpose: its transpose over ``[S, B, *out]``, where a faster one than the general one is known.
    """

    def __init__(
        self,
        operator: Callable[[Tensor], Tensor],
        shape: torch.Size,
        transpose: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.operator, self.shape, self.transpose = operator, shape, transpose

    def source(self, device: torch.device) -> Tensor:
        """Flat index of every output's input plus one, 0 where the output is a constant zero; float64 ``[B, *out]``,
        since some padding operators take no integers."""
        count = self.shape.numel()
        return self.operator(torch.arange(1, count + 1, dtype=torch.float64, device=device).view(self.shape))

    def forward(self, *maps: Tensor) -> Tensor:
        return torch.vmap(self.operator)(maps[0])

    def reverse(self, maps: Tensor) -> tuple[Tensor, ...]:
        if self.transpose is not None:
            return (self.transpose(maps),)
        source = self.source(maps.device).flatten().long()
        pulled = maps.new_zeros(maps.shape[0], self.shape.numel() + 1)
        pulled.index_add_(1, source, maps.flatten(1))
        return (pulled[:, 1:].unflatten(1, self.shape),)

    def reach(self, *boxes: Tensor) -> Tensor:
        return self.forward(boxes[0])


class Picked(Relabel):
    """Outputs that are copies of inputs of their line along ``dim``; which ones may differ from input to input.

    Args:
        index: int64, as ``torch.gather`` takes it; kept: whether ``dim``, where it is 1 long, stays.
    """

    def __init__(self, index: Tensor, dim: int, kept: bool, shape: torch.Size) -> None:
        def operator(x: Tensor) -> Tensor:
            values = x.gather(dim, index)
            return values if kept else values.squeeze(dim)

        super().__init__(operator, shape)
        self.out, self.dim, self.kept = operator(torch.empty(shape, device=index.device)).shape, dim, kept
        self.picked = index.shape

    def reach(self, *boxes: Tensor) -> Tensor:
        (box,) = boxes
        for dim, size in enumerate(self.picked):
            if dim not in (0, self.dim):
                box = box.narrow(dim + 1, 0, size)
        return box.amax(self.dim + 1, keepdim=self.kept).expand(4, *self.out)


class Constant(Frozen):
    """A value that its operand has no part in once it is frozen: all of it is bias mass.

    Args:
        shape: the operand's ``[B, *in]``; output: the value ``[B, *out]``.
    """

    def __init__(self, shape: torch.Size, output: Tensor) -> None:
        self.shape, self.offset = shape, output

    def forward(self, *maps: Tensor) -> Tensor:
        assert self.offset is not None
        return maps[0].new_zeros(maps[0].shape[0], *self.offset.shape)

    def reverse(self, maps: Tensor) -> tuple[Tensor, ...]:
        return (maps.new_zeros(maps.shape[0], *self.shape),)

    def reach(self, *boxes: Tensor) -> Tensor:
        return self.forward(*boxes)


def fold(maps: Tensor, operator: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply an operator over ``[batch, ...]`` to all slices of ``[S, B, ...]`` at once."""
    return operator(maps.flatten(0, 1)).unflatten(0, maps.shape[:2])


def sum_to(maps: Tensor, shape: torch.Size) -> Tensor:
    """Transpose of broadcasting ``[B, *shape]`` to the trailing dimensions of ``maps`` ``[S, B, *out]``."""
    extra = maps.dim() - 1 - len(shape)
    if extra:
        maps = maps.sum(tuple(range(1, 1 + extra)))
    narrow = [1 + i for i, size in enumerate(shape) if size == 1 and maps.shape[1 + i] != 1]
    return maps.sum(narrow, keepdim=True) if narrow else maps
