"""Functions with jumps are bias mass; as factors they are gates."""

from typing import Any

import pytest
import torch
from torch import nn

import fwdkern
from fwdkern.rules import NoRule
from tests.oracle import assert_close, autograd
from tests.rules.jacobian import check_rule, freeze, image, live

aten = torch.ops.aten

STEPS: dict[str, tuple[Any, ...]] = {
    "sign": (aten.sign.default,),
    "floor": (aten.floor.default,),
    "round": (aten.round.default,),
    "floor_divide": (aten.div.Tensor_mode, 0.3, "floor"),
    "gt": (aten.gt.Scalar, 0),
    "argmax": (aten.argmax.default, 1),
}


@pytest.mark.parametrize("name", STEPS)
def test_steps(name: str) -> None:
    target, *arguments = STEPS[name]
    keywords = {"rounding_mode": arguments.pop()} if name == "floor_divide" else {}
    frozen, output = freeze(target, *live(image(2, 3, 4)), *arguments, **keywords)
    assert frozen.offset is output
    assert not frozen.forward(image(3, 2, 3, 4)).any() and frozen.forward(image(3, 2, 3, 4)).shape[1:] == output.shape
    assert not frozen.reverse(image(3, *output.shape))[0].any()
    assert not frozen.reach(image(4, 2, 3, 4)).any()


def test_remainders() -> None:
    for target, *arguments in ((aten.remainder.Scalar, 0.3), (aten.fmod.Scalar, 0.3), (aten.frac.default,)):
        check_rule(target, *live(image(2, 3, 4)), *arguments)


def test_a_change_of_type() -> None:
    frozen, output = freeze(aten._to_copy.default, *live(image(2, 3)), dtype=torch.float32)
    maps = frozen.forward(image(3, 2, 3))
    assert maps.dtype is output.dtype is torch.float32
    assert frozen.reverse(maps)[0].dtype is torch.float64
    whole, output = freeze(aten._to_copy.default, *live(image(2, 3)), dtype=torch.int64)
    assert whole.offset is output
    frozen, output = freeze(aten.type_as.default, *live(image(2, 3), image(2, 4).float()))
    assert frozen.operands == (0,) and frozen.forward(image(3, 2, 3)).dtype is output.dtype is torch.float32
    with pytest.raises(NoRule, match="constants"):
        freeze(aten.type_as.default, image(2, 3), *live(image(2, 3)))


def test_an_extreme_example_has_no_rule() -> None:
    with pytest.raises(NoRule, match="batch dimension"):
        freeze(aten.argmax.default, *live(image(2, 3)), 0)


class Switched(nn.Module):
    """Piecewise linear by comparisons, signs and roundings that switch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(2, 3, 3), nn.Linear(3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.conv(x)
        z = z * (z > 0.1) + 0.5 * z * (1 - (z > 0.1).to(z.dtype))
        z = z * z.detach().sign()
        return self.head(z.mean((2, 3)))


def test_factors_are_frozen() -> None:
    model, x = Switched().double().eval(), image(2, 2, 5, 5)
    expected = autograd(model, x)
    for mode in ("forward", "reverse"):
        found = fwdkern.fuse(model, x).attribute(x, "all", mode=mode, strict=True)
        assert_close(found.scores, expected.uniform)
