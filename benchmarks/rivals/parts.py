"""Contenders that do a part of the slices or of the units."""

from collections.abc import Callable

from torch import Tensor

from benchmarks.units import UnitMaps
from benchmarks.workload import Contender


def over_slices(name: str, problem: UnitMaps, pixels: range, variants: dict[str, Callable[[], Tensor]]) -> Contender:
    """Variants return [slices, units] for a range of pixels."""
    whole = len(pixels) == problem.pixels
    return Contender(
        name,
        "rival",
        variants,
        lambda result: problem.of_slices(result, pixels),
        problem.pixels / len(pixels),
        "" if whole else f"{len(pixels)} of {problem.pixels} slices",
    )


def over_units(name: str, problem: UnitMaps, units: Tensor, variants: dict[str, Callable[[], Tensor]]) -> Contender:
    """Variants return [k, pixels] for some of the active units [k]."""
    active = len(problem.active)
    return Contender(
        name,
        "rival",
        variants,
        lambda result: problem.of_units(result, units),
        active / len(units),
        "" if len(units) == active else f"{len(units)} of {active} active units",
    )
