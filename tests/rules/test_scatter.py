"""Writing into slices, and over everything."""

from typing import Any

import pytest
import torch

from fwdkern.rules import NoRule
from tests.oracle import assert_close
from tests.rules.jacobian import check_rule, freeze, image, live

aten = torch.ops.aten
WINDOWS: dict[str, tuple[Any, tuple[int, ...], tuple[int, ...]]] = {
    "slice": (aten.slice_scatter.default, (2, 2, 5), (1, 1, 3)),
    "slice, strided": (aten.slice_scatter.default, (2, 4, 3), (-1, 0, 5, 2)),
    "slice, whole batch": (aten.slice_scatter.default, (2, 4, 5), (0, 0, 2)),
    "select": (aten.select_scatter.default, (2, 4), (2, 3)),
    "select, negative": (aten.select_scatter.default, (2, 5), (1, -1)),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_windows(name: str) -> None:
    target, shape, where = WINDOWS[name]
    x, y = image(2, 4, 5), image(*shape, seed=1)
    check_rule(target, *live(x, y), *where, tight=True)
    check_rule(target, *live(x), y, *where, tight=True)
    check_rule(target, x, *live(y), *where, tight=True)


def test_fill_forgets_the_input() -> None:
    check_rule(aten.fill.Scalar, *live(image(2, 3)), -1.5, tight=True)
    check_rule(aten.fill.Tensor, *live(image(2, 3)), torch.tensor(2.5).double(), tight=True)


def test_copies() -> None:
    x, y = image(2, 3, 4), image(2, 1, 4, seed=1)
    maps, targets = image(5, 2, 1, 4), image(5, 2, 3, 4)
    frozen, output = freeze(aten.copy.default, x, *live(y))
    assert output.equal(y.expand_as(x)) and frozen.offset is None
    assert frozen.forward(maps).equal(maps.expand(5, 2, 3, 4))
    assert_close(frozen.reverse(targets)[0], targets.sum(2, keepdim=True))
    frozen, _ = freeze(aten.copy.default, *live(x, y))
    assert frozen.forward(targets, maps).equal(maps.expand(5, 2, 3, 4))
    assert not frozen.reverse(targets)[0].any()
    frozen, _ = freeze(aten.copy.default, *live(x), y)
    assert not frozen.forward(targets).any() and frozen.offset is y


def test_writing_to_one_example_has_no_rule() -> None:
    x, y = live(image(2, 3), image(3))
    with pytest.raises(NoRule, match="some examples"):
        freeze(aten.select_scatter.default, x, y, 0, 0)
