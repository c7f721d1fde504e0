"""A frozen recurrence as one launch: a program carries its rows through all steps."""

import triton
import triton.language as tl
from torch import Tensor

from fwdkern.kernels import tiles
from fwdkern.kernels.launch import blocks, on_device_of


@triton.jit
def scan_kernel(
    maps,  # [slices · batch, steps, hidden]
    weight,  # [hidden, hidden]
    keep,  # [batch, steps, hidden] or None
    gain_in,  # [batch, steps, hidden] or None
    gain_out,  # [batch, steps, hidden]
    active,  # int64 [steps, 2]
    batch,
    steps,
    hidden,
    out_stride,  # of weight, from one output to the next
    in_stride,
    DESCENDING: tl.constexpr,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """Rows need nothing of each other, so no program waits for another one."""
    first = tl.program_id(0).to(tl.int64) * ROWS
    row = first + tl.arange(0, ROWS)
    place = row * steps * hidden
    example = row % batch * steps * hidden
    for number in range(1, steps):
        p = steps - number if DESCENDING else number - 1
        t = p - 1 if DESCENDING else number
        low = tl.load(active + 2 * p) * batch
        high = tl.load(active + 2 * p + 1) * batch
        if (first < high) & (first + ROWS > low):
            there = (row >= low) & (row < high)
            for u in range(0, hidden, UNITS):
                unit = u + tl.arange(0, UNITS)
                total = tl.zeros((ROWS, UNITS), tl.float32)
                for k in range(0, hidden, DEPTH):
                    depth = k + tl.arange(0, DEPTH)
                    mask = there[:, None] & (depth < hidden)[None, :]
                    at = p * hidden + depth[None, :]
                    x = tl.load(maps + place[:, None] + at, mask=mask, other=0.0)
                    if gain_in is not None:
                        x *= tl.load(gain_in + example[:, None] + at, mask=mask, other=0.0)
                    w = tl.load(
                        weight + unit[None, :].to(tl.int64) * out_stride + depth[:, None].to(tl.int64) * in_stride,
                        mask=(depth < hidden)[:, None] & (unit < hidden)[None, :],
                        other=0.0,
                    )
                    total = tl.dot(x, w, total, input_precision="ieee")
                mask = there[:, None] & (unit < hidden)[None, :]
                at = t * hidden + unit[None, :]
                total *= tl.load(gain_out + example[:, None] + at, mask=mask, other=0.0)
                if keep is not None:
                    before = tl.load(maps + place[:, None] + p * hidden + unit[None, :], mask=mask, other=0.0)
                    total += before * tl.load(keep + example[:, None] + at, mask=mask, other=0.0)
                total += tl.load(maps + place[:, None] + at, mask=mask, other=0.0)
                tl.store(maps + place[:, None] + at, total, mask=mask)
        # What other threads of the program wrote is read at the next step.
        tl.debug_barrier()


def recurrent_scan(
    maps: Tensor,
    weight: Tensor,
    transposed: bool,
    keep: Tensor | None,
    gain_in: Tensor | None,
    gain_out: Tensor,
    active: Tensor,
    descending: bool,
) -> None:
    """Launch on checked arguments, those of `fwdkern.ops.recurrent_scan`, with `active` on the device."""
    slices, batch, steps, hidden = maps.shape
    if maps.numel() == 0:
        return
    tile = tiles.SCAN
    strides = weight.stride()[::-1] if transposed else weight.stride()
    with on_device_of(maps):
        scan_kernel[(blocks(slices * batch, tile.rows),)](
            maps,
            weight,
            keep,
            gain_in,
            gain_out,
            active,
            batch,
            steps,
            hidden,
            *strides,
            DESCENDING=descending,
            ROWS=tile.rows,
            UNITS=tile.slices,
            DEPTH=tile.depth,
            num_warps=tile.warps,
            num_stages=tile.stages,
        )
