"""The methods that the page offers, and their parameters with defaults, read from their signatures."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from fwdkern.baselines import CONTROLS, Method
from fwdkern.errors import InputError
from fwdkern.evaluation.methods import METHODS, hiding

_LABELS = {
    "fwdkern": "Forward relevance, saliency",
    "gradcam": "GradCAM",
    "gradcam++": "GradCAM++",
    "mask": "Mask",
    "input-x-gradient": "Input × gradient",
    "smoothgrad": "SmoothGrad",
    "all-ones": "All ones (control)",
    "centre-gaussian": "Centre Gaussian (control)",
    "random": "Random (control)",
}
_SLOW = ("mask",)


def described() -> list[dict[str, Any]]:
    """Name, label and parameters of every method; the raw relevance map is shown by itself and is not among them."""
    return [
        {
            "name": name,
            "label": label,
            "slow": name in _SLOW,
            "control": name in CONTROLS,
            "parameters": _parameters(name),
        }
        for name, label in _LABELS.items()
    ]


def make(
    name: str,
    model: nn.Module,
    given: dict[str, Any],
    black: Sequence[float],
    progress: Callable[[int, int], None],
) -> Method:
    """A method with some of its parameters changed; raises InputError for unknown names and values of another kind.

    black: what a black pixel is in the model's inputs, in each channel.
    """
    if name not in _LABELS:
        raise InputError(f"There is no method {name!r}; there are {', '.join(_LABELS)}.")
    known = {parameter["name"]: parameter for parameter in _parameters(name)}
    values = hiding(name, black)
    for key, value in given.items():
        if key not in known:
            raise InputError(f"{name} has no parameter {key!r}; it has {', '.join(known) or 'none'}.")
        values[key] = _converted(name, known[key], value)
    if "progress" in inspect.signature(METHODS[name]).parameters:
        values["progress"] = progress
    return METHODS[name](model, **values)


def _parameters(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for parameter in inspect.signature(METHODS[name]).parameters.values():
        default = parameter.default
        if parameter.name == "layer":
            found.append({"name": "layer", "kind": "layer", "default": ""})
        elif isinstance(default, (bool, int, float)) and parameter.name != "baselines":
            found.append({"name": parameter.name, "kind": type(default).__name__, "default": default})
    return found


def _converted(method: str, parameter: dict[str, Any], value: Any) -> Any:
    kind, name = parameter["kind"], parameter["name"]
    if kind == "layer" and isinstance(value, str):
        return value or None
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind in ("int", "float") and isinstance(value, (int, float)) and not isinstance(value, bool):
        if kind == "float":
            return float(value)
        if value == int(value) and abs(value) <= 100_000:
            return int(value)
    raise InputError(f"{method}: {name}={value!r} is not what it takes, {kind}.")
