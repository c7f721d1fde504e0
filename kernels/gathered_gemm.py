"""Gathered GEMM: lists of terms for every output position, then products of slices with gathered weights."""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from fwdkern.kernels import tiles
from fwdkern.kernels.launch import aligned, blocks, capability_of, on_device_of

# What operands are rounded to before they meet; sums are float32.
OPERANDS = {"ieee": tl.float32, "tf32": tl.float32, "bf16": tl.bfloat16}
# How tl.dot takes float32 operands; it has no effect on bfloat16 ones.
DOT_PRECISION = {"ieee": "ieee", "tf32": "tf32", "bf16": "ieee"}


@triton.jit(do_not_specialize=["positions", "groups", "width"])
def segments_kernel(
    row_offset,  # int64 [positions + 1]
    row_channel,  # int32 [rows]
    segment,  # int64 [positions * groups + 1], out
    positions,
    groups,
    width,  # channels of a group
    BLOCK: tl.constexpr,
):
    """Where the rows of each group of a position begin: they stand together, since channels ascend."""
    position = tl.program_id(0)
    group = tl.program_id(1)
    begin = tl.load(row_offset + position)
    end = tl.load(row_offset + position + 1)
    lower = tl.zeros((BLOCK,), tl.int64)
    for first in range(begin, end, BLOCK):
        row = first + tl.arange(0, BLOCK)
        channel = tl.load(row_channel + row, mask=row < end, other=groups * width)
        lower += (channel < group * width).to(tl.int64)
    place = segment + position.to(tl.int64) * groups + group
    tl.store(place, begin + tl.sum(lower, 0))
    if (position == positions - 1) & (group == groups - 1):
        tl.store(place + 1, end)


@triton.jit(do_not_specialize=["tap_count", "groups", "in_channels", "width"])
def terms_kernel(
    in_segment,  # int64 [in positions * groups + 1]
    in_channel,  # int32 [listed in rows]
    in_index,  # int32 [listed in rows] or None
    taps,  # int32 [positions, tap_count]
    term_row,  # int32 [positions * groups, capacity], out
    term_weight,  # int64 [positions * groups, capacity], out
    term_count,  # int32 [positions * groups], out
    tap_count,
    groups,
    in_channels,
    width,  # output channels of a group
    capacity,
    TAPS: tl.constexpr,  # power of two, at least tap_count
    BLOCK: tl.constexpr,
):
    """Copy one tap's rows into the list of a position and group: where each lies, and where its weights begin."""
    segment = tl.program_id(0).to(tl.int64)
    tap = tl.program_id(1)
    position = segment // groups
    group = segment % groups
    every = tl.arange(0, TAPS)
    source = tl.load(taps + position * tap_count + every, mask=every < tap_count, other=-1)
    inside = source >= 0
    at = source.to(tl.int64) * groups + group
    first = tl.load(in_segment + at, mask=inside, other=0)
    length = tl.load(in_segment + at + 1, mask=inside, other=0) - first
    if tap == 0:
        tl.store(term_count + segment, tl.sum(length, 0).to(tl.int32))
    own_first = tl.sum(tl.where(every == tap, first, 0), 0)
    own_length = tl.sum(tl.where(every == tap, length, 0), 0)
    place = segment * capacity + tl.sum(tl.where(every < tap, length, 0), 0)
    for start in range(0, own_length, BLOCK):
        i = start + tl.arange(0, BLOCK)
        mask = i < own_length
        channel = tl.load(in_channel + own_first + i, mask=mask, other=0)
        row = (own_first + i).to(tl.int32)
        if in_index is not None:
            row = tl.load(in_index + own_first + i, mask=mask, other=0)
        tl.store(term_row + place + i, row, mask=mask)
        tl.store(term_weight + place + i, (tap * in_channels + channel).to(tl.int64) * width, mask=mask)


@triton.jit
def round_to_tf32(x):
    """float32 rounded to the nearest with 10 bits behind the point; NaN stays NaN."""
    # PTX has an instruction for it, which sm_90 works off as about the same four; the interpreter knows no assembly.
    bits = x.to(tl.int32, bitcast=True)
    return tl.where(x == x, ((bits + 0x1000) & -0x2000).to(tl.float32, bitcast=True), x)


