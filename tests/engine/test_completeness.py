import warnings

import pytest
import torch
from torch import Tensor

from fwdkern.engine.completeness import TOLERANCE, check_completeness
from fwdkern.errors import CompletenessError, CompletenessWarning
from fwdkern.ops.row_sums import row_sums
from fwdkern.relevance import Relevance


def result(dtype: torch.dtype = torch.float32, separate: bool = False, units: Tensor | None = None) -> Relevance:
    """Two inputs, three units; every map sums to its unit's value up to one rounding."""
    scores = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    bias = torch.ones(2, 3, dtype=dtype)
    outputs = scores.double().sum((2, 3)).to(dtype) + (bias if separate else 0)
    units = torch.tensor([[0, 0, 0], [1, 2, 3], [4, 5, 6]]) if units is None else units
    return Relevance(scores, bias, outputs, units, "block.conv", "pixels", "forward", bias_in_scores=not separate)


def check(relevance: Relevance, strict: bool) -> None:
    sums, magnitude = row_sums(relevance.scores.view(6, -1))
    check_completeness(relevance, sums.view(2, 3), magnitude.view(2, 3), TOLERANCE[sums.dtype], strict)


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_exact_maps_pass(dtype: torch.dtype, separate: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(result(dtype, separate), strict=True)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_what_exceeds_the_tolerance_is_found(dtype: torch.dtype) -> None:
    fine, wrong = result(dtype), result(dtype)
    for part, factor in ((fine, 0.2), (wrong, 5)):
        part.outputs[1, 2] += factor * TOLERANCE[dtype] * part.scores[1, 2].abs().sum()
    check(fine, strict=True)
    with pytest.raises(CompletenessError, match=r"1 of 6 maps of layer 'block\.conv'.*input 1, unit \[4, 5, 6\]"):
        check(wrong, strict=True)
    with pytest.warns(CompletenessWarning, match="Compute in float64"):
        check(wrong, strict=False)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("where", ["scores", "outputs"])
def test_what_is_not_finite_is_found(where: str, value: float) -> None:
    broken = result()
    getattr(broken, where)[0, 1] = value
    with pytest.raises(CompletenessError, match=r"1 of 6 maps.*relative error inf.*unit \[1, 2, 3\]"):
        check(broken, strict=True)


def test_a_missing_bias_mass_is_found() -> None:
    broken = result(separate=True)
    broken.bias[0, 0] = 0
    with pytest.raises(CompletenessError, match="1 of 6"):
        check(broken, strict=True)


def test_what_lies_outside_a_window_counts() -> None:
    cropped = result()
    cropped.outside = torch.full((2, 3), 0.5)
    with pytest.raises(CompletenessError, match="6 of 6"):
        check(cropped, strict=True)
    cropped.outputs = cropped.outputs + 0.5
    cropped._delta = None
    check(cropped, strict=True)


def test_classes_are_named_by_example() -> None:
    wrong = result(units=torch.tensor([[7, 8, 9], [4, 5, 6]]))
    wrong.outputs[1, 0] += 100
    with pytest.raises(CompletenessError, match="input 1, unit 4,"):
        check(wrong, strict=True)


def test_maps_of_zeros_sum_to_zero() -> None:
    dead = result()
    dead.scores.zero_(), dead.outputs.zero_()
    check(dead, strict=True)
    dead.outputs[0, 0] = 1e-30
    with pytest.raises(CompletenessError):
        check(dead, strict=True)
