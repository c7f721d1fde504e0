"""Operators that only move values: reshapes, permutations, slices, padding, shifts, copies."""

from collections.abc import Callable

import torch
from torch import Tensor

from fwdkern.rules.frozen import Constant, Frozen, Picked, Relabel
from fwdkern.rules.registry import Call, Live, NoRule, plain, register

aten = torch.ops.aten


def _relabel(call: Call, transpose: Callable[[Tensor], Tensor] | None = None) -> Relabel:
    # The call itself is not kept: it holds the values of its operands.
    target, args, kwargs = call.target, [plain(argument) for argument in call.args[1:]], call.kwargs

    def operator(x: Tensor) -> Tensor:
        return target(x, *args, **kwargs)

    return Relabel(operator, plain(call.args[0]).shape, transpose)


@register("reshape", aten.view.default, aten.reshape.default, aten._unsafe_view.default, aten.flatten.using_ints)
@register("reshape", aten.unflatten.int, aten.squeeze.dim, aten.squeeze.dims, aten.squeeze.default)
@register("reshape", aten.unsqueeze.default, aten.view_as.default, aten.reshape_as.default)
def reshape(call: Call) -> Frozen:
    """The same values in the same order under another shape."""
    shape, out = plain(call.args[0]).shape, call.output.shape
    if shape and out and shape[0] != out[0] and 0 not in (shape[0], out[0]):
        raise NoRule("a reshape that moves values into or out of the batch dimension")
    # The output's own shape instead of the call's: it needs no care for -1 when slices stand in front.
    frozen = Relabel(lambda x: x.reshape(out), shape, lambda maps: maps.reshape(maps.shape[0], *shape))
    frozen.operands = (0,)  # of what view_as is like only the shape is read
    return frozen


@register("permutation", aten.permute.default, aten.transpose.int, aten.t.default, aten.movedim.intlist)
@register("permutation", aten.movedim.int, aten.swapaxes.default, aten.mT.default)
def permute(call: Call) -> Frozen:
    """Dimensions in another order."""
    x = plain(call.args[0])
    marks = torch.empty(tuple(range(2, 2 + x.dim())), device="meta")
    order = [size - 2 for size in call.target(marks, *call.args[1:], **call.kwargs).shape]
    if order[0] != 0:
        raise NoRule("a permutation that moves the batch dimension")
    inverse = [0] + [order.index(dim) + 1 for dim in range(x.dim())]
    return _relabel(call, lambda maps: maps.permute(inverse))


@register(
    "slice", aten.diagonal.default, aten.tril.default, aten.triu.default, aten.unfold.default, aten.im2col.default
)
def parts(call: Call) -> Frozen:
    """Diagonals, triangles and windows: copies of values, zeros elsewhere."""
    x = plain(call.args[0])
    dims = [-1, -2]
    if call.target is aten.diagonal.default:
        dims = [call.argument(2, "dim1", 0), call.argument(3, "dim2", 1)]
    elif call.target is aten.unfold.default:
        dims = [call.args[1]]
    elif call.target is aten.im2col.default:
        dims = [-1, -2, -3]
    if 0 in {dim % x.dim() for dim in dims}:
        raise NoRule("a diagonal, a triangle or windows along the batch dimension mix examples")
    return _relabel(call)


@register("slice", aten.gather.default, aten.take_along_dim.default)
def gather(call: Call) -> Frozen:
    """gather(x, dim, index) and take_along_dim(x, index, dim); which values are taken is frozen."""
    x = plain(call.args[0])
    if call.target is aten.gather.default:
        dim, index = call.argument(1, "dim"), call.argument(2, "index")
    else:
        index, dim = call.argument(1, "indices"), call.argument(2, "dim")
    if dim is None or dim % x.dim() == 0:
        raise NoRule("gathering along the batch dimension mixes examples")
    if not isinstance(index, Live):
        return _relabel(call)
    if not isinstance(call.args[0], Live):
        return Constant(index.value.shape, call.output)
    dim = dim % x.dim()
    index = index.value
    if call.target is aten.take_along_dim.default:
        index = index.expand(*(n if k == dim else m for k, (n, m) in enumerate(zip(index.shape, x.shape, strict=True))))
    frozen = Picked(index, dim, True, x.shape)
    frozen.operands = (0,)
    return frozen


