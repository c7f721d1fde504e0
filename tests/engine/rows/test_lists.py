import pytest
import torch

from fwdkern.engine.rows.lists import cut, list_rows


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
    assert (rows.row[~mask.flatten()] == -1).all()
    assert rows.whole == (0, height, 0, width)


@pytest.mark.parametrize("rectangle", [(0, 4, 0, 5), (1, 3, 2, 4), (3, 4, 4, 5), (0, 1, 0, 5)])
def test_cuts_are_renumbered(rectangle: tuple[int, int, int, int]) -> None:
    mask = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0)) < 0.5
    rows = list_rows(mask.flatten(), 3, (4, 5))
    window = cut(rows, rectangle)
    y0, y1, x0, x1 = rectangle
    own = torch.zeros_like(mask)
    own[:, y0:y1, x0:x1] = mask[:, y0:y1, x0:x1]
    small = list_rows(mask[:, y0:y1, x0:x1].flatten(), 3, (y1 - y0, x1 - x0))
    assert rows.unit[window.rows].tolist() == list_rows(own.flatten(), 3, (4, 5)).unit.tolist()
    assert torch.equal(window.offset, small.offset) and torch.equal(window.channel, small.channel)
