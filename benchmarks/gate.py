"""No speed without a right result."""

import torch
from torch import Tensor

from benchmarks.workload import Sample

# A map far smaller than the others is judged on this share of the largest one's scale.
_FLOOR = 1e-3


class WrongResult(Exception):
    """A contender's maps are not the reference's; the message says by how much."""


def check(sample: Sample, references: list[Sample], tolerance: float) -> float:
    """Largest error of the sampled maps against the nearest reference of each, as a share of its largest entry.

    The bias mass, where there is one, is compared on the scale of the sum of its map's magnitudes.

    Raises:
        WrongResult: the error is above the tolerance, is not a number, or nothing is covered.
    """
    if not sample.covered.any():
        raise WrongResult("it computes none of the sampled maps")
    errors = torch.stack([_errors(sample, reference) for reference in references])  # [references, n]
    error = errors.amin(0).max()
    # Written so that NaN is wrong.
    if not bool(error <= tolerance):
        raise WrongResult(f"its error is {error:.2g} of the largest entry, above the tolerance of {tolerance:.0e}")
    return float(error)


def _errors(sample: Sample, reference: Sample) -> Tensor:
    """Of each map, [n]."""
    expected = reference.maps.double()
    largest = expected.abs().amax(1)
    difference = (sample.maps.double() - expected).abs().masked_fill(~sample.covered, 0)
    errors = difference.amax(1) / largest.clamp_min(_FLOOR * float(largest.max()))
    if sample.bias is None or reference.bias is None:
        return errors
    bias = reference.bias.double()
    magnitude = torch.maximum(bias.abs(), expected.abs().sum(1))
    return torch.maximum(errors, (sample.bias.double() - bias).abs() / magnitude)
