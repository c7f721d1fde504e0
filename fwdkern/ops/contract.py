"""Pulled rows of the input times the input itself, summed within each slice: the last step of reverse mode."""

from typing import Any

import torch
from torch import Tensor

from fwdkern.errors import InputError
from fwdkern.ops import native
from fwdkern.ops.backend import choose, implementation, on_gpu
from fwdkern.ops.checks import check_devices, check_list, check_maps, check_output, coefficient_dtype
from fwdkern.ops.row_combine import row_combine_reference

OP = "contract"

torch.library.define(
    "fwdkern::contract", "(Tensor pulled, Tensor offset, Tensor index, Tensor coefficient, Tensor(a!) out) -> ()"
)


def contract(
    pulled: Tensor,
    offset: Tensor,
    index: Tensor,
    coefficient: Tensor,
    *,
    out: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """For every target k and slice s:

        out[k, s] = sum over j in [offset[s], offset[s + 1]) of coefficient[j] * pulled[index[j], k]

    pulled: [in rows, targets], targets contiguous; float32 or bfloat16 (on GPUs float16 too, in plain torch float64).
    offset: int64 [slices + 1].
    index: int32 [terms], rows of pulled; coefficient: [terms], the input's values there, float32 (float64 beside
        float64 maps).
    out: [targets, slices], slices contiguous, allocated in the dtype of pulled if None. Sums are float32.

    `row_combine` with its result turned over, so that each target's map lies together.
    Raises InputError for arguments that do not fit, BackendError for a backend that cannot run.
    """
    choice = choose(OP, pulled.device, pulled.dtype, tuple(pulled.shape), backend)
    if out is None:
        check_maps(OP, "pulled", pulled)
        out = pulled.new_empty(pulled.shape[1], max(offset.shape[0] - 1, 0))
    call = implementation(choice, OP, pulled, torch.ops.fwdkern.contract, contract_reference, _KERNELS)
    call(pulled, offset, index, coefficient, out)
    return out


def _check(pulled: Tensor, offset: Tensor, index: Tensor, coefficient: Tensor, out: Tensor) -> None:
    check_maps(OP, "pulled", pulled)
    check_list(OP, "offset", offset, torch.int64, (-1,))
    if offset.shape[0] < 1:
        raise InputError("contract: offset is empty; expected slices + 1 entries.")
    check_list(OP, "index", index, torch.int32, (-1,))
    check_list(OP, "coefficient", coefficient, coefficient_dtype(pulled), (index.shape[0],))
    check_output(OP, "pulled", out, (pulled.shape[1], offset.shape[0] - 1), pulled)
    others = {"offset": offset, "index": index, "coefficient": coefficient, "out": out}
    check_devices(OP, "pulled", pulled.device, {**others})


def contract_reference(pulled: Tensor, offset: Tensor, index: Tensor, coefficient: Tensor, out: Tensor) -> None:
    """The same in plain torch."""
    _check(pulled, offset, index, coefficient, out)
    turned = coefficient.new_empty(out.shape[1], out.shape[0])  # [slices, targets]
    row_combine_reference(pulled.to(coefficient.dtype), offset, index, coefficient, False, turned)
    out.copy_(turned.t())


def _contract_triton(pulled: Tensor, offset: Tensor, index: Tensor, coefficient: Tensor, out: Tensor) -> None:
    from fwdkern.kernels import contract as kernels

    _check(pulled, offset, index, coefficient, out)
    kernels.contract(pulled, offset, index, coefficient, out)


def _contract_cuda(pulled: Tensor, offset: Tensor, index: Tensor, coefficient: Tensor, out: Tensor) -> None:
    _check(pulled, offset, index, coefficient, out)
    lists = offset.data_ptr(), index.data_ptr(), coefficient.data_ptr()
    native.run_cuda(OP, pulled, native.cuda_maps(pulled), native.cuda_maps(out), *lists, out.shape[1])


_KERNELS = {"triton": _contract_triton, "cuda": _contract_cuda}


def _contract_gpu(pulled: Tensor, *arguments: Any) -> None:
    on_gpu(OP, pulled, contract_reference, _KERNELS)(pulled, *arguments)


def _contract_fake(*arguments: Any) -> None:
    """The op only writes into `out`."""


torch.library.impl("fwdkern::contract", "CompositeExplicitAutograd", contract_reference)
torch.library.impl("fwdkern::contract", "CUDA", _contract_gpu)
torch.library.register_fake("fwdkern::contract", _contract_fake)
