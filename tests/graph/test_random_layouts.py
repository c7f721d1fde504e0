"""Random chains of linear operators that move the batch about: the model's own values and autograd's maps."""

from collections.abc import Callable

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import fwdkern
from fwdkern.errors import FwdkernError
from tests.oracle import assert_close, autograd

Operator = Callable[[Tensor], Tensor]
# No other size is a multiple of it, so that it is known where the batch is.
BATCH = 5


class Chain(nn.Module):
    """Operators one after the other, the batch moved to the front and the rest laid flat."""

    def __init__(self, operators: list[Operator]) -> None:
        super().__init__()
        self.operators = operators

    def forward(self, x: Tensor) -> Tensor:
        for operator in self.operators:
            x = operator(x)
        return x


def matrix(rows: int, columns: int) -> Tensor:
    return torch.linspace(-1, 1, rows * columns, dtype=torch.float64).view(rows, columns).sin()


@st.composite
def operators(draw: st.DrawFn, value: Tensor) -> Operator | None:
    """One that serves this value and leaves the batch in one dimension, None where what was drawn does not."""
    rank = value.dim()
    dim = draw(st.integers(0, rank - 1))
    size = value.shape[dim]
    letters = "abcdef"[:rank]
    order = draw(st.permutations(range(rank)))
    kind = draw(st.sampled_from(["permute", "flatten", "relu", "einsum"]))
    if kind == "permute":
        return lambda x: x.permute(order)
    if kind == "flatten":
        return None if dim == rank - 1 else lambda x: x.flatten(dim, dim + 1)
    if kind == "relu" or size % BATCH == 0:
        return torch.relu
    factor = matrix(size, 4)
    moved = "".join(letters[i] for i in order).replace(letters[dim], "z")
    choices: dict[str, Operator] = {
        "einsum": lambda x: torch.einsum(f"{letters},{letters[dim]}z->{moved}", x, factor),
        "narrow": lambda x: x.narrow(dim, 1, size - 1),
        "sum": lambda x: x.sum(dim),
        "flip": lambda x: x + x.flip(dim),
        "cat": lambda x: torch.cat([x, 0.5 * x], dim),
    }
    if size % 2 == 0 and size > 2:
        choices["unflatten"] = lambda x: x.unflatten(dim, (2, size // 2))
    if dim == rank - 1:
        choices["linear"] = lambda x: nn.functional.linear(x, factor.T)
    if dim == rank - 2:
        choices["matmul"] = lambda x: factor.T @ x
    return choices[draw(st.sampled_from(sorted(choices)))]


@st.composite
def chains(draw: st.DrawFn) -> tuple[Chain, Tensor]:
    sizes = draw(st.lists(st.sampled_from([2, 3, 4, 6]), min_size=1, max_size=3))
    x = torch.linspace(-1, 2, BATCH * torch.Size(sizes).numel(), dtype=torch.float64).view(BATCH, *sizes).cos()
    value, chosen = x, []
    for _ in range(draw(st.integers(1, 6))):
        operator = draw(operators(value))
        result = None if operator is None else operator(value)
        # A size of 1 leaves open where the batch is.
        if result is None or not 2 <= result.dim() <= 5:
            continue
        if min(result.shape) < 2 or result.numel() > 2000:
            continue
        value = result
        chosen.append(operator)
    place = next((dim for dim, size in enumerate(value.shape) if size == BATCH), None)
    if place is not None:
        chosen.append(lambda x: 2 * x.movedim(place, 0).flatten(1))
    return Chain(chosen).eval(), x


@settings(max_examples=25)
@given(chains(), st.data())
def test_values_and_maps(case: tuple[Chain, Tensor], data: st.DataObject) -> None:
    chain, x = case
    value = chain(x)
    net = fwdkern.fuse(chain, x)
    assert_close(net(x), value)
    assert_close(net(x[:3]), chain(x[:3]))
    if len(value) != BATCH or value.dim() != 2:
        return  # other dimensions are folded into the batch
    unit = data.draw(st.integers(0, value.shape[1] - 1))
    try:
        found = net.attribute(x, unit, features="channels", bias="separate")
    except FwdkernError:
        return
    expected = autograd(chain, x, torch.full((BATCH, 1), unit))
    assert_close(found.scores, expected.channels)
