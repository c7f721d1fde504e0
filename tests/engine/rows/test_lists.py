import pytest
import torch

from fwdkern.engine.rows.lists import list_rows


@pytest.mark.parametrize("density", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 4, 5), (7, 1, 1), (2, 9, 1)])
def test_rows_are_units_by_position_then_channel(shape: tuple[int, int, int], density: float) -> None:
    channels, height, width = shape
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(0)) < density
    rows = list_rows(mask.flatten(), channels, (height, width))
    expected = [
        (c * height + y) * width + x
        for y in range(height)
        for x in range(width)
        for c in range(channels)
        if mask[c, y, x]
    ]
    assert rows.unit.tolist() == expected and len(rows) == len(expected)
    assert [int(rows.row[unit]) for unit in expected] == list(range(len(expected)))
    assert (rows.row[:-1][~mask.flatten()] == -1).all() and int(rows.row[-1]) == -1
    assert rows.whole == (0, height, 0, width)
