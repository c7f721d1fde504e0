"""One layer on one tile of maps: active input rows times gathered weights into active output rows."""

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fwdkern.errors import InputError
from fwdkern.ops import native
from fwdkern.ops.backend import choose, implementation, on_gpu
from fwdkern.ops.checks import check_devices, check_list, check_maps, check_output, coefficient_dtype

OP = "gathered_gemm"
_PRECISION = 11  # its place behind in_maps among the arguments of the registered op
PRECISIONS = ("ieee", "tf32", "bf16")
RowList = tuple[Tensor, Tensor]

torch.library.define(
    "fwdkern::gathered_gemm",
    "(Tensor in_maps, Tensor in_offset, Tensor in_channel, Tensor out_offset, Tensor out_channel, "
    "Tensor taps, Tensor weight, Tensor? row_scale, int groups, bool accumulate, Tensor(a!) out, "
    "Tensor? in_index=None, str precision='ieee') -> ()",
)


def gathered_gemm(
    in_maps: Tensor,
    in_rows: RowList,
    out_rows: RowList,
    taps: Tensor,
    weight: Tensor,
    *,
    row_scale: Tensor | None = None,
    groups: int = 1,
    accumulate: bool = False,
    out: Tensor | None = None,
    in_index: Tensor | None = None,
    precision: str = "ieee",
    terms: Any = None,
    backend: str | None = None,
) -> Tensor:
    """For every row r of every output position q (design, section 4):

        out[r] = row_scale[r] * sum over t and rows i of position taps[q, t] of
                 weight[t, channel of i, channel of r] * in_maps[i]        (+ out[r] where accumulate)

    in_maps: [in rows, slices], slices contiguous; float32 or bfloat16 (on GPUs float16 too, in plain torch float64).
    in_rows, out_rows: (row_offset int64 [positions + 1], row_channel int32 [rows]), made by `active_rows`.
    taps: int32 [out positions, T], the input position of each tap, -1 where it lies outside.
    weight: [T, in channels, out channels / groups], float32 (float64 beside float64 maps), contiguous.
        Channels are numbered through all groups and meet only inside their group; the last axis counts
        within the group.
    in_index: int32 [listed in rows], the row of in_maps that holds each; None if the list is in_maps' own. A pool, a
        concatenation or another relabelled layer is then read where its inputs lie.
    row_scale: [out rows] in the weight's dtype; it does not scale what `out` held before.
    precision: what tensor cores may round the operands to: "ieee" nothing, "tf32" 11 significant bits, "bf16" 8. Other
        backends always multiply exactly.
    terms: of `list_terms`, where several calls share what it is made of.
    out: [out rows, slices], slices contiguous, allocated in the dtype of in_maps if None. Sums are float32.

    Reverse mode is the same call with the lists swapped, the weight transposed and the taps mirrored.
    On a GPU nothing waits for the device, so the contents of lists are not checked there. Slices, and the distances
    between rows, are best multiples of 16: maps then move 16 bytes at a time.
    The same result bit for bit for any number of threads (torch.get_num_threads()).
    Raises InputError for arguments that do not fit, BackendError for a backend that cannot run.
    """
    choice = choose(OP, in_maps.device, in_maps.dtype, tuple(in_maps.shape), backend, precision)
    if out is None:
        if accumulate:
            raise InputError("gathered_gemm: accumulate needs the tensor to add to; pass it as out.")
        check_maps(OP, "in_maps", in_maps)
        out = in_maps.new_empty(out_rows[1].shape[0], in_maps.shape[1])
    op, reference = torch.ops.fwdkern.gathered_gemm, gathered_gemm_reference
    call = implementation(choice, OP, in_maps, op, reference, _KERNELS, precision)
    if terms is not None:
        if terms.backend != choice.name or terms.map_bytes != in_maps.stride(0) * in_maps.itemsize:
            raise InputError(
                f"gathered_gemm: terms were listed for {terms.backend} and rows {terms.map_bytes} bytes apart; in_maps "
                f"goes to {choice.name}, with rows {in_maps.stride(0) * in_maps.itemsize} bytes apart."
            )
        call = functools.partial(_KERNELS[choice.name], terms=terms.lists)
    call(in_maps, *in_rows, *out_rows, taps, weight, row_scale, groups, accumulate, out, in_index, precision)
    return out


