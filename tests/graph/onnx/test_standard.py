"""The standard's own examples of its operators: the numbers that it gives, or an error that says what is not read."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases

from fwdkern.errors import FwdkernError
from fwdkern.graph.onnx import read_onnx
from tests.graph.onnx.files import save

# The expected numbers of this one are those of another formula, which differ in the fifth digit.
ROUNDED = {"test_averagepool_2d_ceil_last_window_starts_on_pad"}


def with_one_input(case: Any) -> tuple[onnx.ModelProto, np.ndarray] | None:
    """The example with its first input of numbers open and the others constant; None where it has no such input."""
    values = dict(zip((given.name for given in case.model.graph.input), case.data_sets[0][0], strict=False))
    arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    open_one = next((name for name, value in arrays.items() if value.dtype == np.float32 and value.ndim), None)
    if open_one is None or len(arrays) < len(values):
        return None
    proto = onnx.ModelProto()
    proto.CopyFrom(case.model)
    kept = [given for given in proto.graph.input if given.name == open_one]
    del proto.graph.input[:], proto.graph.output[1:]
    proto.graph.input.extend(kept)
    proto.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in arrays.items() if name != open_one
    )
    return proto, arrays[open_one]


@pytest.mark.filterwarnings("ignore")
def test_examples(tmp_path: Path) -> None:
    right, wrong = 0, []
    for case in collect_testcases(None):
        example = with_one_input(case)
        expected = case.data_sets[0][1][0]
        if example is None or not isinstance(expected, np.ndarray) or case.name in ROUNDED:
            continue
        try:
            found = read_onnx(save(example[0], tmp_path))(torch.from_numpy(example[1].copy())).numpy()
        except FwdkernError:
            continue
        if found.shape == expected.shape and np.allclose(found, expected, 1e-4, 1e-5, equal_nan=True):
            right += 1
        else:
            wrong.append(case.name)
    assert not wrong
    assert right > 500
