"""Sums, means and what is like them."""

from typing import Any

import pytest
import torch

from fwdkern.rules import NoRule
from tests.oracle import assert_close
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


def test_running_sums() -> None:
    for dim in (1, 2, -1):
        check_rule(aten.cumsum.default, *live(image(2, 3, 4)), dim, tight=True)
    counts = torch.ones(2, 3, dtype=torch.int64)
    frozen, output = freeze(aten.cumsum.default, *live(counts), 1)
    assert frozen.offset is output and not frozen.forward(image(5, 2, 3)).any()
    with pytest.raises(NoRule, match="batch dimension"):
        freeze(aten.cumsum.default, *live(image(2, 3)), 0)


@pytest.mark.parametrize("dims", [[-1], [1, 2]])
@pytest.mark.parametrize("kept", [True, False])
def test_log_sum_exp(dims: list[int], kept: bool) -> None:
    z = image(2, 3, 4)
    p = (z - z.logsumexp(dims, True)).exp()
    target = aten.logsumexp.default
    check_frozen_factor(lambda own: (own * p).sum(dims, kept), target, *live(z), dims, kept, own=0)
    check_rule(target, *live(z), dims, kept, tight=True)  # its weights are also its derivative


def test_log_softmax_inside() -> None:
    check_rule(aten.log_softmax.int, *live(image(2, 3, 4)), 1, tight=True)
    check_rule(aten._log_softmax.default, *live(image(2, 3, 4)), -1, False, tight=True)


def test_scores_under_a_mask() -> None:
    z = image(2, 3, 4)
    z[:, :, 1] = -torch.inf
    z[0, 0] = -torch.inf
    frozen, output = freeze(aten.logsumexp.default, *live(z), [2])
    assert frozen.offset is not None and output[0, 0] == frozen.offset[0, 0] == -torch.inf
    found = frozen.forward(z[None])[0] + frozen.offset
    assert_close(found.flatten()[1:], output.flatten()[1:])
    frozen, output = freeze(aten.log_softmax.int, *live(z[1:]), 2)
    assert frozen.offset is not None
    found = frozen.forward(z[None, 1:])[0] + frozen.offset
    assert found.isneginf().equal(output.isneginf())
    assert_close(found[..., [0, 2, 3]], output[..., [0, 2, 3]])
