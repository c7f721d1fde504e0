"""Attention: its weights are frozen, whatever makes them."""

import pytest
import torch

from fwdkern.rules import Live, NoRule, find_rule
from fwdkern.rules.registry import Call
from tests.oracle import assert_close
from tests.rules.jacobian import check_frozen_factor, freeze, image, live

aten = torch.ops.aten
SDPA = aten.scaled_dot_product_attention.default


def _weights(q: torch.Tensor, k: torch.Tensor, mask: torch.Tensor | None = None, scale: float | None = None):
    scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype is torch.bool else scores + mask
    return scores.softmax(-1)


def _operands(queries: int, keys: int, heads: int = 2) -> tuple[torch.Tensor, ...]:
    return tuple(image(2, heads, n, d, seed=i) for i, (n, d) in enumerate(((queries, 3), (keys, 3), (keys, 5))))


@pytest.mark.parametrize(("queries", "keys"), [(4, 4), (3, 6), (1, 2), (5, 1)])
def test_plain(queries: int, keys: int) -> None:
    q, k, v = _operands(queries, keys)
    weights = _weights(q, k)
    check_frozen_factor(lambda own: weights @ own, SDPA, *live(q, k, v), own=2)


def test_scale_and_constant_sides() -> None:
    q, k, v = _operands(3, 4)
    weights = _weights(q, k, scale=0.3)
    check_frozen_factor(lambda own: weights @ own, SDPA, q, Live(k, 0), Live(v, 1), scale=0.3, own=1)
    check_frozen_factor(lambda own: weights @ own, SDPA, q, k, Live(v, 1), scale=0.3, own=0)
    with pytest.raises(NoRule, match="values do not depend"):
        freeze(SDPA, *live(q, k), v)


@pytest.mark.parametrize("shape", [(3, 4), (2, 1, 3, 4), (2, 2, 3, 4), (1, 1, 1, 4)])
@pytest.mark.parametrize("boolean", [True, False])
def test_masks(shape: tuple[int, ...], boolean: bool) -> None:
    q, k, v = _operands(3, 4)
    mask = image(*shape, seed=4)
    if boolean:
        mask = mask > 0
        mask[..., 0] = True
    weights = _weights(q, k, mask)
    check_frozen_factor(lambda own: weights @ own, SDPA, *live(q, k, v), mask, own=2)


def test_a_query_that_sees_nothing_gives_zeros() -> None:
    q, k, v = _operands(3, 4)
    mask = torch.ones(3, 4, dtype=torch.bool)
    mask[1] = False
    frozen, output = freeze(SDPA, *live(q, k, v), mask)
    assert_close(frozen.forward(v[None])[0], output)
    assert not output[:, :, 1].any()


@pytest.mark.parametrize(("queries", "keys"), [(4, 4), (3, 6), (6, 3)])
def test_causal(queries: int, keys: int) -> None:
    q, k, v = _operands(queries, keys)
    weights = _weights(q, k, torch.ones(queries, keys, dtype=torch.bool).tril())
    check_frozen_factor(lambda own: weights @ own, SDPA, *live(q, k, v), None, 0.0, True, own=2)
    frozen, _ = freeze(SDPA, *live(q, k, v), None, 0.0, True)
    boxes = torch.arange(keys).view(keys, 1).expand(4, 2, 2, keys, 5).float()
    latest = torch.arange(queries).clamp_max(keys - 1).float()
    assert frozen.reach(boxes).equal(latest.view(queries, 1).expand(4, 2, 2, queries, 5))


@pytest.mark.parametrize("causal", [True, False])
def test_grouped_queries(causal: bool) -> None:
    q = image(2, 6, 3, 3)
    _, k, v = _operands(3, 3)
    mask = torch.ones(3, 3, dtype=torch.bool).tril() if causal else None
    weights = _weights(q, k.repeat_interleave(3, 1), mask)
    check_frozen_factor(
        lambda own: weights @ own.repeat_interleave(3, 1),
        SDPA,
        *live(q, k, v),
        None,
        0.0,
        causal,
        enable_gqa=True,
        own=2,
    )


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (1, 2, 5, 3, 2)])
def test_windows(shape: tuple[int, ...]) -> None:
    q, k, v = (image(*shape, seed=i) for i in range(3))
    weights = _weights(q, k)
    check_frozen_factor(lambda own: weights @ own, SDPA, *live(q, k, v), own=2)


@pytest.mark.parametrize("dim", [1, -1])
def test_softmax_read_otherwise(dim: int) -> None:
    z = image(2, 4, 5)
    d = z - z.amax(dim, keepdim=True)
    ratio = torch.where(d == 0, torch.ones_like(d), torch.expm1(d) / d) * z.softmax(dim).amax(dim, keepdim=True)
    check_frozen_factor(lambda own: own * ratio, aten.softmax.int, Live(z, 0), dim, own=0)


def test_softmax_of_large_equal_and_masked_scores() -> None:
    z = image(2, 4, 5) * 300 - 1e4
    z[1, 2] = z[1, 3]
    z[0, 1:3] = -torch.inf
    frozen, output = freeze(aten.softmax.int, Live(z, 0), 1)
    assert frozen.offset is not None
    assert_close(frozen.forward(z.masked_fill(z == -torch.inf, 0)[None])[0] + frozen.offset, output, 1e-8)


def test_dropped_weights_have_no_rule() -> None:
    found = find_rule(SDPA)
    assert found is not None
    with pytest.raises(NoRule, match="at random"):
        found[1](Call(SDPA, (*live(*_operands(2, 2)), None, 0.5), {}))
