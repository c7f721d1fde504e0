"""Writing into slices, at indices, and over everything."""

import functools
from typing import Any

import pytest
import torch

from fwdkern.rules import Live, NoRule
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

PLACES, TWICE, MASK = torch.tensor([1, 4, 0]), torch.tensor([1, 1, 0]), torch.tensor([True, False, True, True, False])
# Operators of [2, 4, 5] with [2, 4, 3], and what stands between the two.
AT_INDICES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "scatter": (aten.scatter.src, (2, PLACES.expand(2, 4, 3))),
    "index_copy": (aten.index_copy.default, (-1, PLACES)),
    "index_put": (aten.index_put.default, ([None, None, PLACES],)),
    "index_put, mask": (aten.index_put.default, ([None, None, MASK],)),
    "scatter_add": (aten.scatter_add.default, (2, TWICE.expand(2, 4, 3))),
    "index_add": (aten.index_add.default, (-1, TWICE)),
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


@pytest.mark.parametrize("name", AT_INDICES)
def test_at_indices(name: str) -> None:
    target, where = AT_INDICES[name]
    x, y, tight = image(2, 4, 5), image(2, 4, 3, seed=1), "add" not in name
    check_rule(target, Live(x, 0), *where, Live(y, 1), tight=tight)
    check_rule(target, Live(x, 0), *where, y, tight=tight)
    check_rule(target, x, *where, Live(y, 0), tight=tight)


def test_one_number_at_indices() -> None:
    x = image(2, 4, 5)
    check_rule(aten.scatter.value, *live(x), 2, PLACES.expand(2, 4, 3), -1.5, tight=True)
    check_rule(aten.index_fill.int_Scalar, *live(x), 2, PLACES, 2.5, tight=True)
    check_rule(aten.index_put.default, *live(x), [None, PLACES[:2] % 4], torch.tensor(2.5).double(), tight=True)
    check_rule(aten.index_put.default, *live(x), [None, None, PLACES], *live(image(2, 4, 1, seed=1)), tight=True)
    check_rule(aten.index_add.default, Live(x, 0), 1, TWICE, Live(image(2, 3, 5), 1), alpha=-2)
    for mask in (x > 0, x[:, :, 0] > 0):  # other values in each example
        check_rule(aten.index_put.default, *live(x), [mask], torch.tensor(1.5).double())


def test_windows_added_up() -> None:
    target = aten.col2im.default
    check_rule(target, *live(image(2, 12, 6)), [4, 6], [2, 2], [1, 1], [0, 0], [2, 2], tight=True)
    check_rule(target, *live(image(2, 12, 5)), [5, 4], [2, 3], [2, 1], [1, 0], [1, 2], tight=True)


def _both(target: Any, index: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return target(values[:, :4], 1, index, values[:, 4:])


def test_where_the_input_says_to_write() -> None:
    x, y, index = image(2, 4), image(2, 3, seed=1), torch.tensor([[2, 0, 3], [1, 2, 0]])
    for target in (aten.scatter.src, aten.scatter_add.default):
        frozen, output = freeze(target, Live(x, 0), 1, Live(index, 1), Live(y, 2))
        assert frozen.operands == (0, 2)
        assert_close(frozen.forward(x[None], y[None])[0], output)
        # Both operands as one vector: the operator is linear in it.
        run = functools.partial(_both, target, index)
        jacobian = torch.autograd.functional.jacobian(run, torch.cat([x, y], 1)).reshape(8, 14)
        targets = image(3, 2, 4, seed=9)
        pulled = torch.cat(frozen.reverse(targets), 2)
        assert_close(pulled, (targets.flatten(1) @ jacobian).view(3, 2, 7))
        boxes = frozen.reach(x.abs().expand(4, 2, 4), y.abs().expand(4, 2, 3))
        assert boxes.equal(torch.maximum(x.abs(), y.abs().amax(1, keepdim=True)).expand(4, 2, 4))
    frozen, output = freeze(aten.index_put.default, Live(x, 0), [Live(x > 0, 1)], torch.tensor(-torch.inf).double())
    assert frozen.operands == (0,) and frozen.forward(x[None])[0].equal(x.clamp_max(0))
    assert_close(frozen.mass(torch.where(x > 0, 0, x)[None]), torch.zeros(1, 2).double())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ((aten.index_copy.default, 0, torch.tensor([0]), image(1, 3)), "batch dimension"),
        ((aten.scatter.value, 0, torch.zeros(1, 1, dtype=torch.int64), 1.0), "batch dimension"),
        ((aten.index_put.default, [torch.tensor([0])], image(3)), "batch dimension"),
        ((aten.index_put.default, [None, torch.tensor([0])], Live(image(1), 1)), "one example to others"),
        ((aten.index_put.default, [None, Live(torch.tensor([0]), 1)], image(1)), "depends on the input"),
        ((aten.index_put.default, [None, torch.tensor([0])], image(1), True), "index_add"),
    ],
)
def test_writes_without_a_rule(call: tuple[Any, ...], words: str) -> None:
    target, *arguments = call
    with pytest.raises(NoRule, match=words):
        freeze(target, Live(image(2, 3), 0), *arguments)
