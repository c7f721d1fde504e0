"""Rows of the input's own units: the first rows of forward mode."""

from typing import Any

import torch
from torch import Tensor

from fwdkern.ops import native
from fwdkern.ops.backend import choose, implementation, on_gpu
from fwdkern.ops.checks import check_apart, check_devices, check_list, check_maps, coefficient_dtype

OP = "seed"

torch.library.define("fwdkern::seed", "(Tensor value, Tensor column, Tensor(a!) out) -> ()")


def seed(value: Tensor, column: Tensor, out: Tensor, backend: str | None = None) -> Tensor:
    """Give every input unit a row that holds its value in its own slice and zeros elsewhere.

    value: [rows], float32 (float64 beside a float64 out), contiguous.
    column: int32 [rows], the slice of each unit; -1 where it lies outside of this block of slices.
    out: [rows, slices], slices contiguous, every element is written; float32 or bfloat16 (on GPUs float16 too, in
        plain torch float64). Returned.
    Raises InputError for arguments that do not fit, BackendError for a backend that cannot run.
    """
    choice = choose(OP, out.device, out.dtype, tuple(out.shape), backend)
    implementation(choice, OP, out, torch.ops.fwdkern.seed, seed_reference, _KERNELS)(value, column, out)
    return out


def _check(value: Tensor, column: Tensor, out: Tensor) -> None:
    check_maps(OP, "out", out)
    check_apart(OP, out)
    check_list(OP, "value", value, coefficient_dtype(out), (out.shape[0],))
    check_list(OP, "column", column, torch.int32, (out.shape[0],))
    check_devices(OP, "out", out.device, {"value": value, "column": column})


def seed_reference(value: Tensor, column: Tensor, out: Tensor) -> None:
    """The same in plain torch."""
    _check(value, column, out)
    own = column[:, None] == torch.arange(out.shape[1], device=out.device)  # [rows, slices]
    out.copy_(torch.where(own, value[:, None], 0))


def _seed_triton(value: Tensor, column: Tensor, out: Tensor) -> None:
    from fwdkern.kernels import seed as kernels

    _check(value, column, out)
    kernels.seed(value, column, out)


def _seed_cuda(value: Tensor, column: Tensor, out: Tensor) -> None:
    _check(value, column, out)
    native.run_cuda(OP, out, value.data_ptr(), column.data_ptr(), native.cuda_maps(out), out.shape[1])


_KERNELS = {"triton": _seed_triton, "cuda": _seed_cuda}


def _seed_gpu(value: Tensor, column: Tensor, out: Tensor) -> None:
    on_gpu(OP, out, seed_reference, _KERNELS)(value, column, out)


def _seed_fake(*arguments: Any) -> None:
    """The op only writes into `out`."""


torch.library.impl("fwdkern::seed", "CompositeExplicitAutograd", seed_reference)
torch.library.impl("fwdkern::seed", "CUDA", _seed_gpu)
torch.library.register_fake("fwdkern::seed", _seed_fake)
