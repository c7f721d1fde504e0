"""Rows of the input's own units: each unit's value in its own slice, zeros elsewhere."""

import triton
import triton.language as tl
from torch import Tensor

from fwdkern.kernels import tiles
from fwdkern.kernels.launch import blocks, on_device_of


@triton.jit(do_not_specialize=["rows"])
def seed_kernel(
    value,  # float32 [rows]
    column,  # int32 [rows]
    out,  # [rows, slices]
    out_stride,
    rows,
    slices,
    ROWS: tl.constexpr,
    SLICES: tl.constexpr,
):
    """Every element is written once; no separate pass of zeros."""
    r = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    there = r < rows
    s = tl.program_id(1) * SLICES + tl.arange(0, SLICES)
    own = tl.load(column + r, mask=there, other=-1)
    x = tl.load(value + r, mask=there, other=0.0)
    seeded = tl.where(own[:, None] == s[None, :], x[:, None], 0.0)
    mask = there[:, None] & (s < slices)[None, :]
    tl.store(out + r[:, None] * out_stride + s[None, :], seeded.to(out.dtype.element_ty), mask=mask)


def seed(value: Tensor, column: Tensor, out: Tensor) -> None:
    """Launch on checked arguments, those of `fwdkern.ops.seed`."""
    rows, slices = out.shape
    if rows == 0 or slices == 0:
        return
    tile = tiles.map_tile(slices, out.element_size())
    with on_device_of(out):
        seed_kernel[blocks(rows, tile.rows), blocks(slices, tile.slices)](
            value,
            column,
            out,
            out.stride(0),
            rows,
            slices,
            ROWS=tile.rows,
            SLICES=tile.slices,
            num_warps=tile.warps,
        )
