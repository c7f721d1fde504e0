"""The gate lets right maps through and no others."""

import pytest
import torch

from benchmarks.gate import WrongResult, check
from benchmarks.workload import Sample

_ALL = torch.ones(1, 1, dtype=torch.bool)


def sample(seed: int = 0, bias: bool = True) -> Sample:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(4, 25, generator=generator)
    return Sample(maps, _ALL, torch.randn(4, generator=generator) if bias else None)


def test_equal_maps_have_error_0() -> None:
    assert check(sample(), [sample()], 1e-6) == 0


def test_error_is_a_share_of_the_largest_entry() -> None:
    right = sample()
    maps = right.maps.clone()
    maps[2, 7] += 0.01 * maps[2].abs().max()
    assert check(Sample(maps, _ALL), [right], 0.02) == pytest.approx(0.01, rel=1e-4)
    with pytest.raises(WrongResult, match="above the tolerance of 1e-03"):
        check(Sample(maps, _ALL), [right], 1e-3)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_number_that_is_none_is_wrong(value: float) -> None:
    maps = sample().maps
    maps[0, 0] = value
    with pytest.raises(WrongResult):
        check(Sample(maps, _ALL), [sample()], 1e-3)


def test_a_wrong_bias_mass_is_wrong() -> None:
    right = sample()
    assert right.bias is not None
    with pytest.raises(WrongResult):
        check(Sample(right.maps, _ALL, right.bias + 1), [right], 1e-3)


def test_only_what_is_covered_counts_but_something_must_be() -> None:
    maps, covered = sample().maps, torch.zeros(1, 25, dtype=torch.bool)
    maps[:, 5:] = 0
    covered[:, :5] = True
    assert check(Sample(maps, covered), [sample()], 1e-6) == 0
    with pytest.raises(WrongResult, match="none of the sampled maps"):
        check(Sample(maps, torch.zeros(1, 1, dtype=torch.bool)), [sample()], 1e-6)


def test_each_map_may_be_near_another_reference() -> None:
    first, second = sample(0), sample(1)
    mixed = Sample(torch.cat([first.maps[:2], second.maps[2:]]), _ALL)
    assert check(mixed, [first, second], 1e-6) == 0
    with pytest.raises(WrongResult):
        check(mixed, [first], 1e-3)
