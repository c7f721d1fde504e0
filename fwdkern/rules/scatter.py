"""Writing into part of a tensor, or adding there: what an in-place operator on a part becomes in a captured graph.

All of it is linear in both tensors; where is written is frozen.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from fwdkern.rules.arithmetic import Halves, Sum
from fwdkern.rules.frozen import Constant, Frozen, Relabel, fold
from fwdkern.rules.registry import Call, Live, NoRule, plain, register
from fwdkern.rules.reshape import index_numbers
from fwdkern.rules.selection import where

aten = torch.ops.aten


class Overwrite(Frozen):
    """A tensor with a window replaced by another tensor; either may be a constant, which is bias mass.

    Args:
        dim, where: the window: a slice of dimension ``dim`` of ``[B, *shape]``, or one index of it.
        target, source: the operands as called, ``[B, *shape]`` and ``[B, *window]``.
    """

    def __init__(self, dim: int, where: slice | int, target: object, source: object) -> None:
        self.window = (slice(None),) * (dim + 1) + (where,)
        self.live = [isinstance(target, Live), isinstance(source, Live)]
        self.shapes = [plain(target).shape, plain(source).shape]
        if not all(self.live):
            parts = (plain(target), plain(source))
            constants = [torch.zeros_like(p) if on else p for p, on in zip(parts, self.live, strict=True)]
            self.offset = self._write(constants[0].unsqueeze(0), constants[1].unsqueeze(0))[0]

    def _write(self, target: Tensor, source: Tensor) -> Tensor:
        out = target.clone(memory_format=torch.contiguous_format)
        out[self.window] = source
        return out

    def forward(self, *maps: Tensor) -> Tensor:
        given = iter(maps)
        slices = maps[0].shape[0]
        target, source = (
            next(given) if on else maps[0].new_zeros(slices, *shape)
            for on, shape in zip(self.live, self.shapes, strict=True)
        )
        return self._write(target, source)

    def reverse(self, maps: Tensor) -> tuple[Tensor, ...]:
        kept = self._write(maps, maps.new_zeros(()))
        return tuple(part for part, on in zip((kept, maps[self.window]), self.live, strict=True) if on)

    def reach(self, *boxes: Tensor) -> Tensor:
        return self.forward(*boxes)


@register("write into a slice", aten.slice_scatter.default, aten.select_scatter.default)
def scatter(call: Call) -> Frozen:
    """slice_scatter(x, source, dim, start, end, step) and select_scatter(x, source, dim, index)."""
    target, source = call.args[:2]
    dim = call.argument(2, "dim", 0) % plain(target).dim()
    if dim == 0 and plain(source).shape != plain(target).shape:
        raise NoRule("writing to some examples of a batch")
    if call.target is aten.select_scatter.default:
        return Overwrite(dim, call.argument(3, "index"), target, source)
    where = slice(call.argument(3, "start"), call.argument(4, "end"), call.argument(5, "step", 1))
    return Overwrite(dim, where, target, source)


@register("constant", aten.fill.Scalar, aten.fill.Tensor)
def constant(call: Call) -> Frozen:
    """fill(x, value): what x was is forgotten."""
    if any(isinstance(argument, Live) for argument in call.args[1:]):
        raise NoRule("fill with a value that depends on the input")
    return Constant(plain(call.args[0]).shape, call.output)


@register("copy", aten.copy.default)
def copy(call: Call) -> Frozen:
    """copy(x, source): the source in the shape of x."""
    signs = [(operand, sign) for operand, sign in zip(call.args, (0.0, 1.0), strict=False) if isinstance(operand, Live)]
    shapes, factors = [operand.value.shape for operand, _ in signs], [sign for _, sign in signs]
    constant = None if isinstance(call.args[1], Live) else call.args[1]
    return Sum(shapes, factors, constant, call.output.shape)


class Placed(Relabel):
    """Values put, or added, at places that may differ from input to input; what is at no place is zero."""

    def reach(self, *boxes: Tensor) -> Tensor:
        blank = torch.zeros(self.shape, dtype=boxes[0].dtype, device=boxes[0].device)
        seen = boxes[0].flatten(2).amax(2)
        out = self.operator(blank).shape
        return seen.view(4, -1, *[1] * (len(out) - 1)).expand(4, *out)


class Kept(Relabel):
    """A tensor of which some values, which may be others for another input, were replaced by zero."""

    def reach(self, *boxes: Tensor) -> Tensor:
        return boxes[0]


def _written(call: Call, write: Callable[[Tensor, Tensor], Tensor], index: object, source: object) -> Frozen:
    """``write(x, source)`` puts the source's values in the place of some of x."""
    target, moves = call.args[0], isinstance(index, Live)
    shapes = plain(target).shape, plain(source).shape
    kept, put = (Kept, Placed) if moves else (Relabel, Relabel)
    parts = [
        kept(lambda m: write(m, m.new_zeros(shapes[1])), shapes[0]),
        put(lambda m: write(m.new_zeros(shapes[0]), m), shapes[1]),
    ]
    return _sides(call, write, parts, source)


