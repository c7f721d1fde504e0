"""The bootstrap interval."""

import numpy as np
import pytest
import torch

from fwdkern.errors import InputError
from fwdkern.metrics import bootstrap


def test_shares_have_the_quantiles_of_the_binomial_distribution() -> None:
    # With p = 1/2 and n = 10: P(X <= 1) = .011, P(X <= 2) = .055, so the 2.5 % quantile is 2, and 8 by symmetry.
    assert bootstrap(torch.tensor([0.0] * 5 + [1.0] * 5)) == pytest.approx((0.2, 0.8))
    # P(X <= 2) = .055, P(X <= 3) = .172: the 10 % quantile is 3.
    assert bootstrap(torch.tensor([0.0] * 5 + [1.0] * 5), confidence=0.8) == pytest.approx((0.3, 0.7))


def test_many_values_have_the_quantiles_of_the_normal_distribution() -> None:
    values = torch.randn(500, generator=torch.Generator().manual_seed(1))
    mean, error = values.mean().item(), values.std(correction=0).item() / 500**0.5
    low, high = bootstrap(values)
    assert low == pytest.approx(mean - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(mean + 1.96 * error, abs=0.1 * error)


def test_the_seed_decides_and_nan_is_left_out() -> None:
    values = np.random.default_rng(0).normal(size=30)
    assert bootstrap(values, seed=3) == bootstrap(values, seed=3) != bootstrap(values, seed=4)
    assert bootstrap(np.append(values, np.nan), seed=3) == bootstrap(values, seed=3)
    assert bootstrap(torch.tensor([2.5])) == (2.5, 2.5)


@pytest.mark.parametrize(
    "values, confidence, message",
    [
        (torch.zeros(0), 0.95, "there is no mean"),
        (torch.tensor([torch.nan]), 0.95, "there is no mean"),
        (torch.zeros(2, 2), 0.95, r"must be \[n\]"),
        (torch.zeros(2), 1.0, "confidence"),
        (torch.zeros(2), 95, "confidence"),
    ],
)
def test_bad_input(values: torch.Tensor, confidence: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        bootstrap(values, confidence)
