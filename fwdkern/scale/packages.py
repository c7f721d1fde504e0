"""Packages that only this folder needs, imported when they are used."""

import importlib
import os
from typing import Any

from fwdkern.errors import InputError

COMMAND = "pip install 'fwdkern[scale]'"


def need(module: str) -> Any:
    """Import a module of the extra ``scale``, or say how to install it."""
    # Ray asks whether it may report how it is used; a run is nobody else's business.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = (error.name or module).split(".")[0]
        raise InputError(f"Work at scale needs {package}, which is not installed; run: {COMMAND}") from error