@triton.jit(do_not_specialize=["groups", "width", "row_blocks"])
def gemm_kernel(
    in_maps,  # [in rows, slices]
    weight,  # float32 [taps * in channels, width], at least one row
    term_row,
    term_weight,
    term_count,
    out_segment,  # int64 [segments + 1]
    out_channel,  # int32 [out rows]
    row_scale,  # float32 [out rows] or None
    out,  # [out rows, slices]
    in_stride,
    out_stride,
    slices,
    groups,
    width,  # output channels of a group
    capacity,
    row_blocks,
    ACCUMULATE: tl.constexpr,
    OPERAND: tl.constexpr,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    SLICES: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """One block of a segment's output rows for one block of slices; a segment is the rows of one position and group.

    The first grid axis runs fastest: row blocks of a position, then positions, so that programs that read the same
    input rows run at about the same time. The slices' blocks come one after the other.
    """
    segment = (tl.program_id(0) // row_blocks).to(tl.int64)
    first = tl.load(out_segment + segment) + (tl.program_id(0) % row_blocks) * ROWS
    end = tl.load(out_segment + segment + 1)
    if first >= end:
        return
    r = first + tl.arange(0, ROWS)
    there = r < end
    s = tl.program_id(1) * SLICES + tl.arange(0, SLICES)
    in_range = s < slices
    low = (segment % groups).to(tl.int32) * width
    weight_of_row = weight + tl.load(out_channel + r, mask=there, other=low) - low
    count = tl.load(term_count + segment)
    term_row += segment * capacity
    term_weight += segment * capacity
    total = tl.zeros((SLICES, ROWS), tl.float32)
    for start in range(0, count, DEPTH):
        term = start + tl.arange(0, DEPTH)
        valid = term < count
        source = tl.load(term_row + term, mask=valid, other=0).to(tl.int64)
        line = tl.load(term_weight + term, mask=valid, other=0)
        # No mask, a fifth of the loop's instructions: rows that are not there get a weight they never use, and terms
        # beyond the last multiply the first weights, which are finite, with maps of zero.
        w = tl.load(weight_of_row[None, :] + line[:, None])
        x = tl.load(
            in_maps + source[None, :] * in_stride + s[:, None], mask=valid[None, :] & in_range[:, None], other=0.0
        )
        x = x.to(OPERAND)
        if PRECISION == "tf32":
            # Tensor cores drop the bits beyond tf32, which would shrink every layer's maps a little. Rounding also
            # brings this operand into registers: see tiles.py.
            x = round_to_tf32(x)
        total = tl.dot(x, w.to(OPERAND), total, input_precision=PRECISION)
    if row_scale is not None:
        total *= tl.load(row_scale + r, mask=there, other=0.0)[None, :]
    place = out + r[None, :] * out_stride + s[:, None]
    mask = there[None, :] & in_range[:, None]
    if ACCUMULATE:
        total += tl.load(place, mask=mask, other=0.0).to(tl.float32)
    tl.store(place, total.to(out.dtype.element_ty), mask=mask)


class Terms(NamedTuple):
    """Lists of `terms_kernel` for all positions of a call: ``row``, ``weight`` ``[positions * groups, capacity]``,
    ``length`` ``[positions * groups]``."""

    row: Tensor
    weight: Tensor
    length: Tensor


def terms_capacity(tap_count: int, channels: int) -> int:
    """Entries of one list, for input channels of a group; a multiple of 16 keeps every list aligned alike."""
    return max(16, 16 * blocks(tap_count * channels, 16))


def empty_terms(segments: int, capacity: int, device: torch.device) -> Terms:
    """Room for the lists of some positions and groups, 12 bytes an entry."""
    row = torch.empty(segments, capacity, dtype=torch.int32, device=device)
    return Terms(row, row.new_empty(segments, capacity, dtype=torch.int64), row.new_empty(segments))


def list_terms(
    in_rows: tuple[Tensor, Tensor], taps: Tensor, weight_shape: tuple[int, ...], groups: int, in_index: Tensor | None
) -> Terms:
    """The lists that `gathered_gemm` would make of these, for several calls that share them."""
    with on_device_of(taps):
        in_segment = _segments(*in_rows, groups, weight_shape[1] // groups)
        capacity = terms_capacity(taps.shape[1], weight_shape[1] // groups)
        terms = empty_terms(len(taps) * groups, capacity, taps.device)
        _fill_terms(terms, in_segment, in_rows[1], in_index, taps, weight_shape, groups)
    return terms


def _fill_terms(
    terms: Terms,
    in_segment: Tensor,
    in_channel: Tensor,
    in_index: Tensor | None,
    taps: Tensor,
    weight_shape: tuple[int, ...],
    groups: int,
) -> None:
    """Lists of all positions of ``taps`` ``[positions, T]``."""
    positions, tap_count = taps.shape
    if positions == 0:
        return
    terms_kernel[positions * groups, max(1, tap_count)](
        in_segment,
        in_channel,
        in_index,
        taps,
        *terms,
        tap_count,
        groups,
        weight_shape[1],
        weight_shape[2],
        terms.row.shape[1],
        TAPS=triton.next_power_of_2(max(1, tap_count)),
        BLOCK=tiles.LIST_BLOCK,
    )


def gathered_gemm(
    in_maps: Tensor,
    in_rows: tuple[Tensor, Tensor],
    out_rows: tuple[Tensor, Tensor],
    taps: Tensor,
    weight: Tensor,
    row_scale: Tensor | None,
    groups: int,
    accumulate: bool,
    out: Tensor,
    in_index: Tensor | None,
    precision: tiles.Precision,
    terms: Terms | None = None,
) -> None:
    """Launch on checked arguments, those of `fwdkern.ops.gathered_gemm`; its weight already rounded
    to tf32 where that is the precision.

    Row lists may be longer than their last offset, as `active_rows_on_device` makes them.
    Scratch: 12 bytes for each of [positions, groups, taps * in channels / groups rounded up to 16], for as many
    positions as fit into tiles.SCRATCH_BYTES (none where ``terms`` are given), and with groups int64
    [positions * groups + 1] for both row lists.
    """
    slices = in_maps.shape[1]
    positions, tap_count = taps.shape
    if slices == 0 or positions == 0 or out.shape[0] == 0:
        return
    in_channels, width = weight.shape[1:]
    capacity = terms_capacity(tap_count, in_channels // groups)
    # A multiple of 16 keeps every launch's pointers aligned alike, so that they share one compilation.
    chunk = max(16, tiles.SCRATCH_BYTES // (12 * capacity * groups) // 16 * 16)
    chunk = positions if terms is not None else min(chunk, positions)
    tile = tiles.gemm_tile(
        precision,
        capability_of(in_maps),
        aligned(in_maps, out),
        positions * groups,
        out_rows[1].shape[0],
        slices,
        width,
    )
    row_blocks = blocks(width, tile.rows)
    with on_device_of(in_maps):
        in_segment = _segments(*in_rows, groups, in_channels // groups)
        out_segment = _segments(*out_rows, groups, width)
        lists = empty_terms(chunk * groups, capacity, in_maps.device) if terms is None else terms
        for start in range(0, positions, chunk):
            segments = min(chunk, positions - start) * groups
            if terms is None:
                here = taps[start : start + chunk]
                _fill_terms(lists, in_segment, in_rows[1], in_index, here, tuple(weight.shape), groups)
            gemm_kernel[segments * row_blocks, blocks(slices, tile.slices)](
                in_maps,
                weight,
                *lists,
                out_segment[start * groups :],
                out_rows[1],
                row_scale,
                out,
                in_maps.stride(0),
                out.stride(0),
                slices,
                groups,
                width,
                capacity,
                row_blocks,
                ACCUMULATE=accumulate,
                OPERAND=OPERANDS[precision],
                PRECISION=DOT_PRECISION[precision],
                ROWS=tile.rows,
                SLICES=tile.slices,
                DEPTH=tile.depth,
                num_warps=tile.warps,
                num_stages=tile.stages,
            )


def _segments(row_offset: Tensor, row_channel: Tensor, groups: int, width: int) -> Tensor:
    """int64 [positions * groups + 1]: where the rows of each position and group begin."""
    positions = row_offset.shape[0] - 1
    if groups == 1 or positions == 0:
        return row_offset
    segment = torch.empty(positions * groups + 1, dtype=torch.int64, device=row_offset.device)
    segments_kernel[positions, groups](
        row_offset, row_channel, segment, positions, groups, width, BLOCK=tiles.LIST_BLOCK
    )
    return segment
