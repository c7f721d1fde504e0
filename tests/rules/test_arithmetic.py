"""Sums, differences, products with constants and concatenations, broadcast in every direction."""

import pytest
import torch

from fwdkern.rules import Live, NoRule
from fwdkern.rules.frozen import Frozen
from tests.oracle import assert_close
from tests.rules.jacobian import check_rule, freeze, image, live

aten = torch.ops.aten
SUMS = [aten.add.Tensor, aten.sub.Tensor, aten.rsub.Tensor]
# A batch keeps its dimension; everything else may be broadcast.
PAIRS = [((2, 3, 4, 5), (2, 3, 4, 5)), ((2, 3, 4, 5), (2, 3, 1, 1)), ((2, 3, 1, 5), (2, 1, 4, 5))]
CONSTANTS = [(2, 3, 4, 5), (3, 1, 1), (1, 3, 1, 1), (5,), ()]


@pytest.mark.parametrize("alpha", [1, -2])
@pytest.mark.parametrize("shapes", PAIRS)
@pytest.mark.parametrize("target", SUMS)
def test_sums(target: object, shapes: tuple[tuple[int, ...], ...], alpha: int) -> None:
    check_rule(target, *live(*(image(*shape) for shape in shapes)), alpha=alpha, tight=True)


@pytest.mark.parametrize("shape", CONSTANTS)
@pytest.mark.parametrize("target", SUMS)
def test_sums_with_constants(target: object, shape: tuple[int, ...]) -> None:
    x = live(image(2, 3, 4, 5))
    check_rule(target, *x, image(*shape, seed=3), tight=True)
    check_rule(target, image(*shape, seed=3), *x, alpha=3, tight=True)


def test_a_constant_may_be_larger() -> None:
    check_rule(aten.add.Tensor, *live(image(2, 1, 1)), image(2, 3, 4), tight=True)
    check_rule(aten.mul.Tensor, *live(image(2, 1, 1)), image(2, 3, 4), tight=True)


def test_numbers() -> None:
    x = live(image(2, 3, 4))
    for target in (aten.add.Scalar, aten.sub.Scalar, aten.rsub.Scalar):
        check_rule(target, *x, 1.5, 2, tight=True)
    for target in (aten.mul.Scalar, aten.div.Scalar, aten.mul.Tensor, aten.div.Tensor):
        check_rule(target, *x, -1.5, tight=True)
    check_rule(aten.neg.default, *x, tight=True)


def test_a_value_added_to_itself() -> None:
    x = live(image(2, 3, 4))[0]
    frozen, output = freeze(aten.add.Tensor, x, x)
    maps = image(3, 2, 3, 4)
    assert frozen.forward(maps, maps).equal(2 * maps)
    assert [part.equal(maps) for part in frozen.reverse(maps)] == [True, True]
    assert output.equal(2 * x.value)


@pytest.mark.parametrize("shape", CONSTANTS)
def test_products_with_constants(shape: tuple[int, ...]) -> None:
    x, constant = live(image(2, 3, 4, 5)), image(*shape, seed=3)
    check_rule(aten.mul.Tensor, *x, constant, tight=True)
    check_rule(aten.mul.Tensor, constant, *x, tight=True)
    check_rule(aten.div.Tensor, *x, constant, tight=True)


@pytest.mark.parametrize("dim", [1, 2, -1])
def test_concatenations(dim: int) -> None:
    a, b = image(2, 3, 4, 5), image(2, 3, 4, 5, seed=1)
    first, second = live(a, b)
    check_rule(aten.cat.default, [first, second], dim, tight=True)
    check_rule(aten.cat.default, [first, image(2, 3, 4, 5, seed=2), second], dim, tight=True)
    check_rule(aten.cat.default, [first], dim, tight=True)


def test_a_constant_over_a_value_is_bias_mass() -> None:
    (x,) = live(image(2, 3))
    for call in ((aten.div.Tensor, image(2, 3), x), (aten.reciprocal.default, x), (aten.rsqrt.default, x)):
        frozen, output = freeze(call[0], *call[1:])
        assert frozen.offset is output and not frozen.reverse(image(4, 2, 3))[0].any()


def test_what_mixes_examples_has_no_rule() -> None:
    a, b = live(image(2, 3), image(2, 3))
    with pytest.raises(NoRule, match="batch dimension"):
        freeze(aten.cat.default, [a, b], 0)


@pytest.mark.parametrize("shapes", PAIRS)
def test_a_product_is_half_of_each(shapes: tuple[tuple[int, ...], ...]) -> None:
    a, b = live(*(image(*shape, seed=i) for i, shape in enumerate(shapes)))
    frozen, output = freeze(aten.mul.Tensor, a, b)
    assert frozen.operands is None and frozen.offset is None
    assert_close(frozen.forward(a.value[None], b.value[None])[0], output)
    _check_transpose(frozen, output.shape, a.value.shape, b.value.shape)
    twice, output = freeze(aten.mul.Tensor, a, a)
    assert_close(twice.forward(a.value[None], a.value[None])[0], output)


@pytest.mark.parametrize("shapes", PAIRS)
def test_a_gate_and_a_divisor_are_frozen(shapes: tuple[tuple[int, ...], ...]) -> None:
    x, y = (image(*shape, seed=i) for i, shape in enumerate(shapes))
    for target, arguments, place in (
        (aten.mul.Tensor, (Live(x, 0), Live(y, 1, gate=True)), 0),
        (aten.mul.Tensor, (Live(y, 0, gate=True), Live(x, 1)), 1),
        (aten.div.Tensor, (Live(x, 0), Live(y, 1)), 0),
    ):
        frozen, output = freeze(target, *arguments)
        assert frozen.operands == (place,)
        assert_close(frozen.forward(x[None])[0], output)
        _check_transpose(frozen, output.shape, x.shape)


def _check_transpose(frozen: Frozen, out: torch.Size, *shapes: torch.Size) -> None:
    maps = [image(3, *shape, seed=5 + i) for i, shape in enumerate(shapes)]
    targets = image(3, *out, seed=9)
    pulled = frozen.reverse(targets)
    assert [part.shape[1:] for part in pulled] == list(shapes)
    total = sum((m * p).sum() for m, p in zip(maps, pulled, strict=True))
    assert_close(torch.as_tensor(total), (frozen.forward(*maps) * targets).sum())
