"""Largest, smallest and ordered values against their Jacobians, with ties and without."""

from typing import Any

import pytest
import torch

from fwdkern.rules import NoRule, extremum
from tests.rules.jacobian import check_rule, freeze, image, integers, live

aten = torch.ops.aten

LINES: dict[str, tuple[Any, ...]] = {
    "max": (extremum.max_values, 1),
    "max, kept": (extremum.max_values, -1, True),
    "min": (extremum.min_values, 2),
    "median": (extremum.median_values, 1, True),
    "kthvalue": (extremum.kth_values, 2, -1),
    "topk": (extremum.top_values, 2, 1),
    "topk, smallest": (extremum.top_values, 3, -1, False),
    "sort": (extremum.sorted_values, 1),
    "sort, descending": (extremum.sorted_values, -1, True),
    "amax": (aten.amax.default, [1]),
    "amax, all": (aten.amax.default, [1, 2, 3], True),
    "amin": (aten.amin.default, [-1, 2]),
}


@pytest.mark.parametrize("make", [image, integers])
@pytest.mark.parametrize("name", LINES)
def test_along_dimensions(name: str, make: Any) -> None:
    target, *arguments = LINES[name]
    check_rule(target, *live(make(2, 4, 3, 5)), *arguments)


@pytest.mark.parametrize("make", [image, integers])
@pytest.mark.parametrize("target", [aten.maximum.default, aten.minimum.default])
def test_of_two(target: Any, make: Any) -> None:
    a, b = live(make(2, 3, 4), make(2, 1, 4, seed=1))
    check_rule(target, a, b)
    check_rule(target, a, make(3, 1, seed=2))
    check_rule(target, make(2, 3, 4, seed=2), b)


def test_a_field_is_that_of_all_inputs() -> None:
    boxes = integers(4, 2, 3, 4).abs()
    for target, arguments in ((extremum.top_values, (2, 2)), (extremum.sorted_values, (2,))):
        frozen, output = freeze(target, *live(image(2, 3, 4)), *arguments)
        assert frozen.reach(boxes).equal(boxes.amax(3, keepdim=True).expand(4, *output.shape))


def test_an_order_of_examples_has_no_rule() -> None:
    x = live(image(2, 3))
    for call in ((extremum.max_values, 0), (extremum.top_values, 1, 0), (aten.amax.default, [0]), (aten.amin.default,)):
        with pytest.raises(NoRule, match="batch dimension"):
            freeze(call[0], *x, *call[1:])
