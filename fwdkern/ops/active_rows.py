"""Row lists of a gate: which channels are active at each position, in compressed sparse rows."""

import torch
from torch import Tensor

from fwdkern.errors import InputError
from fwdkern.ops import native
from fwdkern.ops.backend import choose, implementation, on_gpu

OP = "active_rows"

torch.library.define("fwdkern::active_rows", "(Tensor gate) -> (Tensor row_offset, Tensor row_channel)")


def active_rows(gate: Tensor, backend: str | None = None) -> tuple[Tensor, Tensor]:
    """List the active channels of every position.

    gate: bool [channels, positions], any strides.
    Returns row_offset int64 [positions + 1] and row_channel int32 [rows]: the rows of position p are
    row_offset[p] to row_offset[p + 1], their channels ascending. Both are contiguous, on the gate's device.
    Raises InputError for another rank or dtype, BackendError for a backend that cannot run.
    """
    _check(gate)
    choice = choose(OP, gate.device, gate.dtype, tuple(gate.shape), backend)
    call = implementation(choice, OP, gate, torch.ops.fwdkern.active_rows, active_rows_reference, _KERNELS)
    row_offset, row_channel = call(gate)
    return row_offset, row_channel


def active_rows_on_device(gate: Tensor, backend: str | None = None) -> tuple[Tensor, Tensor]:
    """The same without waiting for the device to learn how many rows there are.

    row_channel has room for all, int32 [channels * positions]; what lies beyond row_offset[-1] is arbitrary. The
    kernels for GPUs take such lists.
    """
    _check(gate)
    name = choose(OP, gate.device, gate.dtype, tuple(gate.shape), backend).name
    if name in _KERNELS:
        return _KERNELS[name](gate, gate.numel())
    row_offset = gate.new_zeros(gate.shape[1] + 1, dtype=torch.int64)
    row_offset[1:] = gate.sum(0).cumsum(0)
    active_first = gate.t().flatten().logical_not().to(torch.uint8).argsort(stable=True)
    return row_offset, (active_first % max(1, gate.shape[0])).to(torch.int32)


def _check(gate: Tensor) -> None:
    if gate.dim() != 2:
        raise InputError(f"active_rows: gate has shape {list(gate.shape)}; expected [channels, positions].")
    if gate.dtype != torch.bool:
        raise InputError(f"active_rows: gate has dtype {gate.dtype}; expected bool, for example `values > 0`.")


def active_rows_reference(gate: Tensor) -> tuple[Tensor, Tensor]:
    """The same in plain torch: gate [channels, positions] -> row_offset, row_channel."""
    _check(gate)
    row_offset = gate.new_zeros(gate.shape[1] + 1, dtype=torch.int64)
    row_offset[1:] = gate.sum(0).cumsum(0)
    row_channel = gate.t().nonzero()[:, 1].to(torch.int32)  # [rows]
    return row_offset, row_channel


def number_rows(row_offset: Tensor, row_channel: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Which unit each row of a list is, and the other way round.

    row_offset, row_channel: a list as `active_rows` makes it.
    Returns unit int64 [rows], channel * positions + position, and row int64 [channels * positions + 1], the row of each
    unit, -1 for units without one and at the end, so that unit -1 has none.
    """
    positions = len(row_offset) - 1
    row = torch.full((channels * positions + 1,), -1, device=row_offset.device)
    library, _ = native.load()
    if library is None or row_offset.device.type != "cpu":
        position = torch.arange(positions, device=row_offset.device).repeat_interleave(
            row_offset.diff(), output_size=len(row_channel)
        )
        unit = row_channel.long() * positions + position
        row[unit] = torch.arange(len(unit), device=unit.device)
        return unit, row
    unit = torch.empty(len(row_channel), dtype=torch.int64)
    library.number_rows(row_offset.data_ptr(), row_channel.data_ptr(), positions, unit.data_ptr(), row.data_ptr())
    return unit, row


torch.library.impl("fwdkern::active_rows", "CompositeExplicitAutograd", active_rows_reference)


@torch.library.impl("fwdkern::active_rows", "CPU")
def _active_rows_cpu(gate: Tensor) -> tuple[Tensor, Tensor]:
    library, _ = native.load()
    if library is None:
        return active_rows_reference(gate)
    _check(gate)
    channels, positions = gate.shape
    layout = (gate.data_ptr(), channels, positions, *gate.stride())
    row_offset = torch.empty(positions + 1, dtype=torch.int64)
    rows = library.count_active_rows(*layout, row_offset.data_ptr())
    row_channel = torch.empty(rows, dtype=torch.int32)
    library.list_active_rows(*layout, row_offset.data_ptr(), row_channel.data_ptr())
    return row_offset, row_channel


def _listed_triton(gate: Tensor, room: int | None = None) -> tuple[Tensor, Tensor]:
    """The lists, row_channel with room for so many rows; without a number the device is asked how many there are."""
    from fwdkern.kernels import active_rows as kernels

    row_offset = torch.empty(gate.shape[1] + 1, dtype=torch.int64, device=gate.device)
    kernels.count_rows(gate, row_offset)
    rows = int(row_offset[-1]) if room is None else room
    row_channel = torch.empty(rows, dtype=torch.int32, device=gate.device)
    kernels.list_rows(gate, row_offset, row_channel)
    return row_offset, row_channel


def _listed_cuda(gate: Tensor, room: int | None = None) -> tuple[Tensor, Tensor]:
    channels, positions = gate.shape
    bits = torch.empty(positions * -(-channels // 8), dtype=torch.uint8, device=gate.device)
    # One entry for 256 positions, as csrc/include/fwdkern/cuda/active_rows.h says.
    block_rows = torch.empty(1 + positions // 256, dtype=torch.int64, device=gate.device)
    row_offset = torch.empty(positions + 1, dtype=torch.int64, device=gate.device)
    places = (each.data_ptr() for each in (bits, block_rows, row_offset))
    packed = (gate.data_ptr(), channels, positions, *gate.stride(), *places)
    native.run_cuda("count_active_rows", gate, packed)
    rows = int(row_offset[-1]) if room is None else room
    row_channel = torch.empty(rows, dtype=torch.int32, device=gate.device)
    native.run_cuda("list_active_rows", gate, packed, row_channel.data_ptr())
    return row_offset, row_channel


_KERNELS = {"triton": _listed_triton, "cuda": _listed_cuda}


@torch.library.impl("fwdkern::active_rows", "CUDA")
def _active_rows_gpu(gate: Tensor) -> tuple[Tensor, Tensor]:
    _check(gate)
    row_offset, row_channel = on_gpu(OP, gate, active_rows_reference, _KERNELS)(gate)
    return row_offset, row_channel


@torch.library.register_fake("fwdkern::active_rows")
def _active_rows_fake(gate: Tensor) -> tuple[Tensor, Tensor]:
    rows = torch.library.get_ctx().new_dynamic_size()
    row_offset = gate.new_empty(gate.shape[1] + 1, dtype=torch.int64)
    return row_offset, gate.new_empty(rows, dtype=torch.int32)
