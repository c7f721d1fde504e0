"""Every tile number of the Triton kernels, as pure functions of a call's sizes.

None of these numbers has been timed on a GPU. They follow from counting: what fills the tensor core's fixed tile, what
fits into registers and shared memory without spills (both asserted in tests/kernels), and how often an operand is read.
"""

from typing import NamedTuple

Precision = str  # one of fwdkern.ops.gathered_gemm.PRECISIONS
Capability = tuple[int, int]  # compute capability, as (9, 0)

# Scratch of one call of gathered_gemm: more positions than fit are taken in several launches.
SCRATCH_BYTES = 64 * 2**20
# Programs that keep a large GPU busy: two on each of about 130 multiprocessors.
ENOUGH_PROGRAMS = 256


class GemmTile(NamedTuple):
    """A program computes ``rows`` x ``slices`` outputs, ``depth`` terms at a time."""

    rows: int
    slices: int
    depth: int
    warps: int
    stages: int


class MapTile(NamedTuple):
    """A program of a memory-bound kernel computes ``rows`` x ``slices`` outputs."""

    rows: int
    slices: int
    warps: int


# Slices are the M of the matrix product, output rows its N: wgmma wants 64, 128, ... of M but any multiple of 8 of N,
# and it is the rows that are few (a position has channels x density of them). 16-byte copies need the slices
# contiguous, tf32 wgmma wants M's operand contiguous along the depth; taking it from registers serves both.
_ROWS = (16, 32, 64)
_PLAIN = tuple(GemmTile(rows, 64, 16, 4, 3) for rows in _ROWS)
# For compute capability 8.0 triton 3.6 spills 64 x 64 on 4 warps, and 8 warps store fewer than 16 bytes at a time.
_PLAIN_EARLIER = _PLAIN[:-1]
# Terms pass two loads after each other, list then operand: of 5 stages 2 hold lists and 2 operands.
_WGMMA = (
    *(GemmTile(rows, slices, 32, max(4, slices // 32), 5) for rows in _ROWS for slices in (64, 128, 256)),
    GemmTile(128, 64, 32, 4, 5),
    # 128 x 256 spills.
    GemmTile(128, 128, 32, 8, 5),
)
# Inside the 99 KB of shared memory that compute capabilities 8.6, 8.9 and 12.0 have; 128 x 128 spills.
_MMA_SYNC = (
    *(GemmTile(rows, slices, 32, 4, 4) for rows in (16, 32) for slices in (64, 128)),
    GemmTile(64, 64, 32, 4, 4),
    GemmTile(64, 128, 32, 8, 4),
    GemmTile(128, 64, 32, 8, 4),
)


def gemm_tiles(precision: Precision, capability: Capability, aligned: bool) -> tuple[GemmTile, ...]:
    """All tiles that `gemm_tile` may return, ordered by rows, then slices."""
    if precision == "ieee":
        return _PLAIN if capability[0] == 9 else _PLAIN_EARLIER
    table = _WGMMA if capability[0] == 9 else _MMA_SYNC
    # Without 16-byte copies every element has an address of its own, and wider tiles spill.
    return table if aligned else tuple(tile for tile in table if tile.slices == 64 and tile.rows <= 32)


def gemm_tile(
    precision: Precision,
    capability: Capability,
    aligned: bool,
    segments: int,
    rows: int,
    slices: int,
    channels: int,
) -> GemmTile:
    """The tile for one call.

    Args:
        aligned: maps move 16 bytes at a time; segments: output positions times groups; rows: all their output rows;
            channels: output channels of a group, the most rows that a segment can have.

    The block of rows is the least that holds a segment's mean: at a mean of 77 rows (256 channels at density 0.3) two
    blocks of 64 are as full as one of 128, which reads the inputs once and issues the fewest instructions a product.
    The block of slices covers the call's slices as far as the table goes: a gathered weight serves all slices of its
    block. Where multiprocessors would be left without work (a linear layer has one position), both are halved.

    Leaving the output channels dense would make the weights' loads 16 bytes wide, at 1 / density of the work. Gathered,
    a weight costs a 4-byte copy for every block of slices: one copy in 128 or 256 multiply-adds. So rows are always
    gathered; at densities near 1 a dense batched product is the better route, and the planner's to take. Where these
    lines cross is unmeasured.
    """
    table = gemm_tiles(precision, capability, aligned)
    mean = min(max(1, rows // max(1, segments)), channels)
    heights = sorted({tile.rows for tile in table})
    height = next((size for size in heights if size >= mean), heights[-1])
    best = [tile for tile in table if tile.rows == height]
    tile = next((tile for tile in best if tile.slices >= slices), best[-1])
    while segments * -(-mean // tile.rows) * -(-slices // tile.slices) < ENOUGH_PROGRAMS:
        size = (tile.rows, tile.slices // 2) if tile.slices > 64 else (tile.rows // 2, 64)
        smaller = next((each for each in table if (each.rows, each.slices) == size), None)
        if smaller is None:
            break
        tile = smaller
    return tile


def map_tile(slices: int, bytes_per_value: int) -> MapTile:
    """For kernels that only move maps: four 16-byte accesses of each thread are under way at once."""
    wide = min(max(64, 1 << (slices - 1).bit_length()), 1024 // bytes_per_value)
    warps = 4
    rows = 4 * 32 * warps * 16 // bytes_per_value // wide
    return MapTile(rows, wide, warps)


def map_tiles(bytes_per_value: int) -> tuple[MapTile, ...]:
    """All tiles that `map_tile` may return."""
    return tuple({map_tile(slices, bytes_per_value): None for slices in (1, 65, 129, 257)})


# contract turns its tile over in registers and shared memory: targets lie together in its input, slices in its output.
CONTRACT = MapTile(rows=64, slices=32, warps=4)
# recurrent_scan: rows are carried through all steps by one program, so few rows a program keep more of them at work;
# `slices` are the units it computes at a time.
SCAN = GemmTile(rows=16, slices=32, depth=16, warps=4, stages=2)
# active_rows reads a tile of channels x positions of one byte each.
GATE_CHANNELS, GATE_POSITIONS = 64, 32
# Lists are copied this many entries at a time.
LIST_BLOCK = 128
