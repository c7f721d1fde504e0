"""Pulled rows times the input, summed within each slice, turned over into one map per target."""

import triton
import triton.language as tl
from torch import Tensor

from fwdkern.kernels import tiles
from fwdkern.kernels.launch import blocks, on_device_of


@triton.jit
def contract_kernel(
    pulled,  # [in rows, targets]
    offset,  # int64 [slices + 1]
    index,  # int32 [terms]
    coefficient,  # float32 [terms]
    out,  # [targets, slices]
    pulled_stride,
    out_stride,
    targets,
    slices,
    TARGETS: tl.constexpr,
    SLICES: tl.constexpr,
):
    """Rows are read along the targets and written along the slices."""
    s = tl.program_id(0).to(tl.int64) * SLICES + tl.arange(0, SLICES)
    there = s < slices
    k = tl.program_id(1) * TARGETS + tl.arange(0, TARGETS)
    in_range = k < targets
    begin = tl.load(offset + s, mask=there, other=0)
    count = tl.load(offset + s + 1, mask=there, other=0) - begin
    total = tl.zeros((TARGETS, SLICES), tl.float32)
    for j in range(0, tl.max(count, 0)):
        has = j < count
        source = tl.load(index + begin + j, mask=has, other=0).to(tl.int64)
        factor = tl.load(coefficient + begin + j, mask=has, other=0.0)
        # Not `has`: Triton's layout pass fails where lists and maps share a mask.
        mask = in_range[:, None] & (j < count[None, :])
        x = tl.load(pulled + source[None, :] * pulled_stride + k[:, None], mask=mask, other=0.0)
        total += x.to(tl.float32) * factor[None, :]
    place = out + k[:, None].to(tl.int64) * out_stride + s[None, :]
    tl.store(place, total.to(out.dtype.element_ty), mask=in_range[:, None] & there[None, :])


def contract(pulled: Tensor, offset: Tensor, index: Tensor, coefficient: Tensor, out: Tensor) -> None:
    """Launch on checked arguments, those of `fwdkern.ops.contract`."""
    targets, slices = out.shape
    if targets == 0 or slices == 0:
        return
    tile = tiles.CONTRACT
    with on_device_of(pulled):
        contract_kernel[blocks(slices, tile.slices), blocks(targets, tile.rows)](
            pulled,
            offset,
            index,
            coefficient,
            out,
            pulled.stride(0),
            out.stride(0),
            targets,
            slices,
            TARGETS=tile.rows,
            SLICES=tile.slices,
            num_warps=tile.warps,
        )
