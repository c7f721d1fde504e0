"""Which units of a layer a request is about."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fwdkern.errors import InputError


@dataclass(frozen=True)
class Units:
    """K units of a layer of shape ``[*shape]``.

    Attributes:
        flat: int64 ``[1 or B, K]``, positions in the flattened layer; None for sums over each channel's positions.
        index: what row k is, as results show it: ``[K, rank]``, ``[B, K]`` class numbers, ``[B, 1, rank]`` places of
            another output, or ``[C, 1]`` channels.
    """

    shape: tuple[int, ...]
    flat: Tensor | None
    index: Tensor
    every: bool = False

    @property
    def count(self) -> int:
        return self.shape[0] if self.flat is None else self.flat.shape[1]

    def gather(self, values: Tensor) -> Tensor:
        """The units' entries of ``[..., B, *shape]``, as ``[..., B, K]``."""
        lead = values.shape[: values.dim() - len(self.shape)]
        if self.flat is None:
            return values.reshape(*lead, self.shape[0], -1).sum(-1)
        values = values.reshape(*lead, -1)
        if self.every:
            return values
        return values.gather(-1, self.flat.expand(*lead, -1)) if len(self.flat) > 1 else values[..., self.flat[0]]

    def seed(self, start: int, stop: int, like: Tensor) -> Tensor:
        """Reverse mode's beginning: units start..stop as linear forms of the layer, ``[stop − start, B, *shape]``.

        ``like`` is the layer's value ``[B, *shape]``.
        """
        count, batch = stop - start, like.shape[0]
        rows = like.new_zeros(count, batch, like[0].numel())
        if self.flat is None:
            rows = rows.view(count, batch, self.shape[0], -1)
            each = torch.arange(count, device=like.device)
            rows[each, :, each + start] = 1
        else:
            rows.scatter_(2, self.flat[:, start:stop].expand(batch, -1).T.unsqueeze(2), 1)
        return rows.view(count, *like.shape)

    def mask(self, example: int) -> Tensor:
        """The units of one input as a bool mask ``[units]`` over the flattened layer."""
        mask = torch.zeros(torch.Size(self.shape).numel(), dtype=torch.bool, device=self.index.device)
        mask[slice(None) if self.flat is None else self.flat[example if len(self.flat) > 1 else 0]] = True
        return mask

    def part(self, start: int, stop: int) -> "Units":
        """Units start..stop alone."""
        if self.flat is None:
            raise InputError("channel sums are not split")
        index = self.index[:, start:stop] if len(self.flat) > 1 else self.index[start:stop]
        return Units(self.shape, self.flat[:, start:stop], index)