class Terms(NamedTuple):
    """Lists of `list_terms`: the backend whose they are, how many bytes they take, and how far apart the rows of the
    maps are that they point into."""

    backend: str
    lists: Any
    nbytes: int
    map_bytes: int


def list_terms(
    in_maps: Tensor,
    in_rows: RowList,
    taps: Tensor,
    weight: Tensor,
    *,
    groups: int = 1,
    in_index: Tensor | None = None,
    precision: str = "ieee",
    most: int,
    backend: str | None = None,
) -> Terms | None:
    """What every call of `gathered_gemm` on kernels for GPUs lists anew, for its ``terms``; None if that takes more
    than ``most`` bytes, and for backends that list nothing.

    The other arguments are those of the calls, which may differ in all others; their ``in_maps`` are of this shape,
    dtype and stride.
    """
    name = choose(OP, in_maps.device, in_maps.dtype, tuple(in_maps.shape), backend, precision).name
    if name not in _LISTS:
        return None
    size, make = _LISTS[name]
    nbytes = size(len(taps), taps.shape[1], weight.shape[1], groups)
    if nbytes > most:
        return None
    lists = make(in_maps, in_rows, taps, weight, groups, in_index, precision)
    return Terms(name, lists, nbytes, in_maps.stride(0) * in_maps.itemsize)


def _check(
    in_maps: Tensor,
    in_offset: Tensor,
    in_channel: Tensor,
    out_offset: Tensor,
    out_channel: Tensor,
    taps: Tensor,
    weight: Tensor,
    row_scale: Tensor | None,
    groups: int,
    out: Tensor,
    in_index: Tensor | None,
    precision: str,
) -> None:
    if precision not in PRECISIONS:
        raise InputError(f"gathered_gemm: precision is {precision!r}; expected one of {', '.join(PRECISIONS)}.")
    check_maps(OP, "in_maps", in_maps)
    check_list(OP, "in_rows[0]", in_offset, torch.int64, (-1,))
    check_list(OP, "in_rows[1]", in_channel, torch.int32, (in_maps.shape[0] if in_index is None else -1,))
    if in_index is not None:
        check_list(OP, "in_index", in_index, torch.int32, (in_channel.shape[0],))
    check_list(OP, "out_rows[0]", out_offset, torch.int64, (-1,))
    check_list(OP, "out_rows[1]", out_channel, torch.int32, (-1,))
    if min(in_offset.shape[0], out_offset.shape[0]) < 1:
        raise InputError("gathered_gemm: a row list has no offsets; expected positions + 1 of them.")
    check_list(OP, "taps", taps, torch.int32, (out_offset.shape[0] - 1, -1))
    check_list(OP, "weight", weight, coefficient_dtype(in_maps), (taps.shape[1], -1, -1))
    if groups < 1 or weight.shape[1] % groups:
        raise InputError(f"gathered_gemm: groups is {groups}; expected a divisor of the {weight.shape[1]} in channels.")
    if row_scale is not None:
        check_list(OP, "row_scale", row_scale, weight.dtype, (out_channel.shape[0],))
    check_output(OP, "in_maps", out, (out_channel.shape[0], in_maps.shape[1]), in_maps)
    others = {
        "in_index": in_index,
        "in_rows": in_channel,
        "out_rows": out_channel,
        "taps": taps,
        "weight": weight,
        "out": out,
    }
    check_devices(OP, "in_maps", in_maps.device, {**others, "row_scale": row_scale})


