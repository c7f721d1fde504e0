"""One file per operator family: what its frozen coefficients are (design table of rules)."""

from fwdkern.rules import (
    activation,
    arithmetic,
    attention,
    convolution,
    extremum,
    interpolation,
    linear,
    matmul,
    normalisation,
    pooling,
    recurrent,
    reduction,
    reshape,
    scatter,
    selection,
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
    "attention",
    "convolution",
    "extremum",
    "find_rule",
    "interpolation",
    "known_operators",
    "linear",
    "matmul",
    "normalisation",
    "plain",
    "pooling",
    "recurrent",
    "reduction",
    "register",
    "register_smooth",
    "reshape",
    "scatter",
    "selection",
    "smooth",
    "steps",
]
