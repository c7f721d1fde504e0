"""Writing into part of a tensor: what an in-place operator on a slice becomes in a captured graph."""

import torch
from torch import Tensor

from fwdkern.rules.arithmetic import Sum
from fwdkern.rules.frozen import Constant, Frozen
from fwdkern.rules.registry import Call, Live, NoRule, plain, register

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
