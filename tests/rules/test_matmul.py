"""Products of matrices: constant factors, gates, and two values that both depend on the input."""

import pytest
import torch

from fwdkern.rules import Live, NoRule
from tests.oracle import assert_close
from tests.rules.jacobian import check_frozen_factor, check_halves, check_rule, freeze, image, live

aten = torch.ops.aten
# Shapes of both factors, the batch first.
PAIRS = [
    ((2, 3, 4), (2, 4, 5)),
    ((2, 3, 1, 4), (2, 3, 4, 1)),
    ((2, 1, 3, 4), (2, 2, 4, 5)),
    ((2, 2, 3, 1), (2, 1, 1, 2)),
]


def test_products_with_constants() -> None:
    check_rule(aten.mm.default, *live(image(2, 5)), image(5, 4), tight=True)
    check_rule(aten.matmul.default, *live(image(2, 3, 5)), image(5, 4), tight=True)
    check_rule(aten.matmul.default, *live(image(2, 2, 3, 5)), image(2, 5, 4, seed=1), tight=True)
    check_rule(aten.matmul.default, image(4, 3, seed=1), *live(image(2, 3, 5)), tight=True)
    check_rule(aten.matmul.default, image(2, 4, 3, seed=1), *live(image(2, 1, 3, 5)), tight=True)
    check_rule(aten.matmul.default, *live(image(2, 3, 5)), image(5, seed=1), tight=True)
    check_rule(aten.bmm.default, *live(image(2, 3, 5)), image(2, 5, 4), tight=True)


@pytest.mark.parametrize("shapes", PAIRS)
def test_a_product_is_half_of_each(shapes: tuple[tuple[int, ...], ...]) -> None:
    check_halves(aten.matmul.default, *(image(*shape, seed=i) for i, shape in enumerate(shapes)))


@pytest.mark.parametrize("shapes", PAIRS)
def test_a_gate_is_frozen(shapes: tuple[tuple[int, ...], ...]) -> None:
    a, b = (image(*shape, seed=i) for i, shape in enumerate(shapes))
    check_frozen_factor(lambda own: own @ b, aten.matmul.default, Live(a, 0), Live(b, 1, gate=True), own=0)
    check_frozen_factor(lambda own: a @ own, aten.matmul.default, Live(a, 0, gate=True), Live(b, 1), own=1)


EQUATIONS = [
    ("b i d, b j d -> b i j", (2, 3, 4), (2, 5, 4)),
    ("bgid,bgjd->bgij", (2, 1, 3, 4), (2, 1, 2, 4)),
    ("b...d,de->b...e", (2, 3, 2, 4), (4, 5)),
    ("bid,d->b", (2, 3, 4), (4,)),
    ("bZi,Zj->bjZi", (2, 3, 4), (3, 2)),
    ("bij,jk", (2, 3, 4), (4, 2)),
]


@pytest.mark.parametrize(("equation", "first", "second"), EQUATIONS)
def test_einsum(equation: str, first: tuple[int, ...], second: tuple[int, ...]) -> None:
    a, b = image(*first), image(*second, seed=1)

    def product(*operands: torch.Tensor) -> torch.Tensor:
        return aten.einsum.default(equation, list(operands))

    x = Live(a, 0)
    check_frozen_factor(lambda own: product(own, b), aten.einsum.default, equation, [x, b], own=0)
    if len(second) > 2:
        both = [x, Live(b, 1)]
        frozen, output = freeze(aten.einsum.default, equation, both)
        assert_close(frozen.forward(a[None], b[None])[0], output)
        gated = [Live(a, 0, gate=True), Live(b, 1)]
        check_frozen_factor(lambda own: product(a, own), aten.einsum.default, equation, gated, own=1)


def test_einsum_of_one_tensor() -> None:
    check_rule(aten.einsum.default, "bij->bji", live(image(2, 3, 4)), tight=True)
    check_rule(aten.einsum.default, "b i j -> b j", live(image(2, 3, 4)), tight=True)


def test_what_mixes_examples_has_no_rule() -> None:
    a, b = live(image(2, 5), image(5, 2))
    with pytest.raises(NoRule, match="batch dimension"):
        freeze(aten.mm.default, image(3, 2), a)
    with pytest.raises(NoRule, match="batch dimension"):
        freeze(aten.matmul.default, a, b)
    with pytest.raises(NoRule, match="batch dimension"):
        freeze(aten.einsum.default, "bi,ci->bc", live(image(2, 5), image(2, 5)))
    with pytest.raises(NoRule, match="more than two"):
        freeze(aten.einsum.default, "bi,bi,bi->bi", live(image(2, 5), image(2, 5), image(2, 5)))