def gathered_gemm_reference(
    in_maps: Tensor,
    in_offset: Tensor,
    in_channel: Tensor,
    out_offset: Tensor,
    out_channel: Tensor,
    taps: Tensor,
    weight: Tensor,
    row_scale: Tensor | None,
    groups: int,
    accumulate: bool,
    out: Tensor,
    in_index: Tensor | None = None,
    precision: str = "ieee",
) -> None:
    """The same in plain torch: every tap is a sparse [out rows, in rows] matrix of weights."""
    _check(
        in_maps,
        in_offset,
        in_channel,
        out_offset,
        out_channel,
        taps,
        weight,
        row_scale,
        groups,
        out,
        in_index,
        precision,
    )
    _check_rows("in", in_offset, in_channel, weight.shape[1])
    _check_rows("out", out_offset, out_channel, weight.shape[2] * groups)
    if taps.numel() and not (-1 <= int(taps.min()) and int(taps.max()) < in_offset.shape[0] - 1):
        raise _row_error("a tap is out of range")
    maps = in_maps.to(weight.dtype)
    if in_index is not None:
        if len(in_index) and not (0 <= int(in_index.min()) and int(in_index.max()) < len(maps)):
            raise _row_error("an input row's place is out of range")
        maps = maps[in_index.long()]
    out_position = _position_of_rows(out_offset)  # [out rows]
    rows_at = in_offset.diff()  # [in positions]
    in_width, out_width = weight.shape[1] // groups, weight.shape[2]
    total = torch.zeros(out.shape, dtype=weight.dtype, device=out.device)
    for tap, weight_of_tap in enumerate(weight):
        position = taps[:, tap].long()[out_position]  # [out rows]
        inside = (position >= 0).nonzero().flatten()
        position = position[inside]
        repeats = rows_at[position]
        out_row = inside.repeat_interleave(repeats)  # [pairs]
        start = (in_offset[position] - (repeats.cumsum(0) - repeats)).repeat_interleave(repeats)
        in_row = start + torch.arange(len(start), device=start.device)  # [pairs]
        c_in, c_out = in_channel[in_row].long(), out_channel[out_row].long()
        meet = c_in // in_width == c_out // out_width
        out_row, in_row = out_row[meet], in_row[meet]
        coefficient = weight_of_tap[c_in[meet], c_out[meet] % out_width]
        matrix = torch.sparse_coo_tensor(
            torch.stack((out_row, in_row)), coefficient, (out.shape[0], maps.shape[0]), check_invariants=False
        )
        total += matrix @ maps
    if row_scale is not None:
        total *= row_scale[:, None]
    if accumulate:
        total += out
    out.copy_(total)


def _gathered_gemm_cpu(
    in_maps: Tensor,
    in_offset: Tensor,
    in_channel: Tensor,
    out_offset: Tensor,
    out_channel: Tensor,
    taps: Tensor,
    weight: Tensor,
    row_scale: Tensor | None,
    groups: int,
    accumulate: bool,
    out: Tensor,
    in_index: Tensor | None = None,
    precision: str = "ieee",
) -> None:
    library, _ = native.load()
    if library is None or not native.holds(in_maps, out):
        gathered_gemm_reference(
            in_maps,
            in_offset,
            in_channel,
            out_offset,
            out_channel,
            taps,
            weight,
            row_scale,
            groups,
            accumulate,
            out,
            in_index,
            precision,
        )
        return
    _check(
        in_maps,
        in_offset,
        in_channel,
        out_offset,
        out_channel,
        taps,
        weight,
        row_scale,
        groups,
        out,
        in_index,
        precision,
    )
    if in_index is not None and not len(in_index):
        in_maps = in_maps[:0]  # an empty tensor has no address, by which the library would know that there is a list
    try:
        library.gathered_gemm(
            native.maps_argument(in_maps),
            (in_offset.data_ptr(), in_channel.data_ptr(), in_offset.shape[0] - 1),
            native.maps_argument(out),
            (out_offset.data_ptr(), out_channel.data_ptr(), out_offset.shape[0] - 1),
            taps.data_ptr(),
            taps.shape[1],
            weight.data_ptr(),
            weight.shape[1],
            weight.shape[2] * groups,
            groups,
            0 if row_scale is None else row_scale.data_ptr(),
            accumulate,
            in_maps.shape[1],
            0 if in_index is None else in_index.data_ptr(),
            in_channel.shape[0],
            native.isa(library),
            native.threads(),
        )
    except ValueError as error:
        raise _row_error(str(error)) from None


