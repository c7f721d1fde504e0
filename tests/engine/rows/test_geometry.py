import itertools

import pytest
import torch

from fwdkern.engine.rows.geometry import Geometry, mirrored_taps, taps

GEOMETRIES = [
    Geometry((1, 1), (1, 1), (0, 0), (1, 1)),
    Geometry((3, 3), (1, 1), (1, 1), (1, 1)),
    Geometry((3, 2), (2, 3), (0, 1), (2, 1)),
    Geometry((2, 3), (3, 1), (1, 2), (1, 3)),
    Geometry((1, 1), (2, 2), (0, 0), (1, 1)),
]
INPUTS = [(0, 9, 0, 8), (2, 7, 3, 4), (0, 1, 0, 8), (3, 3, 0, 8)]
OUTPUTS = [(0, 4, 0, 3), (1, 2, 0, 3), (0, 9, 0, 8)]


def read(geometry: Geometry, q: tuple[int, int], tap: tuple[int, int]) -> tuple[int, int]:
    y, x = (
        q[axis] * geometry.stride[axis] - geometry.padding[axis] + tap[axis] * geometry.dilation[axis]
        for axis in (0, 1)
    )
    return y, x


def place(position: tuple[int, int], inside: tuple[int, int, int, int]) -> int:
    y, x = position
    if not (inside[0] <= y < inside[1] and inside[2] <= x < inside[3]):
        return -1
    return (y - inside[0]) * (inside[3] - inside[2]) + x - inside[2]


def positions(inside: tuple[int, int, int, int]) -> list[tuple[int, int]]:
    return list(itertools.product(range(inside[0], inside[1]), range(inside[2], inside[3])))


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("outputs", OUTPUTS)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_taps_by_hand(geometry: Geometry, outputs: tuple, inputs: tuple) -> None:
    every = list(itertools.product(*map(range, geometry.kernel)))
    expected = [[place(read(geometry, q, tap), inputs) for tap in every] for q in positions(outputs)]
    table = taps(geometry, outputs, inputs)
    assert table.dtype is torch.int32 and table.is_contiguous()
    assert table.tolist() == expected


@pytest.mark.parametrize("inputs", INPUTS[:-1])
@pytest.mark.parametrize("outputs", [*OUTPUTS, (2, 2, 0, 3)])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_mirrored_taps_by_hand(geometry: Geometry, outputs: tuple, inputs: tuple) -> None:
    every = list(itertools.product(*map(range, geometry.kernel)))
    readers = {(read(geometry, q, tap), tap): place(q, outputs) for q in positions(outputs) for tap in every}
    expected = [[readers.get((p, tap), -1) for tap in every] for p in positions(inputs)]
    table = mirrored_taps(geometry, inputs, outputs)
    assert table.dtype is torch.int32 and table.is_contiguous()
    assert table.tolist() == expected