def _added(
    call: Call, write: Callable[[Tensor, Tensor], Tensor], read: Callable[[Tensor], Tensor], source: object
) -> Frozen:
    """``write(x, source)`` adds the source's values to some of x; ``read`` is its transpose for the source."""
    shapes = plain(call.args[0]).shape, plain(source).shape
    parts = [
        Relabel(lambda m: m, shapes[0], lambda maps: maps),
        Placed(lambda m: write(m.new_zeros(shapes[0]), m), shapes[1], torch.vmap(read)),
    ]
    return _sides(call, write, parts, source)


def _sides(call: Call, write: Callable[[Tensor, Tensor], Tensor], parts: list[Relabel], source: object) -> Frozen:
    """The parts of what is written to and of what is written, of which each may be a constant."""
    operands = call.args[0], source
    numbers = [place for place, value in enumerate(_live(call.args)) if any(value is each for each in operands)]
    if all(isinstance(operand, Live) for operand in operands):
        frozen: Frozen = Halves(*parts)
    elif not numbers:
        raise NoRule("writing constants where the input says")
    else:
        frozen = parts[0 if isinstance(operands[0], Live) else 1]
        values = [plain(operand) for operand in operands]
        blank = [torch.zeros_like(v) if isinstance(o, Live) else v for v, o in zip(values, operands, strict=True)]
        frozen.offset, frozen.unbounded = write(*(value.to(call.output.dtype) for value in blank)), True
    frozen.operands = tuple(numbers)
    return frozen


def _live(arguments: Iterable[object]) -> list[Live]:
    """Arguments that depend on the input, those in lists too, in order."""
    flat = [
        each for argument in arguments for each in (argument if isinstance(argument, (list, tuple)) else [argument])
    ]
    return [each for each in flat if isinstance(each, Live)]


def _along(call: Call) -> tuple[int, Tensor]:
    """The dimension of x that is written along, never the batch, and the index."""
    dim = call.args[1] % plain(call.args[0]).dim()
    if dim == 0:
        raise NoRule("writing along the batch dimension mixes examples")
    return dim, plain(call.args[2])


@register("write at an index", aten.scatter.src, aten.scatter.value, aten.index_copy.default)
@register("write at an index", aten.index_fill.int_Scalar)
def write(call: Call) -> Frozen:
    """scatter(x, dim, index, source or value), index_copy and index_fill likewise; where is written is frozen."""
    dim, index = _along(call)
    if call.target in (aten.scatter.src, aten.index_copy.default):
        return _written(call, lambda x, y: call.target(x, dim, index, y), call.args[2], call.args[3])
    # A source of one value that is broadcast.
    source = torch.as_tensor(call.args[3], dtype=call.output.dtype, device=index.device)
    mask = call.target(torch.zeros_like(plain(call.args[0]), dtype=torch.bool), dim, index, 1)
    return _written(call, lambda x, y: torch.where(mask, y, x), call.args[2], source)


