"""Answers as safetensors: arrays, and all that is told about them as JSON in the header. Nothing is pickled."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors.numpy import save

Answer = tuple[dict[str, np.ndarray], dict[str, Any]]


def pack(arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> bytes:
    """Serialise arrays (float32, uint8, int64) and JSON."""
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, {"about": json.dumps(about)})