def _gathered_gemm_triton(
    in_maps: Tensor,
    in_offset: Tensor,
    in_channel: Tensor,
    out_offset: Tensor,
    out_channel: Tensor,
    taps: Tensor,
    weight: Tensor,
    row_scale: Tensor | None,
    groups: int,
    accumulate: bool,
    out: Tensor,
    in_index: Tensor | None = None,
    precision: str = "ieee",
    terms: Any = None,
) -> None:
    from fwdkern.kernels import gathered_gemm as kernels

    _check(
        in_maps,
        in_offset,
        in_channel,
        out_offset,
        out_channel,
        taps,
        weight,
        row_scale,
        groups,
        out,
        in_index,
        precision,
    )
    kernels.gathered_gemm(
        in_maps,
        (in_offset, in_channel),
        (out_offset, out_channel),
        taps,
        _rounded_to_tf32(weight) if precision == "tf32" else weight,
        row_scale,
        groups,
        accumulate,
        out,
        in_index,
        precision,
        terms,
    )


def _gathered_gemm_cuda(
    in_maps: Tensor,
    in_offset: Tensor,
    in_channel: Tensor,
    out_offset: Tensor,
    out_channel: Tensor,
    taps: Tensor,
    weight: Tensor,
    row_scale: Tensor | None,
    groups: int,
    accumulate: bool,
    out: Tensor,
    in_index: Tensor | None = None,
    precision: str = "ieee",
    terms: Tensor | None = None,
) -> None:
    _check(
        in_maps,
        in_offset,
        in_channel,
        out_offset,
        out_channel,
        taps,
        weight,
        row_scale,
        groups,
        out,
        in_index,
        precision,
    )
    positions, tap_count = taps.shape
    in_channels = weight.shape[1]
    scratch = terms
    if scratch is None:
        size = _cuda().gathered_gemm_scratch(positions, tap_count, in_channels, groups)
        scratch = torch.empty(size, dtype=torch.uint8, device=in_maps.device)
    precision = _cuda_precision(precision, in_maps)
    if precision != "ieee":
        weight = _rounded_to_tf32(weight) if precision == "tf32" else weight.to(torch.bfloat16)
    native.run_cuda(
        OP,
        in_maps,
        native.cuda_maps(in_maps),
        (in_offset.data_ptr(), in_channel.data_ptr(), in_offset.shape[0] - 1),
        native.cuda_maps(out),
        (out_offset.data_ptr(), out_channel.data_ptr(), positions),
        taps.data_ptr(),
        (weight.data_ptr(), tap_count, in_channels, weight.shape[2] * groups, groups),
        0 if row_scale is None else row_scale.data_ptr(),
        accumulate,
        in_maps.shape[1],
        0 if in_index is None else in_index.data_ptr(),
        PRECISIONS.index(precision),
        (scratch.data_ptr(), len(scratch)),
        terms is not None,
    )


def _cuda() -> Any:
    library, _ = native.load()
    assert library is not None, "choose() looks for it"
    return library.cuda


def _cuda_precision(precision: str, in_maps: Tensor) -> str:
    """float16 maps are exact in tf32 and not in bfloat16."""
    return "tf32" if precision == "bf16" and in_maps.dtype == torch.float16 else precision


def _list_terms_cuda(
    in_maps: Tensor,
    in_rows: RowList,
    taps: Tensor,
    weight: Tensor,
    groups: int,
    in_index: Tensor | None,
    precision: str,
) -> Tensor:
    sizes = (*taps.shape, weight.shape[1], groups)
    scratch = torch.empty(_cuda().list_terms_scratch(*sizes), dtype=torch.uint8, device=in_maps.device)
    weight_bytes = weight.shape[2] * (2 if _cuda_precision(precision, in_maps) == "bf16" else 4)
    native.run_cuda(
        "list_terms",
        in_maps,
        (in_rows[0].data_ptr(), in_rows[1].data_ptr(), in_rows[0].shape[0] - 1),
        0 if in_index is None else in_index.data_ptr(),
        taps.data_ptr(),
        sizes,
        (in_maps.stride(0) * in_maps.itemsize, weight_bytes),
        (scratch.data_ptr(), len(scratch)),
    )
    return scratch


