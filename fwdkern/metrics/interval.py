"""How far a mean over examples can be trusted."""

import numpy as np
from torch import Tensor

from fwdkern.errors import InputError

# Indices that are drawn at a time.
_DRAWN = 1_000_000


def bootstrap(
    values: Tensor | np.ndarray, confidence: float = 0.95, seed: int = 0, resamples: int = 10_000
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean (Efron & Tibshirani 1993, chapter 13).

    Two methods on the same images are compared by the interval of ``first.values() - second.values()``.

    Args:
        values: ``[n]``, one for each example; NaN, as in ``Metric.values``, is left out.
        confidence: the share of resampled means that the interval holds.
        seed: of the resampling.
        resamples: how many means are drawn.

    Returns:
        The interval's lower and upper end.
    """
    given = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, dtype=np.float64)
    if given.ndim != 1:
        raise InputError(f"values must be [n], got {list(given.shape)}")
    given = given[~np.isnan(given)]
    if not given.size:
        raise InputError("values hold no number but NaN: there is no mean")
    if resamples < 1:
        raise InputError(f"resamples={resamples} must be at least 1")
    if not 0 < confidence < 1:
        raise InputError(f"confidence={confidence} must lie between 0 and 1")
    random = np.random.default_rng(seed)
    parts = max(1, resamples * given.size // _DRAWN)
    counts = np.diff(np.linspace(0, resamples, parts + 1).astype(int))
    means = np.concatenate([given[random.integers(given.size, size=(n, given.size))].mean(1) for n in counts])
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
