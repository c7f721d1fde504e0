"""Tensors of a file as arrays, with nothing read from outside it."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fwdkern.errors import InputError

# Entries of any one tensor that is read, or made from the others while a file is read.
MOST_ENTRIES = 2**28


def to_array(tensor: Any, what: str) -> np.ndarray:
    """A TensorProto as an array.

    Raises InputError for data outside the file, unknown types, sizes that do not fit the data, and NaN.
    """
    from onnx import TensorProto, numpy_helper

    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        raise InputError(
            f"{what} lies outside the ONNX file, which is not read; save the model as one file "
            "(torch.onnx.export(..., external_data=False), or onnx.save(onnx.load(file), one_file))"
        )
    sizes = list(tensor.dims)
    if any(size < 0 for size in sizes) or math.prod(sizes) > MOST_ENTRIES:
        raise InputError(f"{what} has shape {sizes}; at most {MOST_ENTRIES} entries are read")
    if tensor.data_type == TensorProto.STRING:
        raise InputError(f"{what} holds text; numbers are read")
    try:
        array = np.asarray(numpy_helper.to_array(tensor)).reshape(sizes)
    except Exception as error:  # a dozen types, by what is wrong with the bytes
        raise InputError(f"{what} of shape {sizes} cannot be read ({_first_line(error)})") from error
    if array.dtype.name == "bfloat16":
        array = array.astype(np.float32)
    if array.dtype.kind not in "fiub":
        raise InputError(f"{what} holds {array.dtype}, which is not read")
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise InputError(f"{what} holds NaN")
    return array


def to_tensor(array: np.ndarray) -> Tensor:
    """An array as a tensor of its own memory; whole numbers that torch cannot compute with become int64."""
    if array.dtype == object:
        array = to_numbers(array)
    if array.dtype in (np.uint16, np.uint32, np.uint64):
        array = array.astype(np.int64)
    return torch.from_numpy(np.array(array))


def to_numbers(array: np.ndarray) -> np.ndarray:
    """An array of Python numbers in a type of its own."""
    return np.array(array.tolist(), dtype=np.float32 if any(isinstance(v, float) for v in array.flat) else np.int64)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