def _list_terms_triton(
    in_maps: Tensor,
    in_rows: RowList,
    taps: Tensor,
    weight: Tensor,
    groups: int,
    in_index: Tensor | None,
    precision: str,
) -> Any:
    from fwdkern.kernels import gathered_gemm as kernels

    return kernels.list_terms(in_rows, taps, tuple(weight.shape), groups, in_index)


def _terms_bytes_triton(positions: int, tap_count: int, in_channels: int, groups: int) -> int:
    from fwdkern.kernels import gathered_gemm as kernels

    return 12 * kernels.terms_capacity(tap_count, in_channels // groups) * positions * groups


def _rounded_to_tf32(weight: Tensor) -> Tensor:
    """A copy. Tensor cores drop the bits beyond tf32 instead of rounding, which would shrink every layer's maps."""
    return ((weight.view(torch.int32) + 0x1000) & -0x2000).view(torch.float32)


_KERNELS: dict[str, Any] = {"triton": _gathered_gemm_triton, "cuda": _gathered_gemm_cuda}
# How many bytes lists take, by positions, taps, in channels and groups; and what makes them.
_LISTS: dict[str, Any] = {
    "triton": (_terms_bytes_triton, _list_terms_triton),
    "cuda": (lambda *sizes: _cuda().list_terms_scratch(*sizes), _list_terms_cuda),
}


def _gathered_gemm_gpu(in_maps: Tensor, *arguments: Any) -> None:
    precision = arguments[_PRECISION] if len(arguments) > _PRECISION else "ieee"
    on_gpu(OP, in_maps, gathered_gemm_reference, _KERNELS, precision)(in_maps, *arguments)


def _check_rows(side: str, offset: Tensor, channel: Tensor, channels: int) -> None:
    if int(offset[0]) != 0 or int(offset[-1]) != len(channel):
        raise _row_error(f"{side}_rows: the offsets do not run from 0 to the number of rows")
    if bool((offset.diff() < 0).any()):
        raise _row_error(f"{side}_rows: the offsets do not ascend")
    if len(channel) and not (0 <= int(channel.min()) and int(channel.max()) < channels):
        raise _row_error(f"{side}_rows: a channel is out of range")
    key = _position_of_rows(offset) * channels + channel
    if bool((key.diff() <= 0).any()):
        raise _row_error(f"{side}_rows: the channels of a position do not ascend")


def _position_of_rows(offset: Tensor) -> Tensor:
    return torch.arange(len(offset) - 1, device=offset.device).repeat_interleave(offset.diff())


def _row_error(problem: str) -> InputError:
    return InputError(f"gathered_gemm: {problem}; make row lists with active_rows and taps within their positions.")


def _gathered_gemm_fake(
    in_maps: Tensor,
    in_offset: Tensor,
    in_channel: Tensor,
    out_offset: Tensor,
    out_channel: Tensor,
    taps: Tensor,
    weight: Tensor,
    row_scale: Tensor | None,
    groups: int,
    accumulate: bool,
    out: Tensor,
    in_index: Tensor | None = None,
    precision: str = "ieee",
) -> None:
    """The op only writes into `out`."""


torch.library.impl("fwdkern::gathered_gemm", "CompositeExplicitAutograd", gathered_gemm_reference)
torch.library.impl("fwdkern::gathered_gemm", "CPU", _gathered_gemm_cpu)
torch.library.impl("fwdkern::gathered_gemm", "CUDA", _gathered_gemm_gpu)
torch.library.register_fake("fwdkern::gathered_gemm", _gathered_gemm_fake)
