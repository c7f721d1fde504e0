"""Sums and means."""

from typing import Any

import pytest
import torch

from fwdkern.rules import NoRule
from tests.rules.jacobian import check_frozen_factor, check_rule, freeze, image, live

aten = torch.ops.aten


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("dims", [[1], [-1], [2, 3], [3, 1], [1, 2, 3], [-2, -1]])
@pytest.mark.parametrize("target", [aten.mean.dim, aten.sum.dim_IntList])
def test_reduction(target: Any, dims: list[int], keep: bool) -> None:
    check_rule(target, *live(image(2, 3, 4, 5)), dims, keep, tight=True)


@pytest.mark.parametrize("target", [aten.mean.dim, aten.sum.dim_IntList])
def test_the_batch_is_not_reduced(target: Any) -> None:
    for dims in ([0], [-2], [0, 1]):
        with pytest.raises(NoRule, match="batch dimension"):
            freeze(target, *live(image(2, 3)), dims)
    with pytest.raises(NoRule, match="batch dimension"):
        freeze(aten.sum.default, *live(image(2, 3)))


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("dims", [[-1], [1, 2]])
@pytest.mark.parametrize("kept", [True, False])
def test_vector_norms(order: int, dims: list[int], kept: bool) -> None:
    x = image(2, 3, 4)
    x[0, 1] = 0
    length = x.norm(order, dims, keepdim=True)
    weights = x.sign() if order == 1 else torch.where(length == 0, 0, x / length)
    target = aten.linalg_vector_norm.default
    check_frozen_factor(lambda own: (own * weights).sum(dims, kept), target, *live(x), order, dims, kept, own=0)
    with pytest.raises(NoRule, match="order"):
        freeze(target, *live(x), 3, dims, kept)
