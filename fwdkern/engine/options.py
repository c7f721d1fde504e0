"""How a request wants to be served."""

from dataclasses import dataclass

import torch

from fwdkern.engine.memory import parse_bytes
from fwdkern.errors import InputError
from fwdkern.ops.backend import BACKENDS
from fwdkern.ops.gathered_gemm import PRECISIONS

_CHOICES = {
    "bias": ("uniform", "receptive_field", "separate"),
    "mode": ("auto", "forward", "reverse"),
    "layout": ("dense", "window"),
    "backend": ("auto", *BACKENDS),
    "storage": ("float32", "bfloat16"),
    "precision": PRECISIONS,
}


@dataclass(frozen=True)
class Options:
    """The keyword arguments that all requests share; ``memory`` in bytes bounds what is held beside the result,
    ``storage`` is the dtype of active rows, ``precision`` what a GPU may round their products' operands to."""

    bias: str
    mode: str
    layout: str
    backend: str
    memory: int
    strict: bool
    storage: torch.dtype
    precision: str


def parse_options(
    bias: str,
    mode: str,
    layout: str,
    backend: str,
    memory: int | str,
    strict: bool,
    storage: str = "float32",
    precision: str = "ieee",
) -> Options:
    """Check every choice by name.

    Raises:
        InputError: a value is not among the choices.
    """
    given = {
        "bias": bias,
        "mode": mode,
        "layout": layout,
        "backend": backend,
        "storage": storage,
        "precision": precision,
    }
    for name, value in given.items():
        if value not in _CHOICES[name]:
            raise InputError(f"{name}={value!r} is not one of {', '.join(map(repr, _CHOICES[name]))}")
    return Options(bias, mode, layout, backend, parse_bytes(memory), strict, getattr(torch, storage), precision)
