"""Which engine and mode serve a request, from exact multiply counts and the machine's measured rates."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from fwdkern.engine.calibration import rates
from fwdkern.engine.dense import slice_bytes
from fwdkern.engine.features import Features
from fwdkern.engine.memory import format_bytes
from fwdkern.engine.options import Options
from fwdkern.engine.rows.blocks import Block, make_blocks
from fwdkern.engine.rows.forward import reached
from fwdkern.engine.rows.geometry import mirrored_taps, taps
from fwdkern.engine.rows.program import Node, Product, Program, axis_fields
from fwdkern.engine.tape import Tape
from fwdkern.errors import BackendError, InputError
from fwdkern.ops import native_info
from fwdkern.rules.convolution import Convolution
from fwdkern.rules.linear import Linear

# Dense maps in flight: wide enough to fill every core, small enough to stay near the caches.
DENSE_WORKING_SET = 256 * 2**20
TILE_SIDES = (8, 16)
REVERSE_CHUNKS = (64, 128)
# Host seconds for one node of one block.
_HOST = 1e-4
# Fewer slices than this, or less seconds of dense work, are not worth compiling row lists for.
_FEW = 8
_SMALL = 0.05


@dataclass(frozen=True)
class Way:
    """One way to serve a request.

    Attributes:
        engine: ``"rows"`` or ``"dense"``; mode: ``"forward"`` or ``"reverse"``.
        size: side of the pixel tiles for rows forward, else slices or targets per pass; passes: how many of those.
        multiplies: multiply-adds for the whole batch; seconds: predicted; bytes: held beside the result.
    """

    engine: str
    mode: str
    size: int
    passes: int
    multiplies: float
    seconds: float
    bytes: int


@dataclass(frozen=True)
class Plan:
    """The way chosen, the ways weighed, and why others were not possible. Printing it shows a table."""

    chosen: Way
    ways: list[Way]
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        head = f"{'':2}{'engine':8}{'mode':9}{'size':>6}{'passes':>8}{'multiplies':>13}{'seconds':>10}{'memory':>12}"
        lines = [head]
        for way in self.ways:
            mark = "→ " if way is self.chosen else "  "
            lines.append(
                f"{mark}{way.engine:8}{way.mode:9}{way.size:>6}{way.passes:>8}{way.multiplies:>13.3g}"
                f"{way.seconds:>10.3g}{format_bytes(way.bytes):>12}"
            )
        return "\n".join([*lines, *self.notes])


def rows_obstacle(tape: Tape, options: Options) -> str | None:
    """Why the row engine cannot serve this tape, None if it can.

    Raises:
        BackendError: it was asked for by name.
    """
    x = tape.input
    reason = None
    if options.backend == "torch":
        reason = "the torch backend was asked for"
    elif x.device.type != "cpu":
        reason = f"active rows run on the CPU, the input is on {x.device}"
    elif x.dtype is not torch.float32:
        reason = f"active rows are float32, the input is {str(x.dtype).removeprefix('torch.')}"
    elif not native_info()["built"]:
        reason = f"the compiled library is absent ({native_info()['reason']})"
    if reason and options.backend == "cpu":
        raise BackendError(f'backend="cpu" cannot serve this request: {reason}. Use backend="auto"')
    return reason


def plan_dense(tape: Tape, steps: list[int], slices: int, targets: int, options: Options) -> list[Way]:
    """The dense engine's ways for a batch."""
    macs = dense_multiplies(tape, steps)
    each = max(slice_bytes(tape, steps), 1)
    rate = rates(torch.get_num_threads()).dense
    ways = []
    for mode, work in (("forward", slices), ("reverse", targets)):
        room = min(DENSE_WORKING_SET, options.memory)
        size = max(1, min(work, room // each))
        passes = -(-work // size)
        extra = passes if mode == "forward" else 0  # each forward pass carries a slice of bias mass
        total = macs * (work + extra)
        ways.append(Way("dense", mode, size, passes, total, total / rate, each * size))
    return ways


def dense_multiplies(tape: Tape, steps: list[int]) -> float:
    """Multiply-adds of one slice through all layers up to some steps, for the whole batch."""
    total = 0.0
    for i in tape.ancestors(steps)[1:]:
        step = tape.steps[i]
        each = 1
        if isinstance(step.frozen, Convolution):
            weight = step.frozen.weight
            each = weight[0].numel() if not step.frozen.transposed else weight.numel() // weight.shape[1]
        elif isinstance(step.frozen, Linear):
            each = step.frozen.weight.shape[1]
        total += each * step.value.numel()
    return total


def plan_rows(
    tape: Tape, program: Program, features: Features, targets: int, batch: int, options: Options
) -> list[Way]:
    """The row engine's ways, from the first input's row lists for a batch of similar ones."""
    rate = rates(torch.get_num_threads())
    pairs = {i: pair_map(node, program) for i, node in program.nodes.items()}
    total = float(sum(p.sum() for p in pairs.values()))
    ways = []
    x = tape.input[0]
    missing = [i for i in program.nodes if i not in tape.fields]
    if missing:
        tape.fields.update(axis_fields(tape, missing))
    for side in TILE_SIDES:
        blocks = make_blocks(features, tuple(x.shape), features.labels[0], side)
        work, pass_pairs, widest = _forward_counts(program, tape.fields, pairs, blocks)
        seconds = work / rate.rows + pass_pairs * rate.gather + len(blocks) * len(pairs) * _HOST
        ways.append(Way("rows", "forward", side, len(blocks), work * batch, seconds * batch, widest * 4))
        if features.kind == "segments" or x.dim() != 3:
            break  # their blocks do not depend on the side
    floats = sum(len(node.rows) for node in program.nodes.values() if node.source is None)
    for chunk in REVERSE_CHUNKS:
        size = max(1, min(targets, chunk, options.memory // max(4 * floats, 1)))
        passes = -(-targets // size)
        seconds = total * targets / rate.rows + passes * (total * rate.gather + len(pairs) * _HOST)
        ways.append(Way("rows", "reverse", size, passes, total * targets * batch, seconds * batch, floats * size * 4))
        if targets <= chunk:
            break
    return ways


def pair_map(node: Node, program: Program) -> Tensor:
    """Multiply-adds per slice at every position of a node's grid, int64 ``[H, W]``."""
    own = node.rows.offset.diff()
    total = torch.zeros_like(own)
    if node.source is not None:
        return total.view(node.rows.grid)  # its readers read what it copies
    for term in node.terms:
        if isinstance(term, Product):
            parent = program.nodes[term.parent].rows
            table = (mirrored_taps if term.mirrored else taps)(term.geometry, node.rows.whole, parent.whole).long()
            count = parent.offset.diff()
            met = torch.where(table >= 0, count[table.clamp_min(0)], 0).sum(1)
            total += met * own // term.groups
        else:
            position = node.rows.unit % len(own)
            total.index_add_(0, position, term.offset.diff())
    return total.view(node.rows.grid)


def _forward_counts(
    program: Program, fields: dict[int, tuple[Tensor, Tensor]], pairs: dict[int, Tensor], blocks: list[Block]
) -> tuple[float, float, int]:
    """Multiply-adds of all blocks, weights gathered, and floats of the widest block."""
    work = gathered = 0.0
    floats = torch.zeros(len(blocks), dtype=torch.int64)
    slices = torch.tensor([len(block.ids) for block in blocks])
    rectangles = [block.rectangle for block in blocks]
    for i, node in program.nodes.items():
        corners = torch.tensor(reached(fields[i], rectangles))
        own = _inside(pairs[i], corners)
        work += float((own * slices).sum())
        gathered += float(own.sum())
        if node.source is None:
            floats += _inside(node.rows.offset.diff().view(node.rows.grid), corners) * slices
    return work, gathered, int(floats.max())


def _inside(plane: Tensor, corners: Tensor) -> Tensor:
    """Sums of a plane over rectangles ``[n, 4]`` (y0, y1, x0, x1), by its integral image."""
    integral = torch.zeros(plane.shape[0] + 1, plane.shape[1] + 1, dtype=torch.int64)
    integral[1:, 1:] = plane.cumsum(0).cumsum(1)
    y0, y1, x0, x1 = corners.T
    return integral[y1, x1] - integral[y0, x1] - integral[y1, x0] + integral[y0, x0]


def choose(ways: list[Way], options: Options, notes: list[str]) -> Plan:
    """The way predicted to be fastest among those that the options allow and memory admits."""
    allowed = [way for way in ways if options.mode in ("auto", way.mode)]
    if options.backend == "cpu":
        allowed = [way for way in allowed if way.engine == "rows"]
        if not allowed:
            raise BackendError(f'backend="cpu" cannot serve this request: {"; ".join(notes)}. Use backend="auto"')
    fitting = [way for way in allowed if way.bytes <= options.memory]
    if not fitting:
        least = min(allowed, key=lambda way: way.bytes)
        raise InputError(
            f"the request needs at least {format_bytes(least.bytes)} beside its result, more than "
            f"memory={format_bytes(options.memory)}; allow more, or ask for fewer inputs at a time"
        )
    return Plan(min(fitting, key=lambda way: way.seconds), ways, notes)


def worth_rows(ways: list[Way], slices: int, targets: int) -> bool:
    """Whether row lists can pay: enough slices to share each gathered weight, and work longer than making the lists."""
    return min(slices, targets) >= _FEW and min(way.seconds for way in ways) > _SMALL
