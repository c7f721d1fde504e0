"""Requests served by active rows, one input at a time."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fwdkern.engine.features import Features
from fwdkern.engine.rows.blocks import make_blocks
from fwdkern.engine.rows.device import DevicePass
from fwdkern.engine.rows.fields import windows
from fwdkern.engine.rows.forward import forward_pass
from fwdkern.engine.rows.lists import RowList
from fwdkern.engine.rows.program import Program
from fwdkern.engine.rows.reverse import reverse_pass
from fwdkern.engine.tape import Tape
from fwdkern.ops.row_program import CompiledPass, RowPass, Sink

# Makes a pass ready to run.
Carry = Callable[[RowPass], CompiledPass | DevicePass]


@dataclass
class Output:
    """Where one input's maps of one step go.

    Attributes:
        scores: zeros ``[K, S]``, or ``[K, h, w]`` windows where ``origin`` int64 ``[K, 2]`` says where they lie.
        flat: int64 ``[K]``, the units in the flattened layer; None for sums over each channel's positions.
    """

    step: int
    flat: Tensor | None
    scores: Tensor
    origin: Tensor | None = None


def run_forward(
    tape: Tape,
    program: Program,
    features: Features,
    labels: Tensor,
    outputs: list[Output],
    side: int,
    carry: Carry,
) -> None:
    """Fill the outputs in forward mode; ``tape`` is of a single input, ``labels`` ``[E]`` its slices."""
    x = tape.input[0]
    blocks = make_blocks(features, tuple(x.shape), labels, side)
    reached = windows(tape, list(program.nodes), blocks, None if features.kind == "segments" else side)
    image = tuple(x.shape[1:]) if features.kind == "pixels" and x.dim() == 3 else None
    sinks = [_sink(output, program.nodes[output.step].rows, image) for output in outputs]
    carry(forward_pass(program, reached, x, labels, blocks, features.count, sinks)).run()
    for output in outputs:
        _repeat(output)


def _sink(output: Output, rows: RowList, image: tuple[int, ...] | None) -> Sink:
    if output.flat is None:
        slot = rows.channel.long()
    else:
        slot = _first_places(output.flat, rows)[rows.unit]
    scores, origin = output.scores, output.origin
    width = 0 if image is None else image[1]
    if origin is None and image is not None:
        # Tiles of pixels are copied line by line into whole images as into windows of that size.
        scores, origin = scores.view(-1, *image), torch.zeros(len(scores), 2, dtype=torch.int64)
    return Sink(output.step, slot, scores, accumulate=output.flat is None, origin=origin, image=width)


def run_reverse(
    tape: Tape,
    program: Program,
    features: Features,
    labels: Tensor,
    output: Output,
    chunk: int,
    carry: Carry,
) -> None:
    """Fill one output in reverse mode, ``chunk`` targets at a time."""
    rows = program.nodes[output.step].rows
    if output.flat is None:
        targets = rows.channel
    else:
        targets = _first_places(output.flat, rows)[rows.unit].to(torch.int32)
    chunks = list(torch.arange(len(output.scores), dtype=torch.int32).split(chunk))
    x, scores = tape.input[0], output.scores
    carry(reverse_pass(program, output.step, targets, chunks, features, x, labels, scores, output.origin)).run()
    _repeat(output)


def _first_places(flat: Tensor, rows: RowList) -> Tensor:
    """For every unit of a layer its first place in a list of units, −1 for none, int64 ``[units + 1]``."""
    place = torch.full_like(rows.row, len(flat))
    place.scatter_reduce_(0, flat, torch.arange(len(flat)), "amin")
    return place.masked_fill_(place == len(flat), -1)


def _repeat(output: Output) -> None:
    """Copy the maps of units that were asked for more than once from their first places."""
    if output.flat is None:
        return
    units, inverse = output.flat.unique(return_inverse=True)
    if len(units) < len(output.flat):
        first = torch.full_like(units, len(inverse)).scatter_reduce_(0, inverse, torch.arange(len(inverse)), "amin")
        output.scores.copy_(output.scores[first[inverse]])