def coordinates(flat: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Positions ``[..., K]`` in a flattened layer as coordinates ``[..., K, rank]``."""
    return torch.stack(torch.unravel_index(flat, shape), -1) if shape else flat.new_zeros(*flat.shape, 0)


def parse_units(units: str | Tensor, value: Tensor, layer: str) -> Units:
    """``"all"``, ``"channels"`` or coordinates int ``[K, rank]`` in a layer of value ``[B, *shape]``."""
    shape = tuple(value.shape[1:])
    sizes = torch.tensor(shape)
    count = int(sizes.prod())
    if isinstance(units, str):
        if units == "all":
            flat = torch.arange(count, device=value.device)
            return Units(shape, flat[None], coordinates(flat, shape), every=True)
        if units == "channels":
            if not shape:
                raise InputError(f'units: layer {layer!r} is one number without channels; use "all"')
            return Units(shape, None, torch.arange(shape[0], device=value.device)[:, None])
        raise InputError(
            f'units={units!r} is not one of "all", "channels" or a tensor of coordinates [K, {len(shape)}]'
        )
    try:
        index = torch.as_tensor(units, device=value.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"units={units!r} cannot be read as coordinates [K, {len(shape)}]: {error}") from error
    if index.numel() == 0:
        raise InputError("units: no unit was asked for")
    if index.is_floating_point() or index.dtype is torch.bool:
        raise InputError(f"units: coordinates must be integers, got {index.dtype}")
    if index.dim() != 2 or index.shape[1] != len(shape):
        raise InputError(
            f"units: layer {layer!r} has shape {list(shape)}, so coordinates must be [K, {len(shape)}], "
            f"got {list(index.shape)}"
        )
    index = index.long()
    wrong = ((index < 0) | (index >= sizes.to(index.device))).any(1)
    if wrong.any():
        raise InputError(
            f"units: {index[wrong][0].tolist()} is outside layer {layer!r} of shape {list(shape)}"
            + (f" ({int(wrong.sum())} units are)" if wrong.sum() > 1 else "")
        )
    strides = torch.tensor([int(sizes[i + 1 :].prod()) for i in range(len(shape))], device=value.device)
    return Units(shape, (index * strides).sum(1)[None], index)


def parse_place(target: object, output: Tensor) -> Units:
    """One unit for each input of an output ``[B, *shape]`` that is not classes: its coordinates ``[rank]`` for all
    inputs or ``[B, rank]``, None where there is but one."""
    batch, shape = output.shape[0], tuple(output.shape[1:])
    if target is None and output[0].numel() == 1:
        zeros = torch.zeros(batch, 1, dtype=torch.int64, device=output.device)
        return Units(shape, zeros, zeros[..., None].expand(-1, -1, len(shape)))
    try:
        place = torch.as_tensor(target, device=output.device)
    except (TypeError, ValueError, RuntimeError):
        place = output.new_empty(0)
    if place.is_floating_point() or place.shape not in ((len(shape),), (batch, len(shape))):
        raise InputError(
            f"target={target!r} does not fit a network that returns {list(output.shape)}: give the coordinates of one "
            f"unit, a tuple of {len(shape)} integers for all inputs or [{batch}, {len(shape)}] for one unit each"
        )
    one = parse_units(place.expand(batch, -1), output, "output")
    assert one.flat is not None
    return Units(shape, one.flat.T, one.index[:, None])


@dataclass(frozen=True)
class WeightedSum(Units):
    """One linear form of a layer's units instead of some of them; ``index`` holds its weights ``[B, *shape]``."""

    @classmethod
    def of(cls, weights: Tensor, value: Tensor, layer: str) -> "WeightedSum":
        """From weights ``[*shape]`` or ``[B, *shape]`` for a layer of value ``[B, *shape]``."""
        if weights.shape not in (value.shape, value.shape[1:]):
            raise InputError(
                f"weights: layer {layer!r} has the value {list(value.shape)}, so its weights must be "
                f"{list(value.shape[1:])} or {list(value.shape)}, got {list(weights.shape)}"
            )
        weights = weights.detach().to(value)
        if not weights.isfinite().all():
            raise InputError(f"weights hold {int((~weights.isfinite()).sum())} NaN or infinite values")
        return cls(tuple(value.shape[1:]), None, weights.expand_as(value))

    @property
    def count(self) -> int:
        return 1

    def gather(self, values: Tensor) -> Tensor:
        first = values.dim() - len(self.shape)
        return (values * self.index).flatten(first).sum(-1, keepdim=True)

    def seed(self, start: int, stop: int, like: Tensor) -> Tensor:
        return self.index.contiguous()[None]


def parse_target(target: object, output: Tensor) -> Units:
    """Targets of a classifier with output ``[B, classes]``: None (top class), int, list, tensor, or ``"all"``."""
    if output.dim() != 2:
        raise InputError(
            f"attribute explains an output of shape [B, classes]; this network returns {list(output.shape)}. "
            "Use attribute_units with the output layer's name and coordinates"
        )
    batch, classes = output.shape
    if target is None:
        chosen = output.argmax(1, keepdim=True)
    elif isinstance(target, str):
        if target != "all":
            raise InputError(f'target={target!r} is not None, "all", a class number, a list or a tensor')
        chosen = torch.arange(classes, device=output.device).expand(batch, -1)
    else:
        try:
            chosen = torch.as_tensor(target, device=output.device)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"target={target!r} cannot be read as class numbers: {error}") from error
        if chosen.numel() == 0:
            raise InputError("target: no class was asked for")
        if chosen.is_floating_point() or chosen.dtype is torch.bool:
            raise InputError(f"target: class numbers must be integers, got {chosen.dtype}")
        if chosen.dim() == 0:
            chosen = chosen.expand(batch)[:, None]
        elif chosen.dim() == 1 and batch == 1:
            chosen = chosen[None]
        elif chosen.dim() == 1 and len(chosen) == batch:
            chosen = chosen[:, None]
        if chosen.dim() != 2 or len(chosen) != batch:
            raise InputError(
                f"target of shape {list(torch.as_tensor(target).shape)} does not fit a batch of {batch}: give one "
                f"number for all, [{batch}] for one class per example, or [{batch}, K] for several"
            )
    chosen = chosen.long()
    wrong = (chosen < 0) | (chosen >= classes)
    if wrong.any():
        raise InputError(f"target {int(chosen[wrong][0])} is out of range: the network has classes 0 to {classes - 1}")
    return Units((classes,), chosen, chosen, every=isinstance(target, str))


def parse_class(target: object, output: Tensor) -> Tensor:
    """One class for each example, int64 ``[B]``; ``target`` as in ``parse_target``."""
    units = parse_target(target, output)
    if units.count != 1:
        raise InputError(f"target: give one class for each example, got {units.count}")
    return units.index[:, 0]
