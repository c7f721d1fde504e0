"""Whether maps sum to their units' values."""

import sys
import warnings

import torch
from torch import Tensor

from fwdkern.errors import CompletenessError, CompletenessWarning
from fwdkern.relevance import Relevance

# Largest error relative to the unit's value or the sum of its map's magnitudes, whichever is larger.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 5e-2, torch.bfloat16: 1e-1}
# The same for products whose operands tensor cores round.
PRECISION_TOLERANCE = {"ieee": 0.0, "tf32": 1e-2, "bf16": 1e-1}


def check_completeness(result: Relevance, sums: Tensor, magnitude: Tensor, tolerance: float, strict: bool) -> None:
    """Warn, or raise if ``strict``, where a map does not sum to its unit's value.

    ``sums`` and ``magnitude`` ``[B, K]`` are those of each map's elements and of their absolute values, as ``row_sums``
    computes them: rounding stays far below ``tolerance``; ``result.delta`` sums in float64.
    """
    error = result.outputs - sums
    rest = result.outside if result.bias_in_scores else result.bias
    if rest is not None:
        error = error - rest
    scale = torch.maximum(result.outputs.abs(), magnitude).clamp_min(torch.finfo(sums.dtype).tiny)
    relative = error.abs() / scale
    wrong = ~(relative <= tolerance)
    if not wrong.any():
        return
    example, row = wrong.nonzero()[0].tolist()
    message = (
        f"{int(wrong.sum())} of {wrong.numel()} maps of layer {result.layer!r} do not sum to their unit's value: "
        f"largest relative error {_largest(relative):.2g}, tolerance {tolerance:.0e}; the "
        f"first is input {example}, unit {_unit(result, example, row)}, value "
        f"{float(result.outputs[example, row]):.6g}, error {float(result.delta[example, row]):.3g}. Compute in float64 "
        "to tell rounding from a defect"
    )
    if strict:
        raise CompletenessError(message)
    warnings.warn(message, CompletenessWarning, stacklevel=_frames_to_caller())


def _frames_to_caller() -> int:
    """How many frames above the function that asks the caller of this package stands."""
    frame, count = sys._getframe(1), 1
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == "fwdkern":
        frame, count = frame.f_back, count + 1
    return count


def _largest(relative: Tensor) -> float:
    return float(relative.nan_to_num(torch.inf).max())


def _unit(result: Relevance, example: int, row: int) -> list[int] | int | str:
    """What a row is: coordinates, or a class where units are ``[B, K]`` classes."""
    if result.units.is_floating_point():
        return "a weighted sum"
    per_example = result.units.dim() == 3 or result.units.shape == result.outputs.shape
    return (result.units[example, row] if per_example else result.units[row]).tolist()
