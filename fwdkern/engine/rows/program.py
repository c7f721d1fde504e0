"""A tape compiled for active rows: which layers hold a matrix of rows, and what each row is made of.

A step whose value is read only by a sum or a gate holds no matrix of its own: its terms go straight into its reader's.
So a convolution, the residual added to it and the ReLU behind them are one matrix, restricted to the open gates.
"""

from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor

from fwdkern.engine.rows.geometry import POINT, Geometry, mirrored_taps, taps
from fwdkern.engine.rows.lists import RowList, list_rows
from fwdkern.engine.tape import Step, Tape
from fwdkern.rules.arithmetic import Concatenation, Halves, Scaled, Stack, Sum
from fwdkern.rules.convolution import Convolution
from fwdkern.rules.frozen import Diagonal, Frozen, Relabel
from fwdkern.rules.linear import Linear
from fwdkern.rules.pooling import AdaptiveAveragePool, AveragePool, Winner, lifted
from fwdkern.rules.reduction import Reduction, WeightedSum


class NoRowForm(Exception):
    """An operator that the row engine does not hold; the message says which."""


@dataclass
class Product:
    """Rows of a convolution or linear layer: a gathered GEMM on the parent's rows.

    ``weight`` is ``[taps, C_in, C_out / groups]``, ``transpose`` ``[taps, C_out, C_in / groups]``; ``scale`` a factor
    per row of the node, None for 1.
    """

    parent: int
    geometry: Geometry
    mirrored: bool
    groups: int
    weight: Tensor
    transpose: Tensor
    scale: Tensor | None


@dataclass
class Combination:
    """Rows that are sparse combinations of the parent's rows: ``offset`` ``[rows + 1]``, ``index`` and ``coefficient``
    ``[terms]``, all of which are 1 where it ``copies``."""

    parent: int
    offset: Tensor
    index: Tensor
    coefficient: Tensor
    copies: bool

    def row_of_terms(self) -> Tensor:
        """Which row each term belongs to."""
        rows = torch.arange(len(self.offset) - 1)
        return rows.repeat_interleave(self.offset.diff(), output_size=len(self.index))


@dataclass
class Node:
    """A step whose maps others read: its rows and the terms that make them.

    ``first`` is the number of its first row among the rows of all nodes. ``source`` ``[rows]`` is set where every row
    is a copy of one row of another node, as in a pool or a concatenation: the numbers, among all rows, of the rows
    copied. Such a node holds no matrix; its readers read the sources.
    """

    step: int
    rows: RowList
    first: int
    terms: list[Product | Combination] = field(default_factory=list)
    source: Tensor | None = None


@dataclass
class Program:
    """Nodes in order; node of the input first."""

    nodes: dict[int, Node]
    wanted: list[int]

    @property
    def row_count(self) -> int:
        """Rows of all nodes."""
        return sum(len(node.rows) for node in self.nodes.values())

    def global_index(self, term: Combination) -> Tensor:
        """A combination's input rows by their numbers among all rows, copies resolved to what they copy."""
        parent = self.nodes[term.parent]
        index = term.index.long()
        return (index + parent.first if parent.source is None else parent.source[index]).to(torch.int32)


def plane(step: Step) -> tuple[int, tuple[int, int]]:
    """Channels and grid of a step's value ``[1, C, H, W]``; lines ``[1, C, L]`` are images one row high, and everything
    else counts as channels of one position."""
    shape = step.value.shape[1:]
    if len(shape) == 3:
        return shape[0], (shape[1], shape[2])
    if len(shape) == 2:
        return shape[0], (1, shape[1])
    return shape.numel(), (1, 1)


_HELD = (
    Convolution,
    Linear,
    Diagonal,
    Sum,
    Halves,
    Concatenation,
    Relabel,
    Winner,
    AveragePool,
    AdaptiveAveragePool,
    Reduction,
)


# What takes each unit as it is or moves it, whatever the shape.
_FLAT = (Diagonal, Sum, Halves, Relabel)


