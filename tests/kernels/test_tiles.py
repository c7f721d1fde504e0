"""The tables of tiles and the geometry of launches, as pure functions."""

from typing import Any

import pytest
import torch

from fwdkern.kernels import tiles
from fwdkern.kernels.launch import aligned, blocks
from fwdkern.ops.gathered_gemm import PRECISIONS
from tests.kernels.cases import TARGETS, cases
from tests.ops.problems import GemmProblem

CAPABILITIES = [*TARGETS.values(), (8, 6), (8, 9), (12, 0)]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("is_aligned", [False, True])
def test_every_call_gets_a_tile_of_the_table(precision: str, capability: tiles.Capability, is_aligned: bool) -> None:
    table = tiles.gemm_tiles(precision, capability, is_aligned)
    assert list(table) == sorted(table) and len(set(table)) == len(table)
    for segments in (1, 3, 196, 50176):
        for mean in (0, 1, 20, 77, 1000):
            for slices in (1, 63, 64, 65, 256, 1000):
                tile = tiles.gemm_tile(precision, capability, is_aligned, segments, segments * mean, slices, 512)
                assert tile in table
    for tile in table:
        # tl.dot multiplies powers of two from 16 on; a warpgroup multiplies 64 slices at least.
        for size in (tile.rows, tile.slices, tile.depth):
            assert size >= 16 and size & (size - 1) == 0
        assert tile.slices >= 64


def test_tile_follows_rows_slices_and_programs() -> None:
    def chosen(segments: int, mean: int, slices: int, channels: int = 256) -> tuple[int, int]:
        return tiles.gemm_tile("tf32", (9, 0), True, segments, segments * mean, slices, channels)[:2]

    heights = {5: 16, 16: 16, 17: 32, 32: 32, 33: 64, 64: 64, 65: 128, 256: 128}
    assert {mean: chosen(3136, mean, 256)[0] for mean in heights} == heights
    assert [chosen(3136, 40, slices)[1] for slices in (1, 64, 65, 128, 129, 2000)] == [64, 64, 128, 128, 256, 256]
    assert chosen(3136, 200, 256, channels=12)[0] == 16, "a segment has no more rows than channels"
    assert chosen(1, 300, 256, channels=1000) == (16, 64), "one position alone: the smallest programs"
    assert chosen(256, 60, 256) == (64, 256) and chosen(255, 60, 256) == (64, 128)


@pytest.mark.parametrize("bytes_per_value", [2, 4])
def test_map_tiles_move_four_vectors_a_thread(bytes_per_value: int) -> None:
    for slices in (1, 7, 64, 65, 200, 256, 257, 4096):
        tile = tiles.map_tile(slices, bytes_per_value)
        assert tile.rows * tile.slices * bytes_per_value == 4 * 16 * 32 * tile.warps
        assert tile.slices >= min(slices, 1024 // bytes_per_value)
        assert tile in tiles.map_tiles(bytes_per_value)


def test_all_tiles_are_compiled() -> None:
    compiled = {(case.target, case.precision, case.tile) for case in cases() if case.tile}
    for target, capability in TARGETS.items():
        for precision in PRECISIONS:
            for is_aligned in (False, True):
                table = tiles.gemm_tiles(precision, capability, is_aligned)
                assert {(target, precision, tile) for tile in table} <= compiled
    combined = {
        (case.target, tiles.map_tile(case.slices, getattr(torch, case.storage).itemsize))
        for case in cases()
        if case.op == "row_combine"
    }
    assert combined >= {(target, tile) for target in TARGETS for tile in tiles.map_tiles(4)}


def test_aligned_is_what_triton_can_know() -> None:
    storage = torch.empty(64, 64)
    assert aligned(storage, storage[:, :32], storage[1:, 16:48])
    assert not aligned(storage[:, :33])
    assert not aligned(storage[:, 1:33])
    assert not aligned(torch.empty(4, 72)[:, :64])
    assert not aligned(storage, torch.empty(4, 7))


def test_blocks() -> None:
    assert [blocks(count, 16) for count in (0, 1, 16, 17)] == [0, 1, 1, 2]


@pytest.mark.parametrize("backend", ["triton"])
def test_grids_come_from_sizes_alone(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Launches hold the most that rows could be, so that nobody needs to ask the device for their number."""
    from fwdkern.kernels import gathered_gemm as kernels

    grids: list[tuple[Any, ...]] = []

    class Recorder:
        def __init__(self, name: str) -> None:
            self.name = name

        def __getitem__(self, grid: tuple[int, ...]) -> Any:
            return lambda *arguments, **keywords: grids.append((self.name, *grid))

    for name in ("segments_kernel", "terms_kernel", "gemm_kernel"):
        monkeypatch.setattr(kernels, name, Recorder(name))
    monkeypatch.setattr(tiles, "gemm_tile", lambda *_: tiles.GemmTile(16, 64, 32, 4, 5))
    # 4 taps of 12 / 2 channels are 24 terms, kept as 32, of 12 bytes: 16 positions of 2 groups take 12 KiB.
    monkeypatch.setattr(tiles, "SCRATCH_BYTES", 30 * 2**10)
    problem = GemmProblem(12, 80, 100, 0.1, 0, positions=(6, 50), groups=2)
    problem.run(backend)
    assert grids == [
        ("segments_kernel", 6, 2),
        ("segments_kernel", 50, 2),
        ("terms_kernel", 64, 4),
        ("gemm_kernel", 64 * 3, 2),
        ("terms_kernel", 36, 4),
        ("gemm_kernel", 36 * 3, 2),
    ]
