"""Sums of maps and of their magnitudes, row by row, with what is added to each row first."""

import torch
from torch import Tensor

from fwdkern.errors import InputError
from fwdkern.ops import native
from fwdkern.ops.backend import choose, implementation
from fwdkern.ops.checks import check_devices, check_list

OP = "row_sums"

torch.library.define("fwdkern::row_sums", "(Tensor(a!) maps, Tensor? addend) -> (Tensor sum, Tensor magnitude)")


def row_sums(maps: Tensor, addend: Tensor | None = None, backend: str | None = None) -> tuple[Tensor, Tensor]:
    """Add ``addend[r]`` to every element of row r, in place, and sum the rows and the magnitudes of their elements.

    maps: floating point [rows, columns], contiguous.
    addend: [rows] in the dtype of maps, or None to leave the maps as they are.
    Returns sum and magnitude, [rows] in the dtype of maps; their rounding grows slower than the number of columns.
    Raises InputError for arguments that do not fit, BackendError for a backend that cannot run.
    """
    choice = choose(OP, maps.device, maps.dtype, tuple(maps.shape), backend)
    kernels = {"cuda": _row_sums_cuda}
    call = implementation(choice, OP, maps, torch.ops.fwdkern.row_sums, row_sums_reference, kernels)
    sums, magnitude = call(maps, addend)
    return sums, magnitude


def _check(maps: Tensor, addend: Tensor | None) -> None:
    if not maps.is_floating_point():
        raise InputError(f"{OP}: maps has dtype {maps.dtype}; expected floating point.")
    check_list(OP, "maps", maps, maps.dtype, (-1, -1))
    if addend is not None:
        check_list(OP, "addend", addend, maps.dtype, (maps.shape[0],))
        check_devices(OP, "maps", maps.device, {"addend": addend})


def row_sums_reference(maps: Tensor, addend: Tensor | None) -> tuple[Tensor, Tensor]:
    """The same in plain torch, which sums in blocks."""
    _check(maps, addend)
    if addend is not None:
        maps += addend[:, None]
    return maps.sum(1), torch.linalg.vector_norm(maps, 1, 1)


def _row_sums_cpu(maps: Tensor, addend: Tensor | None) -> tuple[Tensor, Tensor]:
    library, _ = native.load()
    if library is None or maps.dtype != torch.float32:
        return row_sums_reference(maps, addend)
    _check(maps, addend)
    sums, magnitude = torch.empty(len(maps)), torch.empty(len(maps))
    library.row_sums(
        maps.data_ptr(),
        *maps.shape,
        0 if addend is None else addend.data_ptr(),
        sums.data_ptr(),
        magnitude.data_ptr(),
        native.threads(),
    )
    return sums, magnitude


def _row_sums_cuda(maps: Tensor, addend: Tensor | None) -> tuple[Tensor, Tensor]:
    library, _ = native.load()
    assert library is not None, "choose() looks for it"
    _check(maps, addend)
    rows, columns = maps.shape
    parts = maps.new_empty(2, rows, library.cuda.row_sum_parts(columns))
    address = 0 if addend is None else addend.data_ptr()
    native.run_cuda(OP, maps, native.cuda_maps(maps), columns, address, parts[0].data_ptr(), parts[1].data_ptr())
    sums, magnitude = parts.sum(2)
    return sums, magnitude


def _row_sums_fake(maps: Tensor, addend: Tensor | None) -> tuple[Tensor, Tensor]:
    return maps.new_empty(maps.shape[0]), maps.new_empty(maps.shape[0])


torch.library.impl("fwdkern::row_sums", "CompositeExplicitAutograd", row_sums_reference)
torch.library.impl("fwdkern::row_sums", "CPU", _row_sums_cpu)
torch.library.register_fake("fwdkern::row_sums", _row_sums_fake)