def compile_program(tape: Tape, needs: dict[int, Tensor]) -> Program:
    """Row lists and terms for the maps of some units.

    Args:
        tape: of a single input.
        needs: for every wanted step a bool mask ``[units]`` over its flattened value.

    Raises:
        NoRowForm: an operator on the way has no row form; the dense engine holds it.
    """
    wanted = list(needs)
    order = tape.ancestors(wanted)
    if tape.sequence or tape.input.dim() > 4:
        raise NoRowForm(f"an input of shape {list(tape.input.shape[1:])} is none of pixels, lines or numbers")
    for i in order[1:]:
        step = tape.steps[i]
        ranks = [step.value.dim(), *(tape.steps[parent].value.dim() for parent in step.parents)]
        if not isinstance(step.frozen, _FLAT) and max(ranks) > 4:
            raise NoRowForm(f"layer {step.name!r} is over volumes, {list(step.value.shape[1:])}")
        if not isinstance(step.frozen, _HELD) or isinstance(step.frozen, Stack):
            raise NoRowForm(f"layer {step.name!r} ({type(step.frozen).__name__}) has no row form")
        if isinstance(step.frozen, WeightedSum):
            raise NoRowForm(f"layer {step.name!r} weighs what it sums by its input")
        if isinstance(step.frozen, Halves) and not all(isinstance(side, Scaled) for side in step.frozen.sides):
            raise NoRowForm(f"layer {step.name!r} is a product of matrices, which has no row form")
        if isinstance(step.frozen, Linear) and step.value.dim() > 2:
            raise NoRowForm(f"layer {step.name!r} multiplies the last axis of {list(step.value.shape[1:])}")
    masks = _masks(tape, order, needs)
    inlined = _inlined(tape, order, needs)
    held = [i for i in order if i not in inlined]
    # A GPU is waited for once, not once a node.
    counts = torch.stack([masks[i].sum() for i in held]).tolist() if _waits(tape.input) else [None] * len(held)
    nodes: dict[int, Node] = {}
    first = 0
    for i, count in zip(held, counts, strict=True):
        node = Node(i, list_rows(masks[i], *plane(tape.steps[i]), count), first)
        first += len(node.rows)
        nodes[i] = node
        if i:
            _expand(tape, i, node, nodes, inlined, node.rows.unit, None)
    program = Program(nodes, wanted)
    for node in nodes.values():
        if node.terms and node.step not in wanted:
            node.source = _copied_rows(program, node)
    return program


def _waits(x: Tensor) -> bool:
    """Whether to learn a number from a tensor's device is to wait for it."""
    return x.is_cuda


def _copied_rows(program: Program, node: Node) -> Tensor | None:
    """The rows that a node's rows copy, as numbers among all rows; None if some row is more or less than a copy."""
    source = torch.full((len(node.rows),), -1)
    count = torch.zeros_like(source)
    for term in node.terms:
        if isinstance(term, Product) or not term.copies:
            return None
        count += term.offset.diff()
        source[term.row_of_terms()] = program.global_index(term).long()
    return source if bool((count == 1).all()) else None


def _inlined(tape: Tape, order: list[int], needs: dict[int, Tensor]) -> set[int]:
    """Steps that hold no matrix: read once, by an operator that takes each unit as it is or moves it as they do."""
    readers: dict[int, list[int]] = {i: [] for i in order}
    for i in order:
        for parent in tape.steps[i].parents:
            readers[parent].append(i)
    inlined = set()
    for i in order[1:]:
        if i in needs or len(readers[i]) != 1:
            continue
        reader = tape.steps[readers[i][0]].frozen
        moves = isinstance(tape.steps[i].frozen, Relabel) and isinstance(reader, (Relabel, Concatenation))
        if moves or isinstance(reader, (Diagonal, Sum, Halves)):
            inlined.add(i)
    return inlined


