"""Choices between values, with conditions that are constant and ones that depend on the input."""

import pytest
import torch

from fwdkern.rules import Live
from tests.oracle import assert_close
from tests.rules.jacobian import check_frozen_factor, check_rule, freeze, image, live

aten = torch.ops.aten
PAIRS = [((2, 3, 4), (2, 3, 4)), ((2, 3, 4), (2, 1, 4)), ((2, 1, 1), (2, 3, 4))]


@pytest.mark.parametrize("shapes", PAIRS)
@pytest.mark.parametrize("condition", [(2, 3, 4), (3, 1), (1, 3, 4)])
def test_where(shapes: tuple[tuple[int, ...], ...], condition: tuple[int, ...]) -> None:
    a, b = (image(*shape, seed=i) for i, shape in enumerate(shapes))
    mask = image(*condition, seed=3) > 0
    check_rule(aten.where.self, mask, *live(a, b))
    check_rule(aten.where.self, mask, *live(a), b)
    check_rule(aten.where.self, mask, a, *live(b))


def test_a_condition_that_depends_on_the_input_is_frozen() -> None:
    a, b = image(2, 3, 4), image(2, 3, 4, seed=1)
    mask = Live(a > b, 0)
    frozen, output = freeze(aten.where.self, mask, Live(a, 1), Live(b, 2))
    assert frozen.operands == (1, 2)
    assert_close(frozen.forward(a[None], b[None])[0], output)
    check_frozen_factor(lambda own: torch.where(mask.value, own, 0), aten.where.self, mask, Live(a, 1), b, own=1)
    constant, output = freeze(aten.where.self, mask, a, b)
    assert constant.offset is not None and constant.offset.equal(output)


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 1, 4), (3, 1)])
def test_masked_fill(shape: tuple[int, ...]) -> None:
    x, mask = image(2, 3, 4), image(*shape, seed=3) > 0
    check_rule(aten.masked_fill.Scalar, *live(x), mask, -1.5, tight=False)
    check_rule(aten.masked_fill.Tensor, *live(x), mask, torch.tensor(2.0, dtype=x.dtype))
    live_mask = Live(mask, 1)
    check_frozen_factor(
        lambda own: own.masked_fill(mask, 0), aten.masked_fill.Scalar, Live(x, 0), live_mask, 3.0, own=0
    )


def test_a_value_that_depends_on_the_input() -> None:
    x, value, mask = image(2, 3), image(2).sum(), image(2, 3, seed=1) > 0
    frozen, output = freeze(aten.where.self, mask, Live(x, 0), Live(value.expand(2, 1), 1))
    assert_close(frozen.forward(x[None], value.expand(1, 2, 1))[0], output)
