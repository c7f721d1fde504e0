"""Fully connected layers."""

import pytest
import torch

from fwdkern.rules import NoRule
from tests.rules.jacobian import check_rule, freeze, image, live

aten = torch.ops.aten


@pytest.mark.parametrize("shape", [(2, 5), (2, 3, 5), (2, 3, 2, 5)])
@pytest.mark.parametrize("bias", [None, image(4)])
def test_linear(shape: tuple[int, ...], bias: torch.Tensor | None) -> None:
    check_rule(aten.linear.default, *live(image(*shape)), image(4, 5), bias, tight=True)


def test_addmm() -> None:
    check_rule(aten.addmm.default, image(4), *live(image(2, 5)), image(5, 4), tight=True)


def test_what_is_not_linear_has_no_rule() -> None:
    a, b = live(image(2, 5), image(5, 5))
    with pytest.raises(NoRule, match="weight of a linear layer"):
        freeze(aten.linear.default, a, b)
    with pytest.raises(NoRule, match="alpha or beta"):
        freeze(aten.addmm.default, image(5), a, image(5, 5), beta=2)
