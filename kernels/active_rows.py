"""Row lists of a gate: count the active channels of every position, sum up, list."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from fwdkern.kernels import tiles
from fwdkern.kernels.launch import blocks, on_device_of


@triton.jit(do_not_specialize=["channels", "positions"])
def count_kernel(
    gate,  # uint8 [channels, positions]
    row_offset,  # int64 [positions + 1], out: 0, then the count of every position
    channels,
    positions,
    channel_stride,
    position_stride,
    CHANNELS: tl.constexpr,
    POSITIONS: tl.constexpr,
):
    """Active channels of a block of positions."""
    p = tl.program_id(0).to(tl.int64) * POSITIONS + tl.arange(0, POSITIONS)
    there = p < positions
    count = tl.zeros((POSITIONS,), tl.int32)
    for first in range(0, channels, CHANNELS):
        c = first + tl.arange(0, CHANNELS).to(tl.int64)
        mask = (c < channels)[:, None] & there[None, :]
        active = tl.load(gate + c[:, None] * channel_stride + p[None, :] * position_stride, mask=mask, other=0)
        count += tl.sum((active != 0).to(tl.int32), 0)
    tl.store(row_offset + 1 + p, count.to(tl.int64), mask=there)
    if tl.program_id(0) == 0:
        tl.store(row_offset, 0)


@triton.jit(do_not_specialize=["channels", "positions"])
def list_kernel(
    gate,  # uint8 [channels, positions]
    row_offset,  # int64 [positions + 1]
    row_channel,  # int32 [rows], out
    channels,
    positions,
    channel_stride,
    position_stride,
    CHANNELS: tl.constexpr,
    POSITIONS: tl.constexpr,
):
    """Write the active channels of a block of positions, ascending."""
    p = tl.program_id(0).to(tl.int64) * POSITIONS + tl.arange(0, POSITIONS)
    there = p < positions
    row = tl.load(row_offset + p, mask=there, other=0)
    for first in range(0, channels, CHANNELS):
        c = first + tl.arange(0, CHANNELS).to(tl.int64)
        mask = (c < channels)[:, None] & there[None, :]
        gates = tl.load(gate + c[:, None] * channel_stride + p[None, :] * position_stride, mask=mask, other=0)
        active = (gates != 0).to(tl.int32)
        before = tl.cumsum(active, 0) - active
        channel = tl.broadcast_to(c[:, None].to(tl.int32), (CHANNELS, POSITIONS))
        tl.store(row_channel + row[None, :] + before, channel, mask=active != 0)
        row += tl.sum(active, 0)


def count_rows(gate: Tensor, row_offset: Tensor) -> None:
    """Fill row_offset int64 [positions + 1] of a bool gate [channels, positions]; the last entry counts all rows."""
    if gate.shape[1] == 0:
        row_offset.zero_()
        return
    with on_device_of(gate):
        count_kernel[(blocks(gate.shape[1], tiles.GATE_POSITIONS),)](
            *_layout(gate, row_offset), CHANNELS=tiles.GATE_CHANNELS, POSITIONS=tiles.GATE_POSITIONS
        )
        row_offset.cumsum_(0)


def list_rows(gate: Tensor, row_offset: Tensor, row_channel: Tensor) -> None:
    """Fill row_channel int32 [at least the number of rows]; what lies beyond stays as it was."""
    if gate.numel() == 0:
        return
    with on_device_of(gate):
        list_kernel[(blocks(gate.shape[1], tiles.GATE_POSITIONS),)](
            *_layout(gate, row_offset, row_channel), CHANNELS=tiles.GATE_CHANNELS, POSITIONS=tiles.GATE_POSITIONS
        )


def _layout(gate: Tensor, *lists: Tensor) -> tuple[Tensor | int, ...]:
    return gate.view(torch.uint8), *lists, *gate.shape, *gate.stride()
