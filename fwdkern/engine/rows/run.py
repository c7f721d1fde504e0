"""Requests served by active rows, one input at a time."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fwdkern.engine.features import Features
from fwdkern.engine.rows.blocks import make_blocks
from fwdkern.engine.rows.forward import BlockMaps, forward_blocks
from fwdkern.engine.rows.program import Program, axis_fields
from fwdkern.engine.rows.reverse import ReversePass
from fwdkern.engine.tape import Tape
from fwdkern.engine.window import crop
from fwdkern.ops import row_combine
from fwdkern.ops.windows import scatter_windows


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
    tape: Tape, program: Program, features: Features, labels: Tensor, outputs: list[Output], side: int
) -> None:
    """Fill the outputs in forward mode; ``tape`` is of a single input, ``labels`` ``[E]`` its slices."""
    x = tape.input[0]
    missing = [i for i in program.nodes if i not in tape.fields]
    if missing:
        tape.fields.update(axis_fields(tape, missing))
    writers = {output.step: _Writer(output, tape, features) for output in outputs}
    blocks = make_blocks(features, tuple(x.shape), labels, side)
    for part in forward_blocks(program, tape.fields, x, labels, blocks):
        writers[part.step].write(part, program)
    for writer in writers.values():
        writer.finish()


class _Writer:
    """Puts the maps of blocks where they belong in one output."""

    def __init__(self, output: Output, tape: Tape, features: Features) -> None:
        self.output = output
        self.image = tape.input.shape[2:] if features.kind == "pixels" and tape.input.dim() == 4 else None
        units = tape.steps[output.step].value[0].numel()
        self.first: Tensor | None = None
        if output.flat is not None:
            # A unit asked for twice is computed once, at its first place.
            count = len(output.flat)
            self.place = torch.full((units,), count)
            self.place.scatter_reduce_(0, output.flat, torch.arange(count), "amin")
            self.first = self.place[output.flat]
            self.place[self.place == count] = -1

    def write(self, part: BlockMaps, program: Program) -> None:
        scores, rows = self.output.scores, program.nodes[part.step].rows
        if self.output.flat is None:
            sums = part.maps.new_zeros(len(scores), part.maps.shape[1])
            sums.index_add_(0, part.window.channel.long(), part.maps)
            if self.output.origin is None:
                scores[:, part.block.ids] = sums
            else:
                scatter_windows(sums, torch.arange(len(sums)), part.block.rectangle, self.output.origin, scores)
            return
        target = self.place[rows.unit[part.window.rows]]
        if self.output.origin is not None:
            scatter_windows(part.maps, target, part.block.rectangle, self.output.origin, scores)
        elif self.image is not None:
            corner = torch.zeros(len(scores), 2, dtype=torch.int64)
            scatter_windows(part.maps, target, part.block.rectangle, corner, scores.view(-1, *self.image))
        else:
            there = (target >= 0).nonzero().flatten()
            scores[target[there, None], part.block.ids] = part.maps[there]

    def finish(self) -> None:
        if self.first is not None and len(self.first) != len(self.first.unique()):
            self.output.scores.copy_(self.output.scores[self.first])


def run_reverse(tape: Tape, program: Program, features: Features, labels: Tensor, output: Output, chunk: int) -> None:
    """Fill one output in reverse mode, ``chunk`` targets at a time."""
    passes = ReversePass(program, output.step, min(chunk, len(output.scores)))
    unit = program.nodes[0].rows.unit
    # The maps' slices are combinations of the input's rows: x times the pulled target, summed within a slice.
    order = labels[unit].argsort(stable=True)
    offset = torch.zeros(features.count + 1, dtype=torch.int64)
    torch.cumsum(labels[unit].bincount(minlength=features.count), 0, out=offset[1:])
    contraction = (offset, order.to(torch.int32), tape.input[0].flatten()[unit[order]].contiguous())
    rows = program.nodes[output.step].rows
    flat = output.flat
    targets = len(output.scores)
    for start in range(0, targets, chunk):
        stop = min(start + chunk, targets)
        if flat is None:
            weights = _channel_targets(rows.channel, start, stop)
        else:
            weights = _unit_targets(rows.row[flat[start:stop]], len(rows))
        pulled = passes.pull(weights)
        maps = row_combine(pulled, *contraction).T  # [targets, slices]
        if output.origin is not None:
            size, width = tuple(output.scores.shape[1:]), tape.input.shape[-1]
            maps = crop(maps[None], output.origin[None, start:stop], size, width)[0]
        output.scores[start:stop] = maps


def _unit_targets(row: Tensor, count: int) -> Tensor:
    weights = torch.zeros(count, len(row))
    there = (row >= 0).nonzero().flatten()
    weights[row[there], there] = 1
    return weights


def _channel_targets(channel: Tensor, start: int, stop: int) -> Tensor:
    return (channel[:, None] == torch.arange(start, stop)).float()
