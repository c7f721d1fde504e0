"""Piecewise linear activations on both sides of their kinks and on them."""

from typing import Any

import pytest
import torch

from fwdkern.rules import NoRule
from tests.rules.jacobian import check_rule, freeze, image, integers, live

aten = torch.ops.aten

ACTIVATIONS: dict[str, tuple[Any, ...]] = {
    "relu": (aten.relu.default,),
    "relu6": (aten.relu6.default,),
    "hardtanh": (aten.hardtanh.default,),
    "hardtanh, bounds": (aten.hardtanh.default, -2, 1.5),
    "hardtanh, from zero": (aten.hardtanh.default, 0, 2),
    "hardtanh, from zero to a fraction": (aten.hardtanh.default, 0, 1.3),
    "leaky relu": (aten.leaky_relu.default,),
    "leaky relu, slope": (aten.leaky_relu.default, 0.3),
    "leaky relu, negative slope": (aten.leaky_relu.default, -0.5),
    "rrelu": (aten.rrelu.default, 0.1, 0.4),
    "prelu": (aten.prelu.default, torch.tensor([0.25]).double()),
    "prelu, channels": (aten.prelu.default, torch.tensor([0.25, -0.5, 2]).double()),
    "clamp": (aten.clamp.default, -1, 1),
    "clamp, lower": (aten.clamp.default, 1),
    "clamp, upper": (aten.clamp.default, None, 1),
    "clamp_min": (aten.clamp_min.default, 0),
    "clamp_max": (aten.clamp_max.default, -1),
    "threshold": (aten.threshold.default, 1, -3),
    "threshold, zero": (aten.threshold.default, 0, 0),
    "abs": (aten.abs.default,),
}


@pytest.mark.parametrize("make", [image, integers])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3)])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name: str, shape: tuple[int, ...], make: Any) -> None:
    target, *arguments = ACTIVATIONS[name]
    check_rule(target, *live(make(*shape) * 3), *arguments)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_reach_does_not_depend_on_the_gate(name: str) -> None:
    target, *arguments = ACTIVATIONS[name]
    frozen, _ = freeze(target, *live(image(2, 3, 4, 5)), *arguments)
    boxes = integers(4, 2, 3, 4, 5)
    assert frozen.reach(boxes).equal(boxes)


def test_keywords() -> None:
    check_rule(aten.clamp.default, *live(image(2, 3)), max=0.5)
    check_rule(aten.hardtanh.default, *live(image(2, 3)), max_val=0.5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("high", [1, 6, 7.0, 32, 255, 256])
def test_a_gate_closes_at_its_bound_and_not_one_number_before(high: float, dtype: torch.dtype) -> None:
    bound, zero = torch.tensor(high, dtype=dtype), torch.tensor(0, dtype=dtype)
    z = torch.stack([zero, bound / 2, torch.nextafter(bound, zero), bound, bound + 8])[None]
    frozen, _ = freeze(aten.hardtanh.default, *live(z), 0, high)
    assert frozen.scale.tolist() == [[False, True, True, False, False]]
    assert frozen.offset.tolist() == [[0, 0, 0, high, high]]


def test_random_slopes_have_no_rule() -> None:
    with pytest.raises(NoRule, match="random slopes"):
        freeze(aten.rrelu.default, *live(image(2, 3)), 0.1, 0.3, True)


def test_a_slope_that_depends_on_the_input_has_no_rule() -> None:
    x, slope = live(image(2, 3), image(3))
    with pytest.raises(NoRule, match="slope of prelu"):
        freeze(aten.prelu.default, x, slope)


def test_bounds_may_be_tensors_that_do_not_depend_on_the_input() -> None:
    x, low = live(image(2, 3, 4), image(4))
    check_rule(aten.clamp.Tensor, x, torch.tensor([-1.0, -0.5, 0, 0.1]).double(), torch.ones(3, 1).double())
    with pytest.raises(NoRule, match="bounds of a clamp"):
        freeze(aten.clamp.Tensor, x, low)


def test_what_stands_for_nan_is_bias_mass() -> None:
    z = torch.tensor([[1.0, torch.nan, -2.0, torch.inf]]).double()
    frozen, output = freeze(aten.nan_to_num.default, *live(z), 5.0)
    assert frozen.offset is not None
    assert (frozen.forward(torch.ones_like(z)[None])[0] * z.nan_to_num() + frozen.offset).equal(output)
    assert frozen.reverse(torch.ones_like(z)[None])[0].tolist() == [[[1, 0, 1, 0]]]
