"""Both modes with dense maps ``[S, B, *shape]`` in plain torch: any device, any float dtype. The reference engine."""

from collections.abc import Iterator

import torch
from torch import Tensor

from fwdkern.engine.features import Features
from fwdkern.engine.tape import Tape
from fwdkern.engine.units import Units


def forward_maps(
    tape: Tape, features: Features, wanted: list[int], chunk: int
) -> Iterator[tuple[int, int, dict[int, Tensor]]]:
    """Carry the maps from the input to the wanted steps, ``chunk`` slices at a time.

    Yields:
        start, stop and for every wanted step its maps ``[stop − start + 1, B, *shape]``, the last slice the bias mass.
    """
    order = tape.ancestors(wanted)
    last_use = _last_use(tape, order)
    for start in range(0, features.count, chunk):
        stop = min(start + chunk, features.count)
        maps = {0: features.seed(tape.input, start, stop)}
        for i in order:
            if i not in maps:
                maps[i] = _forward_step(tape, i, maps)
            for parent in tape.steps[i].parents:
                if last_use[parent] == i and parent not in wanted:
                    maps.pop(parent, None)
        yield start, stop, {i: maps[i] for i in wanted}


def _forward_step(tape: Tape, i: int, maps: dict[int, Tensor]) -> Tensor:
    frozen = tape.steps[i].frozen
    assert frozen is not None and not isinstance(frozen, str)
    out = frozen.forward(*(maps[parent] for parent in tape.steps[i].parents))
    if frozen.offset is not None:
        out = out.clone() if _may_alias(out, maps, tape.steps[i].parents) else out
        out[-1] += frozen.offset
    return out


def _may_alias(out: Tensor, maps: dict[int, Tensor], parents: tuple[int, ...]) -> bool:
    memory = out.untyped_storage().data_ptr()
    return 0 in out.stride() or any(maps[p].untyped_storage().data_ptr() == memory for p in parents)


def _last_use(tape: Tape, order: list[int]) -> dict[int, int]:
    return {parent: i for i in order for parent in tape.steps[i].parents}


def reverse_maps(tape: Tape, step: int, units: Units, chunk: int) -> Iterator[tuple[int, int, Tensor, Tensor]]:
    """Pull the units of one step back to the input, ``chunk`` of them at a time.

    Yields:
        start, stop, the pulled targets ``[stop − start, B, *input shape]`` and their bias mass ``[stop − start, B]``.
    """
    order = tape.ancestors([step])
    for start in range(0, units.count, chunk):
        stop = min(start + chunk, units.count)
        pulled = {step: units.seed(start, stop, tape.steps[step].value)}
        bias = tape.input.new_zeros(stop - start, tape.input.shape[0])
        for i in reversed(order):
            frozen = tape.steps[i].frozen
            if frozen is None or isinstance(frozen, str) or i not in pulled:
                continue
            rows = pulled.pop(i)
            if frozen.offset is not None:
                bias += (rows * frozen.offset).flatten(2).sum(2)
            for parent, part in zip(tape.steps[i].parents, frozen.reverse(rows), strict=True):
                pulled[parent] = pulled[parent] + part if parent in pulled else part
        yield start, stop, pulled[0], bias


def slice_bytes(tape: Tape, wanted: list[int]) -> int:
    """Bytes that one slice of a pass to the wanted steps holds at its widest moment, for the whole batch."""
    order = tape.ancestors(wanted)
    last_use = _last_use(tape, order)
    size = {i: tape.steps[i].value.numel() for i in order}
    live, peak = 0, 0
    for i in order:
        live += size[i]
        # An operator holds its inputs, its output and a scratch copy of it.
        peak = max(peak, live + size[i])
        for parent in set(tape.steps[i].parents):
            if last_use[parent] == i and parent not in wanted:
                live -= size[parent]
    return peak * tape.input.element_size()


def receptive_boxes(tape: Tape, steps: list[int]) -> dict[int, Tensor]:
    """Receptive field of every unit of some steps, int64 ``[4, B, *shape]``: y0, x0, y1, x1, half open. An input
    without two axes of positions counts as one row of them; a unit that sees nothing has zeros."""
    x = tape.input
    height, width = x.shape[2:] if x.dim() == 4 else (1, x[0].numel() if x.dim() == 2 else x.shape[2:].numel())
    y = torch.arange(height, device=x.device, dtype=torch.float32).view(-1, 1).expand(height, width)
    z = torch.arange(width, device=x.device, dtype=torch.float32).expand(height, width)
    own = torch.stack([height - y, width - z, y + 1, z + 1])
    shape = x.shape[1:] if x.dim() == 2 else x.shape[2:]
    own = own.reshape(4, 1, *[1] * (x.dim() > 2), *shape).expand(4, *x.shape)
    order = tape.ancestors(steps)
    last_use = _last_use(tape, order)
    boxes, asked = {0: own}, {}
    for i in order:
        frozen = tape.steps[i].frozen
        if frozen is not None and not isinstance(frozen, str):
            boxes[i] = frozen.reach(*(boxes[p] for p in tape.steps[i].parents))
        if i in steps:
            box = boxes[i].long()
            asked[i] = torch.stack([height - box[0], width - box[1], box[2], box[3]]).masked_fill(box[2] == 0, 0)
        for parent in tape.steps[i].parents:
            if last_use[parent] == i:
                boxes.pop(parent, None)
    return asked
