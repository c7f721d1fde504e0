"""Sums, differences, concatenation, products, and quotients: a gate and a divisor are frozen."""

import torch
from torch import Tensor

from fwdkern.rules.frozen import Constant, Diagonal, Frozen, sum_to
from fwdkern.rules.registry import Call, Live, NoRule, plain, register

aten = torch.ops.aten


class Sum(Frozen):
    """out = Σ_i c_i · parent_i + offset, parents broadcast to the output.

    Args:
        shapes: the parents' shapes ``[B, *in]``; signs: c_i; offset: what constant operands add.
    """

    unbounded = True

    def __init__(self, shapes: list[torch.Size], signs: list[float], offset: Tensor | None, out: torch.Size) -> None:
        self.shapes, self.signs, self.offset, self.out = shapes, signs, offset, out

    def _broadcast(self, maps: Tensor) -> Tensor:
        missing = len(self.out) - (maps.dim() - 1)
        return maps.reshape(maps.shape[0], *[1] * missing, *maps.shape[1:])

    def forward(self, *maps: Tensor) -> Tensor:
        total = None
        for part, sign in zip(maps, self.signs, strict=True):
            part = self._broadcast(part)
            part = part if sign == 1 else part * sign
            total = part if total is None else total + part
        assert total is not None
        return total.expand(total.shape[0], *self.out)

    def reverse(self, maps: Tensor) -> tuple[Tensor, ...]:
        return tuple(
            sum_to(maps if sign == 1 else maps * sign, shape)
            for shape, sign in zip(self.shapes, self.signs, strict=True)
        )

    def reach(self, *boxes: Tensor) -> Tensor:
        wide = [self._broadcast(box).expand(4, *self.out) for box in boxes]
        return torch.stack(wide).amax(0)


def _sum(call: Call, operands: list[tuple[object, float]]) -> Sum:
    shapes, signs, offset = [], [], None
    for operand, sign in operands:
        if isinstance(operand, Live):
            shapes.append(operand.value.shape)
            signs.append(sign)
        else:
            constant = torch.as_tensor(operand, dtype=call.output.dtype, device=call.output.device) * sign
            offset = constant if offset is None else offset + constant
    return Sum(shapes, signs, offset, call.output.shape)


@register("sum", aten.add.Tensor, aten.add.Scalar)
def add(call: Call) -> Frozen:
    """a + alpha · b; a constant operand goes to the bias mass."""
    return _sum(call, [(call.args[0], 1.0), (call.args[1], call.argument(2, "alpha", 1))])


@register("sum", aten.sub.Tensor, aten.sub.Scalar)
def sub(call: Call) -> Frozen:
    """a − alpha · b."""
    return _sum(call, [(call.args[0], 1.0), (call.args[1], -call.argument(2, "alpha", 1))])


@register("sum", aten.rsub.Scalar, aten.rsub.Tensor)
def rsub(call: Call) -> Frozen:
    """b − alpha · a."""
    return _sum(call, [(call.args[0], -call.argument(2, "alpha", 1)), (call.args[1], 1.0)])


@register("negation", aten.neg.default)
def neg(call: Call) -> Frozen:
    """−a."""
    return _sum(call, [(call.args[0], -1.0)])


class Scaled(Diagonal):
    """A product with a constant that may broadcast the input to a larger output."""

    def __init__(self, scale: Tensor, in_shape: torch.Size, shape: torch.Size) -> None:
        super().__init__(scale, None, shape)
        self.in_shape = in_shape

    def forward(self, *maps: Tensor) -> Tensor:
        missing = len(self.shape) - len(self.in_shape)
        return maps[0].reshape(maps[0].shape[0], *[1] * missing, *self.in_shape) * self.scale

    def reverse(self, maps: Tensor) -> tuple[Tensor, ...]:
        return (sum_to(maps * self.scale, self.in_shape),)

    def reach(self, *boxes: Tensor) -> Tensor:
        missing = len(self.shape) - len(self.in_shape)
        return boxes[0].reshape(4, *[1] * missing, *self.in_shape).expand(4, *self.shape)


def _scaled(call: Call, operand: object, factor: object) -> Scaled:
    x = plain(operand)
    factor = torch.as_tensor(factor, dtype=_fraction(x, call.output), device=x.device)
    return Scaled(factor, x.shape, call.output.shape)


def _fraction(x: Tensor, output: Tensor) -> torch.dtype:
    """The type of what multiplies x, which may hold counts or comparisons."""
    dtypes = (x.dtype, output.dtype, torch.get_default_dtype())
    return next(dtype for dtype in dtypes if dtype.is_floating_point)