def _masks(tape: Tape, order: list[int], needs: dict[int, Tensor]) -> dict[int, Tensor]:
    """Units with a map that is not zero and that some wanted unit depends on, bool over each flattened value."""
    active: dict[int, Tensor] = {0: torch.ones_like(tape.input, dtype=torch.bool)}
    for i in order[1:]:
        step = tape.steps[i]
        active[i] = _carry_active(cast(Frozen, step.frozen), step, [active[p] for p in step.parents])
    needed: dict[int, Tensor] = {}
    for i in reversed(order):
        step = tape.steps[i]
        mask = needed.get(i, torch.zeros_like(active[i]))
        if i in needs:
            mask = mask | needs[i].view(step.value.shape)
        needed[i] = mask = mask & active[i]
        if i:
            for parent, part in zip(step.parents, _pull_need(cast(Frozen, step.frozen), step, mask), strict=True):
                needed[parent] = needed[parent] | part if parent in needed else part
    return {i: needed[i].flatten() for i in order}


def _carry_active(frozen: Frozen, step: Step, masks: list[Tensor]) -> Tensor:
    if isinstance(frozen, Convolution) and _depthwise(frozen):
        return _touching(frozen).forward(masks[0][None].float())[0] != 0
    if isinstance(frozen, (Convolution, Linear)):
        return torch.ones(step.value.shape, dtype=torch.bool)
    if isinstance(frozen, Diagonal):
        if isinstance(frozen, Scaled) and frozen.in_shape != frozen.shape:
            raise NoRowForm(f"layer {step.name!r} broadcasts its input")
        return masks[0] & (frozen.scale != 0)
    if isinstance(frozen, Sum):
        if any(shape != frozen.out for shape in frozen.shapes):
            raise NoRowForm(f"layer {step.name!r} broadcasts its operands")
        total = masks[0]
        for mask in masks[1:]:
            total = total | mask
        return total
    if isinstance(frozen, Halves):
        sides = [cast(Scaled, side) for side in frozen.sides]
        if any(side.in_shape != side.shape for side in sides):
            raise NoRowForm(f"layer {step.name!r} broadcasts its operands")
        first, second = (mask & (side.scale != 0) for mask, side in zip(masks, sides, strict=True))
        return first | second
    # The others have no negative coefficients, so nothing cancels.
    return frozen.forward(*(mask[None].float() for mask in masks))[0] != 0


