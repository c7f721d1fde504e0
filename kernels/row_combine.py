"""Sparse combinations of rows of maps: bound by memory, so every thread has several 16-byte loads under way."""

import triton
import triton.language as tl
from torch import Tensor

from fwdkern.kernels import tiles
from fwdkern.kernels.launch import blocks, on_device_of


@triton.jit(do_not_specialize=["out_rows"])
def combine_kernel(
    in_maps,  # [in rows, slices]
    offset,  # int64 [out rows + 1]
    index,  # int32 [terms]
    coefficient,  # float32 [terms]
    out,  # [out rows, slices]
    in_stride,
    out_stride,
    slices,
    out_rows,
    ACCUMULATE: tl.constexpr,
    ROWS: tl.constexpr,
    SLICES: tl.constexpr,
):
    """A block of rows goes through its terms together, one of each row at a time."""
    r = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    there = r < out_rows
    s = tl.program_id(1) * SLICES + tl.arange(0, SLICES)
    in_range = (s < slices)[None, :]
    begin = tl.load(offset + r, mask=there, other=0)
    count = tl.load(offset + r + 1, mask=there, other=0) - begin
    total = tl.zeros((ROWS, SLICES), tl.float32)
    for j in range(0, tl.max(count, 0)):
        has = j < count
        source = tl.load(index + begin + j, mask=has, other=0).to(tl.int64)
        factor = tl.load(coefficient + begin + j, mask=has, other=0.0)
        # Not `has`: Triton's layout pass fails where lists and maps share a mask.
        mask = (j < count[:, None]) & in_range
        x = tl.load(in_maps + source[:, None] * in_stride + s[None, :], mask=mask, other=0.0)
        total += factor[:, None] * x.to(tl.float32)
    place = out + r[:, None] * out_stride + s[None, :]
    mask = there[:, None] & in_range
    if ACCUMULATE:
        total += tl.load(place, mask=mask, other=0.0).to(tl.float32)
    tl.store(place, total.to(out.dtype.element_ty), mask=mask)


def row_combine(
    in_maps: Tensor, offset: Tensor, index: Tensor, coefficient: Tensor, accumulate: bool, out: Tensor
) -> None:
    """Launch on checked arguments, those of `fwdkern.ops.row_combine`."""
    rows, slices = out.shape
    if rows == 0 or slices == 0:
        return
    tile = tiles.map_tile(slices, in_maps.element_size())
    with on_device_of(in_maps):
        combine_kernel[blocks(rows, tile.rows), blocks(slices, tile.slices)](
            in_maps,
            offset,
            index,
            coefficient,
            out,
            in_maps.stride(0),
            out.stride(0),
            slices,
            rows,
            ACCUMULATE=accumulate,
            ROWS=tile.rows,
            SLICES=tile.slices,
            num_warps=tile.warps,
        )
