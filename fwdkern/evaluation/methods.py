"""The methods that can be evaluated, by the names that a user types."""

from collections.abc import Callable, Sequence

from torch import nn

from fwdkern import baselines
from fwdkern.baselines import Method
from fwdkern.errors import InputError
from fwdkern.saliency import RawRelevance, Saliency

METHODS: dict[str, Callable[..., Method]] = {"fwdkern": Saliency, "fwdkern-raw": RawRelevance, **baselines.METHODS}


def make_methods(model: nn.Module, names: Sequence[str]) -> dict[str, Method]:
    """The methods of these names, for one model."""
    unknown = [name for name in names if name not in METHODS]
    if unknown:
        raise InputError(f"There is no method {unknown[0]!r}; there are {', '.join(METHODS)}.")
    return {name: METHODS[name](model) for name in names}


def settings_of(method: Method) -> dict[str, object]:
    """A method's arguments, as they are recorded beside its figures."""
    return {
        name: value
        for name, value in sorted(vars(method).items())
        if isinstance(value, (bool, int, float, str, list)) and not name.startswith("_")
    }
