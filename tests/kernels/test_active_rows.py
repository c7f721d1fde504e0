"""Row lists in Triton's interpreter, between guards; their values are tested with the op."""

import pytest
import torch

from fwdkern.ops.active_rows import active_rows_reference
from tests.kernels.guards import Guards


@pytest.mark.parametrize("backend", ["triton"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 31), (65, 33), (130, 70)])
@pytest.mark.parametrize("density", [0.0, 0.4, 1.0])
def test_writes_inside_its_lists(backend: str, shape: tuple[int, int], density: float) -> None:
    from fwdkern.kernels import active_rows as kernels

    guards = Guards()
    gate = torch.rand(shape, generator=torch.Generator().manual_seed(0)) < density
    expected = active_rows_reference(gate)
    row_offset = guards.flat(torch.full((shape[1] + 1,), -7))
    row_channel = guards.flat(torch.full((len(expected[1]),), -7, dtype=torch.int32))
    kernels.count_rows(gate, row_offset)
    kernels.list_rows(gate, row_offset, row_channel)
    assert torch.equal(row_offset, expected[0]) and torch.equal(row_channel, expected[1])
    guards.check()
