import pytest
import torch
from torch import Tensor

from fwdkern.ops import native, windows
from fwdkern.ops.active_rows import active_rows_reference

SEEDS = [0, torch.seed() % 2**31]


def random_list(channels: int, height: int, width: int, density: float, random: torch.Generator) -> tuple:
    return active_rows_reference(torch.rand(channels, height * width, generator=random) < density)


def rectangle_of(kind: str, height: int, width: int) -> tuple[int, int, int, int]:
    return {
        "whole": (0, height, 0, width),
        "inner": (height // 3, height - height // 4, width // 3, max(width - width // 4, width // 3 + 1)),
        "corner": (height - 1, height, width - 1, width),
        "rows": (0, 1, 0, width),
        "empty": (height // 2, height // 2, 0, width),
    }[kind]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["whole", "inner", "corner", "rows", "empty"])
@pytest.mark.parametrize("density", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("grid", [(1, 1), (1, 7), (6, 1), (9, 11)])
def test_window_rows(
    grid: tuple[int, int], density: float, kind: str, seed: int, native_library: object, poisoned: None
) -> None:
    height, width = grid
    offset, channel = random_list(5, height, width, density, torch.Generator().manual_seed(seed))
    inside = rectangle_of(kind, height, width)
    rows, local_offset, local_channel = windows.window_rows(offset, channel, width, inside)
    expected, expected_offset = [], [0]
    for y in range(inside[0], inside[1]):
        for x in range(inside[2], inside[3]):
            expected += range(int(offset[y * width + x]), int(offset[y * width + x + 1]))
            expected_offset.append(len(expected))
    assert (rows.tolist(), local_offset.tolist()) == (expected, expected_offset)
    assert local_channel.tolist() == channel[expected].tolist()
    assert (rows.dtype, local_offset.dtype, local_channel.dtype) == (torch.int64, torch.int64, torch.int32)
    reference = windows.window_rows_reference(offset, channel, width, inside)
    for part, twin in zip((rows, local_offset, local_channel), reference, strict=True):
        assert part.dtype == twin.dtype and torch.equal(part, twin)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("count", "wanted"), [(0, 0), (1, 1), (9, 0), (30, 12), (30, 30)])
@pytest.mark.parametrize("kept", [0.0, 0.5, 1.0])
def test_window_terms(count: int, wanted: int, kept: float, seed: int, native_library: object, poisoned: None) -> None:
    random = torch.Generator().manual_seed(seed)
    inputs = 17
    length = torch.randint(0, 5, (count,), generator=random)
    offset = torch.cat([torch.zeros(1, dtype=torch.int64), length.cumsum(0)])
    index = torch.randint(inputs, (int(offset[-1]),), generator=random, dtype=torch.int32)
    coefficient = torch.randn(len(index), generator=random)
    rows = torch.randperm(count, generator=random)[:wanted].sort().values
    chosen = torch.rand(inputs, generator=random) < kept
    local = torch.where(chosen, chosen.cumsum(0) - 1, -1).to(torch.int32)
    found = windows.window_terms(offset, index, coefficient, rows, local)
    expected_offset, expected = [0], []
    for row in rows.tolist():
        for term in range(int(offset[row]), int(offset[row + 1])):
            if local[index[term]] >= 0:
                expected.append((int(local[index[term]]), float(coefficient[term])))
        expected_offset.append(len(expected))
    assert found[0].tolist() == expected_offset
    assert list(zip(found[1].tolist(), found[2].tolist(), strict=True)) == expected
    reference = windows.window_terms_reference(offset, index, coefficient, rows, local)
    for part, twin in zip(found, reference, strict=True):
        assert part.dtype == twin.dtype and torch.equal(part, twin)


def scatter_by_hand(maps: Tensor, target: Tensor, tile: tuple, origin: Tensor, out: Tensor) -> None:
    for row, unit in enumerate(target.tolist()):
        for y in range(tile[0], tile[1]):
            for x in range(tile[2], tile[3]):
                v, u = y - int(origin[unit, 0]), x - int(origin[unit, 1])
                if unit >= 0 and 0 <= v < out.shape[1] and 0 <= u < out.shape[2]:
                    out[unit, v, u] = maps[row, (y - tile[0]) * (tile[3] - tile[2]) + x - tile[2]]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (3, 4), (9, 8)])
@pytest.mark.parametrize("tile", [(0, 1, 0, 1), (2, 5, 1, 6), (0, 9, 0, 8), (8, 9, 7, 8)])
@pytest.mark.parametrize("rows", [0, 1, 13])
def test_scatter_windows(
    rows: int, tile: tuple[int, int, int, int], size: tuple[int, int], threads: int, seed: int, native_library: object
) -> None:
    torch.set_num_threads(threads)
    random = torch.Generator().manual_seed(seed)
    units = 20
    maps = torch.randn(rows, (tile[1] - tile[0]) * (tile[3] - tile[2]), generator=random)
    target = torch.randperm(units, generator=random)[:rows]
    target[torch.rand(rows, generator=random) < 0.3] = -1
    last = torch.tensor([9, 8]) - torch.tensor(size)
    origin = (torch.rand(units, 2, generator=random) * (last + 1)).long()
    # What no row reaches must stay as it was.
    before = torch.randn(units, *size, generator=random)
    found, reference, expected = before.clone(), before.clone(), before.clone()
    windows.scatter_windows(maps, target, tile, origin, found)
    windows.scatter_windows_reference(maps, target, tile, origin, reference)
    scatter_by_hand(maps, target, tile, origin, expected)
    assert torch.equal(found, expected)
    assert torch.equal(reference, expected)


def test_scatter_reads_rows_of_a_wider_matrix(native_library: object) -> None:
    wide = torch.randn(4, 10)
    maps, out = wide[:, :6], torch.zeros(4, 2, 3)
    windows.scatter_windows(maps, torch.arange(4), (0, 2, 0, 3), torch.zeros(4, 2, dtype=torch.int64), out)
    assert torch.equal(out.flatten(1), maps)


def test_references_serve_without_the_library(monkeypatch: pytest.MonkeyPatch, native_library: object) -> None:
    random = torch.Generator().manual_seed(0)
    offset, channel = random_list(3, 4, 5, 0.5, random)
    inside = (1, 3, 0, 4)
    terms = (
        torch.tensor([0, 2, 3]),
        torch.tensor([1, 0, 2], dtype=torch.int32),
        torch.tensor([1.0, 2.0, 3.0]),
        torch.tensor([0, 1]),
        torch.tensor([0, -1, 1], dtype=torch.int32),
    )
    tile = (torch.randn(2, 4), torch.tensor([1, -1]), (0, 2, 0, 2), torch.zeros(2, 2, dtype=torch.int64))
    compiled, plain = torch.zeros(2, 2, 2), torch.zeros(2, 2, 2)
    with_library = [*windows.window_rows(offset, channel, 5, inside), *windows.window_terms(*terms)]
    windows.scatter_windows(*tile, compiled)
    monkeypatch.setattr(native, "load", lambda: (None, "removed by a test"))
    without = [*windows.window_rows(offset, channel, 5, inside), *windows.window_terms(*terms)]
    windows.scatter_windows(*tile, plain)
    assert all(torch.equal(a, b) for a, b in zip(with_library, without, strict=True))
    assert torch.equal(compiled, plain) and compiled[1].any()