@register("slice", aten.index.Tensor)
def index(call: Call) -> Frozen:
    """x[:, i, ...] with integer or bool tensors i."""
    x, given = plain(call.args[0]), list(call.args[1])
    if any(isinstance(i, Live) for i in given):
        raise NoRule("an index that depends on the input; torch.gather has a rule")
    # A mask counts as the indices of what it holds.
    indices = [part for i in given for part in ([None] if i is None else index_numbers(i))]
    places = [place for place, i in enumerate(indices) if i is not None]
    first, second = (*indices, None, None)[:2]
    every = torch.arange(len(x), device=x.device)
    if places == [0, 1] and first is not None and second is not None and first.equal(every):
        # One place of each example, such as a sentence's last token.
        index = (second % x.shape[1]).view(-1, 1, *[1] * (x.dim() - 2)).expand(-1, 1, *x.shape[2:])
        return Picked(index, 1, False, x.shape)
    if places[0] == 0:
        raise NoRule("an index along the batch dimension mixes examples")
    if places[-1] - places[0] >= len(places):
        raise NoRule("indices of dimensions that are not neighbours move the batch dimension")
    return Relabel(lambda m: aten.index.Tensor(m, indices), x.shape)


def index_numbers(indices: Tensor) -> list[Tensor]:
    """An index as integers: a mask as those of what it holds."""
    return list(indices.nonzero().unbind(1)) if indices.dtype in (torch.bool, torch.uint8) else [indices]


@register("slice", aten.slice.Tensor, aten.select.int, aten.narrow.default)
@register("slice", aten.index_select.default, aten.flip.default, aten.roll.default)
def slices(call: Call) -> Frozen:
    """Some of the values, or all of them in another order."""
    if not isinstance(call.args[0], Live):  # a table of constants, read at places that depend on the input
        return Constant(plain(call.args[2]).shape, call.output)
    if 0 in _moved_dimensions(call):
        raise NoRule("a slice, flip or shift along the batch dimension mixes examples")
    if call.target is aten.slice.Tensor:
        return _relabel(call, _slice_transpose(call))
    return _relabel(call)


def _moved_dimensions(call: Call) -> set[int]:
    if call.target is aten.roll.default:
        # Without dimensions the flattened tensor is rolled.
        given = call.argument(2, "dims", [0]) or [0]
    else:
        given = call.argument(1, "dim" if call.target is not aten.flip.default else "dims", 0)
    rank = plain(call.args[0]).dim()
    return {dim % rank for dim in ([given] if isinstance(given, int) else given)}


def _slice_transpose(call: Call) -> Callable[[Tensor], Tensor]:
    shape = plain(call.args[0]).shape
    dim = call.argument(1, "dim", 0) % len(shape)
    start, stop, step = call.argument(2, "start"), call.argument(3, "end"), call.argument(4, "step", 1)
    window = (slice(None),) * (dim + 1) + (slice(start, stop, step),)

    def transpose(maps: Tensor) -> Tensor:
        pulled = maps.new_zeros(maps.shape[0], *shape)
        pulled[window] = maps
        return pulled

    return transpose


@register("copies", aten.expand.default, aten.repeat.default, aten.tile.default)
@register("copies", aten.repeat_interleave.self_int, aten.repeat_interleave.self_Tensor)
@register("copies", aten.expand_as.default, aten.broadcast_to.default)
def copies(call: Call) -> Frozen:
    """One value at several places."""
    shape, out = plain(call.args[0]).shape, call.output.shape
    if shape[0] != out[0]:
        raise NoRule("an operator that repeats the batch dimension mixes examples")
    frozen = _relabel(call)
    frozen.operands = (0,)  # of what expand_as is like only the shape is read
    return frozen


@register("permutation", aten.pixel_shuffle.default, aten.pixel_unshuffle.default, aten.channel_shuffle.default)
def shuffle(call: Call) -> Frozen:
    """Channels moved to positions and back, or among themselves."""
    return _relabel(call)


@register("padding", aten.pad.default, aten.constant_pad_nd.default)
@register("padding", aten.reflection_pad2d.default, aten.replication_pad2d.default)
@register("padding", aten.reflection_pad1d.default, aten.replication_pad1d.default)
@register("padding", aten.reflection_pad3d.default, aten.replication_pad3d.default)
def pad(call: Call) -> Frozen:
    """Zeros, a constant (which is bias mass), or copies of border values in any of torch's padding modes."""
    x, widths = plain(call.args[0]), list(call.args[1])
    if len(widths) == 2 * x.dim() and any(widths[-2:]):
        raise NoRule("padding along the batch dimension")
    constant = call.target is aten.constant_pad_nd.default or (
        call.target is aten.pad.default and call.argument(2, "mode", "constant") == "constant"
    )
    if not constant:
        return _relabel(call)
    position = 2 if call.target is aten.constant_pad_nd.default else 3
    value = call.argument(position, "value", 0) or 0
    frozen = Relabel(lambda m: aten.constant_pad_nd(m, widths, 0), x.shape, lambda maps: _crop(maps, widths))
    if value:
        frozen.offset, frozen.unbounded = aten.constant_pad_nd(torch.zeros_like(x), widths, value), True
    return frozen


def _crop(maps: Tensor, widths: list[int]) -> Tensor:
    return aten.constant_pad_nd(maps, [-width for width in widths], 0)
