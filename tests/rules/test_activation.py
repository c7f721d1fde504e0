"""Piecewise linear activations on both sides of their kinks and on them; smooth ones everywhere."""

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


def test_random_slopes_have_no_rule() -> None:
    with pytest.raises(NoRule, match="random slopes"):
        freeze(aten.rrelu.default, *live(image(2, 3)), 0.1, 0.3, True)


def test_a_slope_that_depends_on_the_input_has_no_rule() -> None:
    x, slope = live(image(2, 3), image(3))
    with pytest.raises(NoRule, match="slope of prelu"):
        freeze(aten.prelu.default, x, slope)


SMOOTH: dict[str, tuple[Any, ...]] = {
    "tanh": (aten.tanh.default,),
    "sigmoid": (aten.sigmoid.default,),
    "gelu": (aten.gelu.default,),
    "gelu, tanh": (aten.gelu.default, {"approximate": "tanh"}),
    "silu": (aten.silu.default,),
    "hardswish": (aten.hardswish.default,),
    "hardsigmoid": (aten.hardsigmoid.default,),
    "mish": (aten.mish.default,),
    "erf": (aten.erf.default,),
    "celu": (aten.celu.default, 0.7),
    "elu": (aten.elu.default, 0.7),
    "selu": (aten.selu.default,),
    "softplus": (aten.softplus.default,),
    "softplus, beta": (aten.softplus.default, 3, 5),
    "log_sigmoid": (aten.log_sigmoid.default,),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", SMOOTH)
def test_ratio(name: str, dtype: torch.dtype) -> None:
    target, *arguments = SMOOTH[name]
    keywords = arguments.pop() if arguments and isinstance(arguments[-1], dict) else {}
    z = torch.cat([image(200) * 4, torch.logspace(-12, 1.5, 40), -torch.logspace(-12, 1.5, 40), torch.zeros(1)])
    z = z.to(dtype)[None]
    frozen, output = freeze(target, *live(z), *arguments, **keywords)
    offset = torch.zeros(()) if frozen.offset is None else frozen.offset
    epsilon = torch.finfo(dtype).eps
    torch.testing.assert_close(frozen.forward(z[None])[0] + offset, output, rtol=8 * epsilon, atol=8 * epsilon)
    # Near 0 the ratio is the derivative there, though f(z) and f(0) agree in nearly all digits.
    leaf = torch.zeros((), dtype=torch.float64, requires_grad=True)
    value = target(leaf, *arguments, **keywords)
    (slope,) = torch.autograd.grad(value, leaf)
    # An ELU has a kink at 0, where torch takes the derivative from the left.
    tiny = (z[0].abs() < 1e-6) & ((z[0] <= 0) | (name not in ("elu", "selu")))
    near = frozen.forward(torch.ones_like(z)[None])[0, 0][tiny].double()
    torch.testing.assert_close(near, slope.expand_as(near), rtol=1e-5, atol=0)
    assert frozen.reverse(z[None])[0].equal(frozen.forward(z[None]))
