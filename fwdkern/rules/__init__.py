"""One file per operator family: what its frozen coefficients are (design table of rules)."""

from fwdkern.rules import (
    activation,
    arithmetic,
    convolution,
    extremum,
    interpolation,
    linear,
    normalisation,
    pooling,
    recurrent,
    reduction,
    reshape,
    scatter,
    smooth,
    steps,
)
from fwdkern.rules.frozen import Frozen
from fwdkern.rules.registry import Call, Live, NoRule, find_rule, known_operators, plain, register
from fwdkern.rules.smooth import register_smooth

__all__ = [
    "Call",
    "Frozen",
    "Live",
    "NoRule",
    "activation",
    "arithmetic",
    "convolution",
    "extremum",
    "find_rule",
    "interpolation",
    "known_operators",
    "linear",
    "normalisation",
    "plain",
    "pooling",
    "recurrent",
    "reduction",
    "register",
    "register_smooth",
    "reshape",
    "scatter",
    "smooth",
    "steps",
]