class Halves(Frozen):
    """A product of two values that both depend on the input: half of each with the other one frozen, so that the two
    together are the product.

    Args:
        first, second: those halves, of which each is linear in one factor.
    """

    def __init__(self, first: Frozen, second: Frozen) -> None:
        self.sides = first, second

    def forward(self, *maps: Tensor) -> Tensor:
        return self.sides[0].forward(maps[0]) + self.sides[1].forward(maps[1])

    def reverse(self, maps: Tensor) -> tuple[Tensor, ...]:
        return self.sides[0].reverse(maps)[0], self.sides[1].reverse(maps)[0]

    def reach(self, *boxes: Tensor) -> Tensor:
        return self.sides[0].reach(boxes[0]).maximum(self.sides[1].reach(boxes[1]))


@register("product", aten.mul.Tensor, aten.mul.Scalar)
def mul(call: Call) -> Frozen:
    """a · b: a constant or a gate is frozen; of two values that are both gates or both none, half of each."""
    a, b = call.args[:2]
    if not (isinstance(a, Live) and isinstance(b, Live)):
        return _scaled(call, a, b) if isinstance(a, Live) else _scaled(call, b, a)
    if not (isinstance(a.value, Tensor) and isinstance(b.value, Tensor)):
        raise NoRule("a product with a number that depends on the input")
    if a.gate == b.gate:
        return Halves(_scaled(call, a, b.value / 2), _scaled(call, b, a.value / 2))
    frozen = _scaled(call, b, a.value) if a.gate else _scaled(call, a, b.value)
    frozen.operands = (1,) if a.gate else (0,)
    return frozen


@register("quotient", aten.div.Tensor, aten.div.Scalar)
def div(call: Call) -> Frozen:
    """a / b: the divisor is frozen; of a constant a nothing is then left that depends on the input."""
    a, b = call.args[:2]
    if not isinstance(a, Live):
        return Constant(b.value.shape, call.output)
    # An integer divisor, such as a count, must not be inverted in less precision than the value has.
    divisor = torch.as_tensor(plain(b), dtype=_fraction(a.value, call.output), device=a.value.device)
    frozen = _scaled(call, a, 1 / divisor)
    frozen.operands = (0,) if isinstance(b, Live) else None
    return frozen


@register("quotient", aten.reciprocal.default, aten.rsqrt.default)
def reciprocal(call: Call) -> Frozen:
    """1 / x and 1 / √x: a divisor is frozen."""
    return Constant(plain(call.args[0]).shape, call.output)


class Concatenation(Frozen):
    """cat along ``dim``; constant parts carry no map and are bias mass."""

    unbounded = True

    def __init__(self, parts: list[object], dim: int, output: Tensor) -> None:
        self.dim = dim + 1
        self.live = [isinstance(part, Live) for part in parts]
        self.sizes = [plain(part).shape[dim] for part in parts]
        self.shapes = [plain(part).shape for part in parts]
        if not all(self.live):
            self.offset = torch.cat(
                [torch.zeros_like(part.value) if isinstance(part, Live) else part for part in parts],  # type: ignore[misc]
                dim,
            ).to(output.dtype)

    def forward(self, *maps: Tensor) -> Tensor:
        given = iter(maps)
        slices = maps[0].shape[0]
        parts = [
            next(given) if live else maps[0].new_zeros(slices, *shape)
            for live, shape in zip(self.live, self.shapes, strict=True)
        ]
        return torch.cat(parts, self.dim)

    def reverse(self, maps: Tensor) -> tuple[Tensor, ...]:
        parts = maps.split(self.sizes, self.dim)
        return tuple(part for part, live in zip(parts, self.live, strict=True) if live)

    def reach(self, *boxes: Tensor) -> Tensor:
        return self.forward(*boxes)


@register("concatenation", aten.cat.default)
def cat(call: Call) -> Frozen:
    """cat(tensors, dim)."""
    dim = call.argument(1, "dim", 0) % call.output.dim()
    if dim == 0:
        raise NoRule("a concatenation along the batch dimension mixes examples")
    # An empty tensor of one dimension goes with any other: caches of keys and values begin so.
    parts = [part for part in call.args[0] if plain(part).shape != (0,)]
    return Concatenation(parts, dim, call.output)


class Stack(Concatenation):
    """stack along a new dimension ``dim``: a concatenation of parts of size 1 there."""

    def __init__(self, parts: list[object], dim: int, output: Tensor) -> None:
        grown = [_grown(part, dim) for part in parts]
        super().__init__(grown, dim, output)

    def forward(self, *maps: Tensor) -> Tensor:
        return super().forward(*(part.unsqueeze(self.dim) for part in maps))

    def reverse(self, maps: Tensor) -> tuple[Tensor, ...]:
        return tuple(part.squeeze(self.dim) for part in super().reverse(maps))


def _grown(part: object, dim: int) -> object:
    if isinstance(part, Live):
        return Live(part.value.unsqueeze(dim), part.step)
    return plain(part).unsqueeze(dim)


@register("concatenation", aten.stack.default)
def stack(call: Call) -> Frozen:
    """stack(tensors, dim)."""
    dim = call.argument(1, "dim", 0) % call.output.dim()
    if dim == 0:
        raise NoRule("a stack along the batch dimension mixes examples")
    return Stack(list(call.args[0]), dim, call.output)
