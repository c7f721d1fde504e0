"""Products of matrices of which at least one depends on the input: one factor is frozen, the other is linear."""

import string
from math import prod

import torch
from torch import Tensor

from fwdkern.rules.arithmetic import Halves
from fwdkern.rules.frozen import Frozen, sum_to
from fwdkern.rules.linear import Linear
from fwdkern.rules.registry import Call, Live, NoRule, plain, register

aten = torch.ops.aten

_SLICES = "Z"


class Contraction(Frozen):
    """einsum("other,own->out") with the other factor frozen.

    Args:
        own, other, out: a letter for each dimension; the batch is the first of own and of out.
        factor: the frozen factor, dimensions as in ``other``; those of size 1 are broadcast, as are the input's.
        shape: the input's ``[B, *in]``; result: the output's ``[B, *out]``.
        share: what the product is multiplied with.
    """

    def __init__(
        self, own: str, other: str, out: str, factor: Tensor, shape: torch.Size, result: torch.Size, share: float = 1.0
    ) -> None:
        self.own, self.other, self.out, self.factor = own, other, out, factor
        self.shape, self.result, self.share = shape, result, share

    @property
    def multiplies(self) -> int:
        """Multiply-adds of one slice."""
        sizes: dict[str, int] = {}
        for letters, shape in ((self.own, self.shape), (self.other, self.factor.shape)):
            for letter, size in zip(letters, shape, strict=True):
                sizes[letter] = max(size, sizes.get(letter, 1))
        return prod(sizes.values())

    def forward(self, *maps: Tensor) -> Tensor:
        carried = torch.einsum(f"{self.other},{_SLICES}{self.own}->{_SLICES}{self.out}", self.factor, maps[0])
        return self._shared(carried.expand(-1, *self.result))

    def reverse(self, maps: Tensor) -> tuple[Tensor, ...]:
        # Dimensions that are summed alone are not in the product; every entry along them gets the same.
        kept = "".join(letter for letter in self.own if letter in self.other + self.out)
        pulled = torch.einsum(f"{self.other},{_SLICES}{self.out}->{_SLICES}{kept}", self.factor, maps)
        for place, letter in enumerate(self.own):
            if letter not in kept:
                pulled = pulled.unsqueeze(place + 1)
        return (self._shared(sum_to(pulled, self.shape).expand(-1, *self.shape)),)

    def _shared(self, maps: Tensor) -> Tensor:
        return maps if self.share == 1 else maps * self.share

    def reach(self, *boxes: Tensor) -> Tensor:
        summed = [place + 1 for place, letter in enumerate(self.own) if letter not in self.out]
        seen = boxes[0].amax(summed, keepdim=True) if summed else boxes[0]
        kept = [letter for letter in self.own if letter in self.out]
        seen = seen.squeeze(summed).permute(0, *(kept.index(letter) + 1 for letter in self.out if letter in kept))
        for place, letter in enumerate(self.out):
            if letter not in kept:
                seen = seen.unsqueeze(place + 1)
        return seen.expand(4, *self.result)


def contraction(a: object, b: object, letters: tuple[str, str, str], result: torch.Size) -> Frozen:
    """The product of two operands of which at least one is live: a constant or a gate is frozen; of two values that are
    both gates or both none, half of each (design table of rules).

    ``letters`` are those of a, b and the output.
    """
    sides = []
    for own, other, names, others in ((a, b, letters[0], letters[1]), (b, a, letters[1], letters[0])):
        if not isinstance(own, Live):
            continue
        if not names or names[0] != letters[2][:1] or len(set(names)) < len(names):
            raise NoRule("a matrix product along the batch dimension mixes examples")
        sides.append(Contraction(names, others, letters[2], plain(other), own.value.shape, result))
    if len(sides) == 1:
        return sides[0]
    assert isinstance(a, Live) and isinstance(b, Live)
    if a.gate == b.gate:
        for side in sides:
            side.share = 0.5
        return Halves(*sides)
    place = 1 if a.gate else 0
    sides[place].operands = (place,)
    return sides[place]


def product_letters(a: int, b: int) -> tuple[str, str, str]:
    """Letters of the dimensions of a matmul of tensors of ranks a and b, and of its result."""
    lead = string.ascii_lowercase[: max(a, b, 2) - 2]
    rows, columns = ("x" if a > 1 else ""), ("z" if b > 1 else "")
    left = lead[len(lead) - max(a - 2, 0) :] + rows + "y"
    right = lead[len(lead) - max(b - 2, 0) :] + "y" + columns
    return left, right, lead + rows + columns


@register("matrix product", aten.matmul.default, aten.mm.default, aten.bmm.default, aten.mv.default)
def matmul(call: Call) -> Frozen:
    """a @ b: linear with a constant factor, else a factor is frozen."""
    a, b = call.args[:2]
    if isinstance(a, Live) and not isinstance(b, Live) and b.dim() == 2:
        return Linear(b.mT, None)
    return contraction(a, b, product_letters(plain(a).dim(), plain(b).dim()), call.output.shape)


@register("matrix product", aten.einsum.default)
def einsum(call: Call) -> Frozen:
    """einsum(equation, [a] or [a, b]): as matmul."""
    equation, operands = call.args[0].replace(" ", ""), list(call.args[1])
    ranks = [plain(operand).dim() for operand in operands]
    left, _, out = equation.partition("->")
    terms = left.split(",")
    if "->" not in equation:
        # Without an arrow the result has the letters that occur once, in alphabetical order.
        bare = left.replace(",", "").replace("...", "")
        out = ("..." if "..." in left else "") + "".join(sorted(c for c in set(bare) if bare.count(c) == 1))
    names = _resolved([*terms, out], ranks)
    if len(operands) == 1:
        one = torch.ones((), dtype=call.output.dtype, device=call.output.device)
        return contraction(operands[0], one, (names[0], "", names[1]), call.output.shape)
    if len(operands) != 2:
        raise NoRule("einsum of more than two tensors")
    return contraction(operands[0], operands[1], (names[0], names[1], names[2]), call.output.shape)


def _resolved(terms: list[str], ranks: list[int]) -> list[str]:
    """Terms with letters of their own for the dimensions that dots stand for, and none that the slices need."""
    used = set("".join(terms)) - {"."}
    free = [c for c in string.ascii_letters if c not in used and c != _SLICES]
    fresh = {letter: free.pop() if letter == _SLICES else letter for letter in used}
    dots = [rank - len(term.replace("...", "")) for term, rank in zip(terms, ranks, strict=False) if "..." in term]
    lead = "".join(free[: max(dots, default=0)])
    found = []
    for place, term in enumerate(terms):
        count = ranks[place] - len(term.replace("...", "")) if place < len(ranks) else len(lead)
        before, dotted, after = term.partition("...")
        middle = lead[len(lead) - count :] if dotted else ""
        found.append("".join(fresh[c] for c in before) + middle + "".join(fresh[c] for c in after))
    return found
