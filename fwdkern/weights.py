"""Weights of models: from safetensors files, and a short name of them."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from fwdkern.errors import InputError


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a safetensors file into `model`, in place; names and shapes must match exactly.

    Half-precision files are converted to the model's dtype. Raises InputError that lists what does not fit.
    """
    if path.suffix != ".safetensors":
        raise InputError(
            f"{path} is not a .safetensors file; pickled checkpoints are not read, because unpickling runs "
            "code. Convert it with safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')."
        )
    if not path.is_file():
        raise InputError(f"There is no weights file {path}.")
    try:
        given = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as safetensors ({error}); is the file complete?") from error
    expected = model.state_dict()
    problems = _mismatches(expected, given)
    if problems:
        raise InputError(f"{path} does not fit the model: " + "; ".join(problems) + ".")
    model.load_state_dict(given, strict=True)


def weights_digest(model: nn.Module) -> str:
    """A short name of a model's weights, so that results of other ones are not mixed in."""
    sha = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        sha.update(name.encode())
        sha.update(tensor.detach().cpu().double().numpy().tobytes())
    return sha.hexdigest()[:16]


def _mismatches(expected: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> list[str]:
    # Torch fills in the counter of a batch norm, which weights converted from elsewhere often lack.
    missing = [key for key in expected if key not in given and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in given if key not in expected]
    shapes = [
        f"{key} is {list(given[key].shape)}, expected {list(expected[key].shape)}"
        for key in expected
        if key in given and given[key].shape != expected[key].shape
    ]
    problems = [
        f"{len(keys)} {what}: {_some(keys)}"
        for what, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if keys
    ]
    prefixes = {key.split(".", 1)[0] for key in given}
    if missing and len(prefixes) == 1 and all(key.partition(".")[2] in expected for key in given):
        problems.append(f"every name begins with {prefixes.pop()!r}: remove that prefix")
    return problems


def _some(names: list[str], limit: int = 6) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
