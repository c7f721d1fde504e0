"""Both modes with dense maps ``[S, B, *shape]`` in plain torch: any device, any float dtype. The reference engine."""

from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor

from fwdkern.engine.features import Features, position_shape
from fwdkern.engine.tape import Tape
from fwdkern.engine.units import Units
from fwdkern.rules import Frozen


def forward_maps(
    tape: Tape, features: Features, wanted: list[int], chunk: int
) -> Iterator[tuple[int, int, dict[int, Tensor]]]:
    """Carry the maps from the input to the wanted steps, ``chunk`` slices at a time.

    Yields:
        start, stop and for every wanted step its maps ``[stop − start, B, *shape]``.
    """
    for start in range(0, features.count, chunk):
        stop = min(start + chunk, features.count)
        yield start, stop, _carry(tape, features.seed(tape.input, start, stop), wanted, with_offsets=False)


def bias_mass(tape: Tape, wanted: list[int]) -> dict[int, Tensor]:
    """The bias mass β of every unit of the wanted steps, ``[B, *shape]``: what a zero input gives with the
    coefficients frozen at this one."""
    maps = _carry(tape, torch.zeros_like(tape.input).unsqueeze(0), wanted, with_offsets=True)
    return {i: mass[0] for i, mass in maps.items()}


def _carry(tape: Tape, seed: Tensor, wanted: list[int], with_offsets: bool) -> dict[int, Tensor]:
    """Apply the frozen operators to ``[S, B, *input shape]``, with or without what they add by themselves."""
    order = tape.ancestors(wanted)
    last_use = _last_use(tape, order)
    maps = {0: seed}
    for i in order[1:]:
        step = tape.steps[i]
        assert step.frozen is not None and not isinstance(step.frozen, str)
        maps[i] = step.frozen.forward(*(maps[parent] for parent in step.parents))
        if with_offsets and step.frozen.offset is not None:
            maps[i] = maps[i] + step.frozen.offset
        for parent in step.parents:
            if last_use[parent] == i and parent not in wanted:
                maps.pop(parent, None)
    return {i: maps[i] for i in wanted}


def _last_use(tape: Tape, order: list[int]) -> dict[int, int]:
    return {parent: i for i in order for parent in tape.steps[i].parents}


def reverse_maps(tape: Tape, step: int, units: Units, chunk: int) -> Iterator[tuple[int, int, Tensor, Tensor]]:
    """Pull the units of one step back to the input, ``chunk`` of them at a time.

    Yields:
        start, stop, the pulled targets ``[stop − start, B, *input shape]`` and their bias mass ``[stop − start, B]``.
    """
    for start in range(0, units.count, chunk):
        stop = min(start + chunk, units.count)
        seed = units.seed(start, stop, tape.steps[step].value)
        pulled, mass = pull(tape, step, seed)
        yield start, stop, pulled[0], mass


def pull(tape: Tape, step: int, seed: Tensor, cut: int | None = None) -> tuple[dict[int, Tensor], Tensor]:
    """Pull linear forms of one step's units back to the input.

    Args:
        seed: ``[K, B, *shape]``; cut: a step at which they stop instead.

    Returns:
        What arrives at the input (key 0) and at the cut, ``[K, B, *shape]`` (absent where no path leads there), and
        the bias mass ``[K, B]`` met on the way.
    """
    pulled, mass = {step: seed}, seed.new_zeros(seed.shape[:2])
    order = tape.ancestors([step])
    readers = Counter(parent for i in order for parent in tape.steps[i].parents)
    behind: dict[int, list[Frozen]] = {}  # operators left to the step that they read, the last first
    for i in reversed(order[1:]):
        if i == cut or i not in pulled:
            continue
        frozen, rows, parents = tape.steps[i].frozen, pulled.pop(i), tape.steps[i].parents
        assert frozen is not None and not isinstance(frozen, str)
        waiting = behind.pop(i, [])
        if frozen.deferred and readers[parents[0]] == 1 and parents[0] not in (0, cut):
            behind[parents[0]], pulled[parents[0]] = [*waiting, frozen], rows
            continue
        parts, own = frozen.pull(rows, waiting)
        mass += own
        for parent, part in zip(parents, parts, strict=True):
            dtype = tape.steps[parent].value.dtype
            if dtype.is_floating_point:
                part = part.to(dtype)  # a sum of two types has the wider one
            pulled[parent] = pulled[parent] + part if parent in pulled else part
    return pulled, mass


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
    grid = position_shape(x, tape.sequence)
    height, width = grid if len(grid) == 2 else (1, grid.numel())
    y = torch.arange(height, device=x.device, dtype=torch.float32).view(-1, 1).expand(height, width)
    z = torch.arange(width, device=x.device, dtype=torch.float32).expand(height, width)
    own = torch.stack([height - y, width - z, y + 1, z + 1])
    own = own.reshape(4, *grid)
    own = own.unsqueeze(-1) if tape.sequence else own.unsqueeze(1) if x.dim() > 2 else own
    own = own.unsqueeze(1).expand(4, *x.shape)
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