@register("add at an index", aten.scatter_add.default, aten.index_add.default)
def add_at(call: Call) -> Frozen:
    """scatter_add(x, dim, index, source) and index_add(x, dim, index, source, alpha); where is added is frozen."""
    dim, index = _along(call)
    if call.target is aten.scatter_add.default:
        shape = plain(call.args[3]).shape
        # Of a source longer than the index only the beginning is added.
        if shape != index.shape:
            raise NoRule("an index and a source of different shapes")
        return _added(call, lambda x, y: x.scatter_add(dim, index, y), lambda m: m.gather(dim, index), call.args[3])
    factor = call.kwargs.get("alpha", 1)
    return _added(
        call,
        lambda x, y: x.index_add(dim, index, y * factor),
        lambda m: m.index_select(dim, index) * factor,
        call.args[3],
    )


@register("write at an index", aten.index_put.default)
def put(call: Call) -> Frozen:
    """x[:, i, ...] = source with integer or bool tensors i, and x[mask] = number; where is written is frozen."""
    x, given, source = call.args[:3]
    first, values = plain(given[0]), plain(source)
    if call.argument(3, "accumulate", False):
        raise NoRule("index_put that adds; torch.index_add has a rule")
    if len(given) == 1 and isinstance(x, Live) and not isinstance(source, Live) and values.numel() == 1:
        if first.dtype is torch.bool:
            # It may choose other values in each example.
            mask = first.view(*first.shape, *[1] * (x.value.dim() - first.dim()))
            frozen = where(Call(aten.where.self, (mask, values, x), {}, call.output))
            frozen.operands = (0,)
            return frozen
    if first is not None:
        raise NoRule("writing along the batch dimension mixes examples")
    if any(isinstance(i, Live) for i in given):
        raise NoRule("an index that depends on the input; torch.scatter has a rule")
    indices = [part for i in given for part in ([None] if i is None else index_numbers(i))]
    places = [place for place, i in enumerate(indices) if i is not None]
    if places[-1] - places[0] >= len(places):
        raise NoRule("indices of dimensions that are not neighbours move the batch dimension")
    if isinstance(source, Live) and values.dim() != aten.index.Tensor(plain(x), indices).dim():
        raise NoRule("writing a value of one example to others")
    return _written(call, lambda x, y: aten.index_put.default(x, indices, y), None, source)


class Folded(Frozen):
    """col2im: windows ``[B, C · kernel, windows]`` added up to an image ``[B, C, H, W]``.

    Args:
        size: H and W; how: kernel, dilation, padding and stride, as ATen takes them.
    """

    def __init__(self, size: list[int], how: tuple[list[int], ...]) -> None:
        self.size, self.how = size, how

    def forward(self, *maps: Tensor) -> Tensor:
        return fold(maps[0], lambda rows: aten.col2im.default(rows, self.size, *self.how))

    def reverse(self, maps: Tensor) -> tuple[Tensor, ...]:
        return (fold(maps, lambda rows: aten.im2col.default(rows, *self.how)),)

    def reach(self, *boxes: Tensor) -> Tensor:
        height, width = self.size
        numbers = torch.arange(1, height * width + 1, dtype=torch.float64, device=boxes[0].device)
        # Where each value of a window lies, 0 beside the image; [1, kernel, windows].
        places = aten.im2col.default(numbers.view(1, 1, height, width), *self.how).long()
        values = boxes[0].unflatten(2, (-1, places.shape[1])).flatten(3)
        blank = values.new_zeros(*values.shape[:3], height * width + 1)
        seen = blank.scatter_reduce(3, places.view(1, 1, 1, -1).expand_as(values), values, "amax")
        return seen[..., 1:].unflatten(3, (height, width))


@register("add at an index", aten.col2im.default)
def windows(call: Call) -> Frozen:
    """col2im(x, size, kernel, dilation, padding, stride): the transpose of im2col, which lies among the slices."""
    if plain(call.args[0]).dim() != 3:
        raise NoRule("windows without a batch dimension")
    return Folded(call.args[1], tuple(call.args[2:]))