def _pull_need(frozen: Frozen, step: Step, mask: Tensor) -> list[Tensor]:
    if isinstance(frozen, Diagonal):
        return [mask]  # what is active here is open
    if isinstance(frozen, Sum):
        return [mask] * len(frozen.shapes)
    if isinstance(frozen, Halves):
        return [mask & (cast(Scaled, side).scale != 0) for side in frozen.sides]
    if isinstance(frozen, Linear):
        return [mask.any().expand(1, frozen.weight.shape[1])]
    if isinstance(frozen, Convolution):
        groups, channels = frozen.groups, frozen.weight.shape[0] if frozen.transposed else 0
        channels = channels or frozen.weight.shape[1] * groups
        grouped = mask.unflatten(1, (groups, -1)).any(2).float()  # [1, groups, H, W]
        (reached,) = _touching(frozen).reverse(grouped[None])
        of_group = (reached[0] != 0).unsqueeze(2).expand(-1, -1, channels // groups, *frozen.in_size)
        return [of_group.flatten(1, 2)]
    return [part[0] != 0 for part in frozen.reverse(mask[None].float())]


def _touching(frozen: Convolution) -> Convolution:
    """The convolution with one channel for each group, and ones for weights."""
    return Convolution(
        torch.ones(frozen.groups, 1, *frozen.kernel),
        None,
        frozen.in_size,
        frozen.out_size,
        frozen.stride,
        frozen.padding,
        frozen.dilation,
        frozen.groups,
        frozen.transposed,
        frozen.output_padding,
    )


def _expand(
    tape: Tape,
    i: int,
    node: Node,
    nodes: dict[int, Node],
    inlined: set[int],
    unit: Tensor,
    scale: Tensor | None,
) -> None:
    """Add to a node the terms of step i: of its units ``unit`` ``[rows]`` (−1 for none), times ``scale`` ``[rows]``."""
    step = tape.steps[i]
    frozen = cast(Frozen, step.frozen)

    def operand(parent: int, units: Tensor, factor: Tensor | None) -> None:
        if parent in inlined:
            _expand(tape, parent, node, nodes, inlined, units, factor)
        else:
            _combine(node, nodes[parent], units[:, None], None, factor)

    if isinstance(frozen, Diagonal):
        each = frozen.scale.expand(step.value.shape).flatten()[unit]
        # A closed gate has no row of its own, but a sum that takes its place has.
        if each.dtype is not torch.bool or (i != node.step and not each.all()):
            each = each.to(step.value.dtype)
            scale = each if scale is None else scale * each
        operand(step.parents[0], unit, scale)
    elif isinstance(frozen, Sum):
        for parent, sign in zip(step.parents, frozen.signs, strict=True):
            factor = scale
            if sign != 1:
                factor = torch.full((len(unit),), sign) if scale is None else scale * sign
            operand(parent, unit, factor)
    elif isinstance(frozen, Halves):
        for parent, side in zip(step.parents, frozen.sides, strict=True):
            each = cast(Scaled, side).scale.expand(step.value.shape).flatten()[unit]
            operand(parent, unit, each if scale is None else scale * each)
    elif isinstance(frozen, Linear) or (isinstance(frozen, Convolution) and not _depthwise(frozen)):
        node.terms.append(_product(frozen, step.parents[0], scale))
    else:
        for number, parent in enumerate(step.parents):
            source, coefficient = _sources(frozen, step, tape.steps[parent], number, unit.clamp_min(0))
            source = source.masked_fill(unit[:, None] < 0, -1)
            if parent in inlined:
                _expand(tape, parent, node, nodes, inlined, source[:, 0], scale)
            else:
                _combine(node, nodes[parent], source, coefficient, scale)


def _geometry(*window: tuple[int, ...]) -> Geometry:
    """Kernel, stride, padding and dilation; those of lines as of images one row high."""
    return Geometry(*(window if len(window[0]) == 2 else lifted(window)))  # type: ignore[arg-type]


def _depthwise(frozen: Convolution) -> bool:
    return frozen.groups > 1 and frozen.groups == frozen.weight.shape[0] and frozen.weight.shape[1] == 1


def _product(frozen: Convolution | Linear, parent: int, scale: Tensor | None) -> Product:
    if isinstance(frozen, Linear):
        weight = frozen.weight.detach()
        return Product(parent, POINT, False, 1, *_packed(weight.mT[None], weight[None]), scale)
    geometry = _geometry(frozen.kernel, frozen.stride, frozen.padding, frozen.dilation)
    groups = frozen.groups
    plain = frozen.weight.detach().flatten(2).permute(2, 0, 1)  # [T, C_out, C_in / g], transposed: [T, C_in, C_out / g]
    per_group = plain.unflatten(1, (groups, -1))  # [T, g, rows / g, columns]
    swapped = per_group.transpose(2, 3).flatten(1, 2)  # [T, columns · g, rows / g]
    first, second = (plain, swapped) if frozen.transposed else (swapped, plain)
    return Product(parent, geometry, frozen.transposed, groups, *_packed(first, second), scale)


def _packed(weight: Tensor, transpose: Tensor) -> tuple[Tensor, Tensor]:
    return weight.contiguous(), transpose.contiguous()


def _combine(node: Node, parent: Node, source: Tensor, coefficient: Tensor | None, scale: Tensor | None) -> None:
    """Add a combination: ``source`` ``[rows, T]`` units of the parent (−1 for none), ``coefficient`` broadcastable or
    None for 1."""
    index = parent.rows.row[source]
    there = index >= 0
    offset = torch.zeros(len(index) + 1, dtype=torch.int64)
    torch.cumsum(there.sum(1), 0, out=offset[1:])
    copies = coefficient is None and scale is None
    chosen = index[there].to(torch.int32)
    if copies:
        weights = torch.ones(len(chosen))
    else:
        each = torch.ones(1, 1) if coefficient is None else coefficient
        weights = (each if scale is None else each * scale[:, None]).expand(index.shape)[there].contiguous()
    node.terms.append(Combination(parent.step, offset, chosen, weights, copies))


def _sources(frozen: Frozen, step: Step, parent: Step, number: int, unit: Tensor) -> tuple[Tensor, Tensor | None]:
    """Units of a parent that each unit of a step is made of, ``[rows, T]``, −1 for none, and their coefficients, None
    for 1."""
    positions = plane(step)[1][0] * plane(step)[1][1]
    if isinstance(frozen, Relabel):
        return frozen.source(unit.device).flatten().long()[unit, None] - 1, None
    if isinstance(frozen, Concatenation):
        if frozen.dim != 2:
            raise NoRowForm(f"layer {step.name!r} concatenates along positions")
        live = [k for k, is_live in enumerate(frozen.live) if is_live][number]
        start, size = sum(frozen.sizes[:live]), frozen.sizes[live]
        inside = (unit >= start * positions) & (unit < (start + size) * positions)
        return torch.where(inside, unit - start * positions, -1)[:, None], None
    grid = plane(parent)[1]
    inputs = grid[0] * grid[1]
    channel, position = unit // positions, unit % positions
    base = (channel * inputs)[:, None]
    if isinstance(frozen, Winner):
        return base + frozen.index.flatten()[unit, None], None
    if isinstance(frozen, Reduction):
        if sorted(frozen.dims) != list(range(3, parent.value.dim() + 1)):
            raise NoRowForm(f"layer {step.name!r} sums over other dimensions than the positions")
        return base + torch.arange(inputs), torch.full((1, 1), frozen.factor)
    if isinstance(frozen, Convolution):
        geometry = _geometry(frozen.kernel, frozen.stride, frozen.padding, frozen.dilation)
        find = mirrored_taps if frozen.transposed else taps
        table, weight = find(geometry, (0, *_ends(plane(step)[1])), (0, *_ends(grid))).long(), frozen.weight.detach()
        return _placed(base, table[position]), weight.flatten(1)[channel]
    if isinstance(frozen, AveragePool):
        kernel, stride, padding = frozen.window
        geometry = _geometry(kernel, stride, padding, (1,) * len(kernel))
        table = taps(geometry, (0, *_ends(plane(step)[1])), (0, *_ends(grid))).long()
        share = frozen.forward(torch.ones(1, 1, 1, *parent.value.shape[2:])).flatten() / (table >= 0).sum(1).clamp_min(
            1
        )
        return _placed(base, table[position]), share[position, None]
    assert isinstance(frozen, AdaptiveAveragePool)
    table = _adaptive_table(grid, plane(step)[1])
    return _placed(base, table[position]), (1 / (table >= 0).sum(1))[position, None]


def _ends(grid: tuple[int, int]) -> tuple[int, int, int]:
    return grid[0], 0, grid[1]


def _placed(base: Tensor, table: Tensor) -> Tensor:
    return torch.where(table >= 0, base + table, -1)


def _adaptive_table(grid: tuple[int, int], out: tuple[int, int]) -> Tensor:
    """Input positions of each adaptive window, ``[outputs, largest window]``, −1 for none."""
    sides = []
    for n, m in zip(grid, out, strict=True):
        bounds = [(i * n // m, -((-(i + 1) * n) // m)) for i in range(m)]
        width = max(b - a for a, b in bounds)
        sides.append(torch.tensor([[a + k if a + k < b else -1 for k in range(width)] for a, b in bounds]))
    rows, columns = sides
    position = rows[:, None, :, None] * grid[1] + columns[None, :, None, :]
    missing = (rows < 0)[:, None, :, None] | (columns < 0)[None, :, None, :]
    return position.masked_fill(missing, -1).reshape(out[0] * out[1], -1)
