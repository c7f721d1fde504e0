"""The methods that can be evaluated, by the names that a user types."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from fwdkern import baselines
from fwdkern.baselines import Method
from fwdkern.errors import InputError
from fwdkern.saliency import RawRelevance, Saliency

METHODS: dict[str, Callable[..., Method]] = {"fwdkern": Saliency, "fwdkern-raw": RawRelevance, **baselines.METHODS}


def make_methods(model: nn.Module, names: Sequence[str], black: float | Sequence[float] = 0.0) -> dict[str, Method]:
    """The methods of these names, for one model.

    Args:
        black: what a black pixel is in the model's inputs, in all channels or in each, for methods that hide pixels.
    """
    unknown = [name for name in names if name not in METHODS]
    if unknown:
        raise InputError(f"There is no method {unknown[0]!r}; there are {', '.join(METHODS)}.")
    return {name: METHODS[name](model, **hiding(name, black)) for name in names}


def hiding(name: str, black: float | Sequence[float]) -> dict[str, Any]:
    """The arguments that tell a method how black pixels look, if it asks for that."""
    return {"baselines": black} if "baselines" in inspect.signature(METHODS[name]).parameters else {}


def settings_of(method: Method) -> dict[str, object]:
    """A method's arguments, as they are recorded beside its figures."""
    return {
        name: value
        for name, value in sorted(vars(method).items())
        if isinstance(value, (bool, int, float, str, list)) and not name.startswith("_")
    }
