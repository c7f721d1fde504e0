"""A frozen recurrence over many slices at once: each step is a product with one matrix and three diagonals."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from fwdkern.errors import InputError
from fwdkern.ops import native
from fwdkern.ops.backend import choose, implementation, on_gpu
from fwdkern.ops.checks import check_devices, check_list
from fwdkern.ops.panels import in_panels
from fwdkern.ops.recurrent_freeze import order

OP = "recurrent_scan"

torch.library.define(
    "fwdkern::recurrent_scan",
    "(Tensor(a!) maps, Tensor weight, bool transposed, Tensor? keep, Tensor? gain_in, Tensor gain_out, "
    "Tensor active, bool descending) -> ()",
)


def recurrent_scan(
    maps: Tensor,
    weight: Tensor,
    transposed: bool,
    keep: Tensor | None,
    gain_in: Tensor | None,
    gain_out: Tensor,
    active: Tensor,
    descending: bool = False,
    backend: str | None = None,
) -> Tensor:
    """Carry maps through a frozen recurrence, in place:

        maps[s, b, t] += keep[b, t] * maps[s, b, p] + gain_out[b, t] * (weight @ (gain_in[b, p] * maps[s, b, p]))

    for every step t but the first, p the step before it, and slices s in active[p, 0] .. active[p, 1]; of other slices
    maps[s, b, p] is 0, which the caller answers for. A triangle of sources is a range of slices that grows by the step.
    The transpose of a recurrence is another one in the other direction.

    maps: [S, B, T, H], contiguous; float32, in plain torch any float dtype.
    weight: [H, H], which stands for its transpose where `transposed`.
    keep, gain_in, gain_out: [B, T, H]; keep None is 0, gain_in None 1.
    active: int64 [T, 2] on the CPU, which ranges must only grow in the order of the steps.
    Returns maps.
    """
    choice = choose(OP, maps.device, maps.dtype, tuple(maps.shape), backend)
    call = implementation(
        choice, OP, maps, torch.ops.fwdkern.recurrent_scan, recurrent_scan_reference, {"triton": _recurrent_scan_triton}
    )
    call(maps, weight, transposed, keep, gain_in, gain_out, active, descending)
    return maps


def recurrent_scan_reference(
    maps: Tensor,
    weight: Tensor,
    transposed: bool,
    keep: Tensor | None,
    gain_in: Tensor | None,
    gain_out: Tensor,
    active: Tensor,
    descending: bool,
) -> None:
    """The same in plain torch, step by step."""
    _check(maps, weight, keep, gain_in, gain_out, active, descending)
    matrix = weight.mT if transposed else weight
    steps = list(order(maps.shape[2], descending))
    for p, t in pairwise(steps):
        low, high = active[p].tolist()
        before = maps[low:high, :, p]
        carried = (before if gain_in is None else before * gain_in[:, p]) @ matrix.mT
        carried *= gain_out[:, t]
        if keep is not None:
            carried.addcmul_(before, keep[:, t])
        maps[low:high, :, t] += carried


def _check(
    maps: Tensor,
    weight: Tensor,
    keep: Tensor | None,
    gain_in: Tensor | None,
    gain_out: Tensor,
    active: Tensor,
    descending: bool,
) -> None:
    check_list(OP, "maps", maps, maps.dtype, (-1, -1, -1, -1))
    slices, *rest = maps.shape
    hidden = rest[-1]
    if weight.shape != (hidden, hidden) or weight.dtype != maps.dtype:
        raise InputError(
            f"{OP}: weight is {weight.dtype} {list(weight.shape)}; expected {maps.dtype} {[hidden, hidden]}."
        )
    for name, values in (("keep", keep), ("gain_in", gain_in), ("gain_out", gain_out)):
        if values is not None:
            check_list(OP, name, values, maps.dtype, tuple(rest))
    check_list(OP, "active", active, torch.int64, (rest[1], 2))
    others = {"weight": weight, "keep": keep, "gain_in": gain_in, "gain_out": gain_out}
    check_devices(OP, "maps", maps.device, others)
    ranges = [tuple(pair) for pair in active.tolist()]
    ranges = [(low, high) for low, high in (ranges[::-1] if descending else ranges) if low < high]
    grows = all(b[0] <= a[0] and a[1] <= b[1] for a, b in pairwise(ranges))
    if not grows or any(low < 0 or high > slices for low, high in ranges):
        raise InputError(f"{OP}: active holds ranges that shrink or leave the {slices} slices.")


torch.library.impl("fwdkern::recurrent_scan", "CompositeExplicitAutograd", recurrent_scan_reference)


@torch.library.impl("fwdkern::recurrent_scan", "CPU")
def _recurrent_scan_cpu(
    maps: Tensor,
    weight: Tensor,
    transposed: bool,
    keep: Tensor | None,
    gain_in: Tensor | None,
    gain_out: Tensor,
    active: Tensor,
    descending: bool,
) -> None:
    library, _ = native.load()
    if library is None or maps.dtype != torch.float32:
        recurrent_scan_reference(maps, weight, transposed, keep, gain_in, gain_out, active, descending)
        return
    _check(maps, weight, keep, gain_in, gain_out, active, descending)
    isa = native.isa(library)
    packed = in_panels(weight, library.recurrent_panel(isa), transposed)
    library.recurrent_scan(
        maps.data_ptr(),
        tuple(maps.shape),
        packed.data_ptr(),
        0 if keep is None else keep.data_ptr(),
        0 if gain_in is None else gain_in.data_ptr(),
        gain_out.data_ptr(),
        active.data_ptr(),
        descending,
        isa,
        native.threads(),
    )


def _recurrent_scan_triton(
    maps: Tensor,
    weight: Tensor,
    transposed: bool,
    keep: Tensor | None,
    gain_in: Tensor | None,
    gain_out: Tensor,
    active: Tensor,
    descending: bool,
) -> None:
    from fwdkern.kernels import recurrent_scan as kernels

    _check(maps, weight, keep, gain_in, gain_out, active, descending)
    kernels.recurrent_scan(maps, weight, transposed, keep, gain_in, gain_out, active.to(maps.device), descending)


@torch.library.impl("fwdkern::recurrent_scan", "CUDA")
def _recurrent_scan_cuda(maps: Tensor, *arguments: Any) -> None:
    on_gpu(OP, maps, recurrent_scan_reference, {"triton": _recurrent_scan_triton})(maps, *arguments)


@torch.library.register_fake("fwdkern::recurrent_scan")
def _recurrent_scan_fake(
    maps: Tensor,
    weight: Tensor,
    transposed: bool,
    keep: Tensor | None,
    gain_in: Tensor | None,
    gain_out: Tensor,
    active: Tensor,
    descending: bool,
) -> None:
    """The op only writes into `maps`."""
