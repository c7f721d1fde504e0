"""From a tape and a request to a result."""

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from fwdkern.engine.dense import forward_maps, receptive_boxes, reverse_maps, slice_bytes
from fwdkern.engine.features import Features
from fwdkern.engine.planner import make_plan, require_memory
from fwdkern.engine.tape import Tape
from fwdkern.engine.units import Units
from fwdkern.errors import CompletenessError, CompletenessWarning, InputError
from fwdkern.relevance import Relevance

# Largest completeness error relative to the unit's value or the sum of its map's magnitudes, whichever is larger.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 5e-2, torch.bfloat16: 1e-1}


@dataclass(frozen=True)
class Request:
    """What to compute for one step of a tape."""

    step: int
    units: Units
    layer: str


def attribute(tape: Tape, request: Request, features: Features, bias: str, mode: str, strict: bool) -> Relevance:
    """The maps of one layer's units, in whichever mode is cheaper or named."""
    units = request.units
    plan = make_plan(mode, features.count, units.count, slice_bytes(tape, [request.step]))
    if plan.mode == "forward":
        return attribute_forward(tape, [request], features, bias, strict)[0]
    x = tape.input
    scores, mass = _empty_result(tape, units, features)
    for start, stop, pulled, pulled_bias in reverse_maps(tape, request.step, units, plan.chunk):
        scores[:, start:stop] = features.contract(pulled, x)
        mass[:, start:stop] = pulled_bias.T
    return _finish(tape, request, features, scores, mass, bias, strict, "reverse")


def attribute_forward(
    tape: Tape, requests: list[Request], features: Features, bias: str, strict: bool
) -> list[Relevance]:
    """The maps of several layers' units in one pass of forward mode."""
    steps = list(dict.fromkeys(request.step for request in requests))
    plan = make_plan("forward", features.count, 1, slice_bytes(tape, steps))
    size = sum(r.units.count for r in requests) * features.count * len(tape.input) * tape.input.element_size()
    require_memory(size, "the maps of these units")
    results = [_empty_result(tape, request.units, features) for request in requests]
    for start, stop, maps in forward_maps(tape, features, steps, plan.chunk):
        for request, (scores, mass) in zip(requests, results, strict=True):
            rows = request.units.gather(maps[request.step])  # [slices + 1, B, K]
            scores[:, :, start:stop] = rows[:-1].permute(1, 2, 0)
            mass.copy_(rows[-1])
    return [
        _finish(tape, request, features, scores, mass, bias, strict, "forward")
        for request, (scores, mass) in zip(requests, results, strict=True)
    ]


def _empty_result(tape: Tape, units: Units, features: Features) -> tuple[Tensor, Tensor]:
    x = tape.input
    batch = x.shape[0]
    require_memory(batch * units.count * features.count * x.element_size(), "the maps of these units")
    return x.new_empty(batch, units.count, features.count), x.new_empty(batch, units.count)


def _finish(
    tape: Tape,
    request: Request,
    features: Features,
    scores: Tensor,
    mass: Tensor,
    bias: str,
    strict: bool,
    mode: str,
) -> Relevance:
    step, units = tape.steps[request.step], request.units
    if bias == "uniform":
        even = scores.new_ones(1, 1, _positions(tape.input)) / _positions(tape.input)
        scores += features.spread(even) * mass.unsqueeze(2)
    elif bias == "receptive_field":
        for example in range(len(scores)):
            inside = _inside_field(tape, request, example, scores.dtype)
            weights = features.spread(inside.unsqueeze(0))
            scores[example] += weights[example if len(weights) > 1 else 0] * mass[example].unsqueeze(1)
    elif bias != "separate":
        raise InputError(f'bias={bias!r} is not one of "uniform", "receptive_field", "separate"')
    result = Relevance(
        scores.unflatten(2, features.shape),
        mass,
        units.gather(step.value),
        units.index,
        request.layer,
        features.kind,
        mode,
        bias_in_scores=bias != "separate",
    )
    check_completeness(result, strict)
    return result


def _positions(x: Tensor) -> int:
    return x.shape[2:].numel() if x.dim() > 2 else x.shape[1]


def _inside_field(tape: Tape, request: Request, example: int, dtype: torch.dtype) -> Tensor:
    """Weights ``[K, N]`` that spread one unit's bias mass over its receptive field; over all of the input for a unit
    that sees none of it."""
    x = tape.input
    height, width = x.shape[2:] if x.dim() == 4 else (1, _positions(x))
    boxes = receptive_boxes(tape, [request.step])[request.step][:, example : example + 1]
    y0, x0, y1, x1 = union_boxes(request.units, boxes, example)
    row = torch.arange(height, device=x.device)[:, None]
    column = torch.arange(width, device=x.device)
    sides = [side[:, None, None] for side in (y0, x0, y1, x1)]
    inside = (row >= sides[0]) & (row < sides[2]) & (column >= sides[1]) & (column < sides[3])  # [K, H, W]
    inside |= ~inside.flatten(1).any(1)[:, None, None]
    weights = inside.flatten(1).to(dtype)
    return weights / weights.sum(1, keepdim=True)


def union_boxes(units: Units, boxes: Tensor, example: int = 0) -> Tensor:
    """Receptive fields ``[4, K]`` of the units from those of all, ``[4, 1, *shape]``; of a sum the hull."""
    if units.flat is None:
        flat = boxes.reshape(4, units.shape[0], -1)
        return torch.cat([flat[:2].amin(2), flat[2:].amax(2)])
    chosen = units.flat[example if len(units.flat) > 1 else 0]
    return boxes.reshape(4, -1)[:, chosen]


def _unit(result: Relevance, example: int, row: int) -> list[int] | int:
    per_example = result.units.shape == result.outputs.shape and len(result.units) == len(result.outputs)
    return (result.units[example, row] if per_example else result.units[row]).tolist()


def check_completeness(result: Relevance, strict: bool) -> None:
    """Warn, or raise if ``strict``, where a map does not sum to its unit's value."""
    tolerance = TOLERANCE[result.scores.dtype]
    magnitude = torch.cat([part.abs().flatten(2).sum(2) for part in result.scores.split(64, 1)], 1)
    scale = torch.maximum(result.outputs.abs(), magnitude).clamp_min(torch.finfo(result.scores.dtype).tiny)
    relative = result.delta.abs() / scale
    wrong = ~(relative <= tolerance)
    if not wrong.any():
        return
    example, row = wrong.nonzero()[0].tolist()
    message = (
        f"{int(wrong.sum())} of {wrong.numel()} maps of layer {result.layer!r} do not sum to their unit's value: "
        f"largest relative error {float(relative.nan_to_num(torch.inf).max()):.2g}, tolerance {tolerance:.0e} for "
        f"{result.scores.dtype}; the first is input {example}, unit {_unit(result, example, row)}, "
        f"value {float(result.outputs[example, row]):.6g}, error {float(result.delta[example, row]):.3g}. "
        "Compute in float64 to tell rounding from a defect"
    )
    if strict:
        raise CompletenessError(message)
    warnings.warn(message, CompletenessWarning, stacklevel=5)
