"""Sparse combinations of rows of maps: pooling, depthwise convolution, norms, adds and attention."""

from typing import Any

import torch
from torch import Tensor

from fwdkern.errors import InputError
from fwdkern.ops import native
from fwdkern.ops.backend import choose, implementation, on_gpu
from fwdkern.ops.checks import check_devices, check_list, check_maps, check_output, coefficient_dtype

OP = "row_combine"

torch.library.define(
    "fwdkern::row_combine",
    "(Tensor in_maps, Tensor offset, Tensor index, Tensor coefficient, bool accumulate, Tensor(a!) out) -> ()",
)


def row_combine(
    in_maps: Tensor,
    offset: Tensor,
    index: Tensor,
    coefficient: Tensor,
    *,
    accumulate: bool = False,
    out: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """For every output row r, a weighted sum of input rows:

        out[r] = sum over j in [offset[r], offset[r + 1]) of coefficient[j] * in_maps[index[j]]
                 (+ out[r] where accumulate)

    in_maps: [in rows, slices], slices contiguous; float32 or bfloat16 (on GPUs float16 too, in plain torch float64).
    offset: int64 [out rows + 1].
    index: int32 [terms]; int64 is copied to int32.
    coefficient: [terms], float32 (float64 beside float64 maps).
    out: [out rows, slices], slices contiguous, allocated in the dtype of in_maps if None. Sums are float32.

    On a GPU nothing waits for the device, so the contents of lists are not checked there.
    The same result bit for bit for any number of threads (torch.get_num_threads()).
    Raises InputError for arguments that do not fit, BackendError for a backend that cannot run.
    """
    if index.dtype == torch.int64:
        # Clamped, an index out of range stays out of range instead of wrapping around.
        index = index.clamp(-1, torch.iinfo(torch.int32).max).to(torch.int32)
    choice = choose(OP, in_maps.device, in_maps.dtype, tuple(in_maps.shape), backend)
    if out is None:
        if accumulate:
            raise InputError("row_combine: accumulate needs the tensor to add to; pass it as out.")
        check_maps(OP, "in_maps", in_maps)
        out = in_maps.new_empty(max(offset.shape[0] - 1, 0), in_maps.shape[1])
    call = implementation(choice, OP, in_maps, torch.ops.fwdkern.row_combine, row_combine_reference, _KERNELS)
    call(in_maps, offset, index, coefficient, accumulate, out)
    return out


def _check(in_maps: Tensor, offset: Tensor, index: Tensor, coefficient: Tensor, out: Tensor) -> None:
    check_maps(OP, "in_maps", in_maps)
    check_list(OP, "offset", offset, torch.int64, (-1,))
    if offset.shape[0] < 1:
        raise InputError("row_combine: offset is empty; expected out rows + 1 entries.")
    check_list(OP, "index", index, torch.int32, (-1,))
    check_list(OP, "coefficient", coefficient, coefficient_dtype(in_maps), (index.shape[0],))
    check_output(OP, "in_maps", out, (offset.shape[0] - 1, in_maps.shape[1]), in_maps)
    others = {"offset": offset, "index": index, "coefficient": coefficient, "out": out}
    check_devices(OP, "in_maps", in_maps.device, {**others})


def row_combine_reference(
    in_maps: Tensor, offset: Tensor, index: Tensor, coefficient: Tensor, accumulate: bool, out: Tensor
) -> None:
    """The same in plain torch, as a product with a sparse [out rows, in rows] matrix."""
    _check(in_maps, offset, index, coefficient, out)
    if int(offset[0]) != 0 or int(offset[-1]) != len(index):
        raise _term_error("the offsets do not run from 0 to the number of terms")
    if bool((offset.diff() < 0).any()):
        raise _term_error("the offsets do not ascend")
    if len(index) and not (0 <= int(index.min()) and int(index.max()) < len(in_maps)):
        raise _term_error("an index is out of range")
    row = torch.arange(len(out), device=out.device).repeat_interleave(offset.diff())  # [terms]
    matrix = torch.sparse_coo_tensor(
        torch.stack((row, index.long())), coefficient, (len(out), len(in_maps)), check_invariants=False
    )
    total = matrix @ in_maps.to(coefficient.dtype)
    if accumulate:
        total += out
    out.copy_(total)


def _row_combine_cpu(
    in_maps: Tensor, offset: Tensor, index: Tensor, coefficient: Tensor, accumulate: bool, out: Tensor
) -> None:
    library, _ = native.load()
    if library is None or not native.holds(in_maps, out):
        row_combine_reference(in_maps, offset, index, coefficient, accumulate, out)
        return
    _check(in_maps, offset, index, coefficient, out)
    try:
        library.row_combine(
            native.maps_argument(in_maps),
            native.maps_argument(out),
            offset.data_ptr(),
            index.data_ptr(),
            coefficient.data_ptr(),
            index.shape[0],
            accumulate,
            in_maps.shape[1],
            native.isa(library),
            native.threads(),
        )
    except ValueError as error:
        raise _term_error(str(error)) from None


def _row_combine_triton(
    in_maps: Tensor, offset: Tensor, index: Tensor, coefficient: Tensor, accumulate: bool, out: Tensor
) -> None:
    from fwdkern.kernels import row_combine as kernels

    _check(in_maps, offset, index, coefficient, out)
    kernels.row_combine(in_maps, offset, index, coefficient, accumulate, out)


def _row_combine_cuda(
    in_maps: Tensor, offset: Tensor, index: Tensor, coefficient: Tensor, accumulate: bool, out: Tensor
) -> None:
    _check(in_maps, offset, index, coefficient, out)
    native.run_cuda(
        OP,
        in_maps,
        native.cuda_maps(in_maps),
        native.cuda_maps(out),
        offset.data_ptr(),
        index.data_ptr(),
        coefficient.data_ptr(),
        accumulate,
        in_maps.shape[1],
    )


_KERNELS = {"triton": _row_combine_triton, "cuda": _row_combine_cuda}


def _row_combine_gpu(in_maps: Tensor, *arguments: Any) -> None:
    on_gpu(OP, in_maps, row_combine_reference, _KERNELS)(in_maps, *arguments)


def _term_error(problem: str) -> InputError:
    return InputError(f"row_combine: {problem}; expected compressed sparse rows over the rows of in_maps.")


def _row_combine_fake(
    in_maps: Tensor, offset: Tensor, index: Tensor, coefficient: Tensor, accumulate: bool, out: Tensor
) -> None:
    """The op only writes into `out`."""


torch.library.impl("fwdkern::row_combine", "CompositeExplicitAutograd", row_combine_reference)
torch.library.impl("fwdkern::row_combine", "CPU", _row_combine_cpu)
torch.library.impl("fwdkern::row_combine", "CUDA", _row_combine_gpu)
torch.library.register_fake("fwdkern::row_combine", _row_combine_fake)
