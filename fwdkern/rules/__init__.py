"""One file per operator family: what its frozen coefficients are (design table of rules)."""

from fwdkern.rules import (
    activation,
    arithmetic,
    attention,
    convolution,
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
)
from fwdkern.rules.frozen import Frozen
from fwdkern.rules.registry import Call, Live, NoRule, find_rule, known_operators, plain, register

__all__ = [
    "Call",
    "Frozen",
    "Live",
    "NoRule",
    "activation",
    "arithmetic",
    "attention",
    "convolution",
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
    "reshape",
    "scatter",
    "selection",
]
