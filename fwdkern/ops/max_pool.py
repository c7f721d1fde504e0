"""Max pooling that remembers each window's winner in one byte, and its transpose."""

import torch
from torch import Tensor

from fwdkern.errors import InputError
from fwdkern.ops import native
from fwdkern.ops.backend import choose, implementation
from fwdkern.ops.checks import channels_last, empty_channels_last

Pair = tuple[int, int]
Window = tuple[Pair, Pair, Pair, Pair]  # kernel, stride, padding, dilation, each (height, width)

aten = torch.ops.aten

torch.library.define(
    "fwdkern::max_pool",
    "(Tensor values, int[2] kernel, int[2] stride, int[2] padding, int[2] dilation, bool ceil_mode) "
    "-> (Tensor out, Tensor winner)",
)
torch.library.define(
    "fwdkern::max_unpool",
    "(Tensor maps, Tensor winner, int[2] kernel, int[2] stride, int[2] padding, int[2] dilation, int[2] in_size) "
    "-> Tensor",
)


def fits_bytes(window: Window) -> bool:
    """Whether winners of these windows fit into bytes. Padding beside dilation can leave a window without any value."""
    kernel, _, padding, dilation = window
    return kernel[0] * kernel[1] <= 256 and (padding == (0, 0) or dilation == (1, 1))


def max_pool(values: Tensor, window: Window, ceil_mode: bool, backend: str | None = None) -> tuple[Tensor, Tensor]:
    """torch's max_pool2d and the place of each winner in its window, y · kernel width + x.

    values: [B, C, H, W], any strides. As in torch the first of equals wins, and a NaN always.
    Returns [B, C, H', W'] with contiguous channels and uint8 [B, H', W', C], contiguous.
    """
    choice = choose("max_pool", values.device, values.dtype, tuple(values.shape), backend)
    op, kernels = torch.ops.fwdkern.max_pool, {"cuda": _max_pool_cuda}
    call = implementation(choice, "max_pool", values, op, max_pool_reference, kernels)
    out, winner = call(values, *window, ceil_mode)
    return out, winner


def max_unpool(maps: Tensor, winner: Tensor, window: Window, in_size: Pair, backend: str | None = None) -> Tensor:
    """The transpose with the winners frozen: each map entry goes to the input that won its window.

    maps: [S · B, C, H', W'], any strides; row i has the winners i % B. winner: of max_pool, uint8 [B, H', W', C].
    Returns [S · B, C, *in_size] with contiguous channels.
    """
    choice = choose("max_unpool", maps.device, maps.dtype, tuple(maps.shape), backend)
    op, kernels = torch.ops.fwdkern.max_unpool, {"cuda": _max_unpool_cuda}
    call = implementation(choice, "max_unpool", maps, op, max_unpool_reference, kernels)
    pulled: Tensor = call(maps, winner, *window, in_size)
    return pulled


def winner_index(winner: Tensor, window: Window, in_size: Pair) -> Tensor:
    """The winners' flat positions in their planes, int64 [B, C, H', W'], as torch's indices of max_pool2d."""
    kernel, _, _, dilation = window
    place = winner.long().movedim(-1, 1)
    top, left = _corners(winner, window)
    y, x = place // kernel[1] * dilation[0] + top, place % kernel[1] * dilation[1] + left
    return y * in_size[1] + x


def _corners(winner: Tensor, window: Window) -> tuple[Tensor, Tensor]:
    """Where windows begin, [H', 1] and [W']."""
    _, stride, padding, _ = window
    y, x = (torch.arange(size, device=winner.device) for size in winner.shape[1:3])
    return (y * stride[0] - padding[0])[:, None], x * stride[1] - padding[1]


def _check_values(values: Tensor, window: Window) -> None:
    if values.dim() != 4:
        raise InputError(f"max_pool: values has shape {list(values.shape)}; expected [B, C, H, W].")
    if not fits_bytes(window):
        raise InputError(f"max_pool: the winners of windows {window} do not fit into bytes.")


def check_winner(op: str, maps: Tensor, winner: Tensor) -> None:
    """`winner` is of max_pool and fits maps [S · B, C, H', W']."""
    expected = (*maps.shape[2:], maps.shape[1]) if maps.dim() == 4 else ()
    if tuple(winner.shape[1:]) != expected or (len(maps) % len(winner) if len(winner) else len(maps)):
        raise InputError(
            f"{op}: winner has shape {list(winner.shape)}, which does not fit maps of shape {list(maps.shape)}; "
            "expected [B, H', W', C] for [S · B, C, H', W']."
        )
    if winner.dtype != torch.uint8 or not winner.is_contiguous() or winner.device != maps.device:
        raise InputError(f"{op}: winner must be contiguous uint8 on the device of maps, as max_pool returns it.")


def max_pool_reference(
    values: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> tuple[Tensor, Tensor]:
    """The same in plain torch."""
    window = (tuple(kernel), tuple(stride), tuple(padding), tuple(dilation))
    _check_values(values, window)  # type: ignore[arg-type]
    out, index = aten.max_pool2d_with_indices(values, kernel, stride, padding, dilation, ceil_mode)
    at = index.movedim(1, -1).contiguous()  # [B, H', W', C]
    top, left = _corners(at, window)  # type: ignore[arg-type]
    y = (at // values.shape[3] - top[:, :, None]) // dilation[0]
    x = (at % values.shape[3] - left[:, None]) // dilation[1]
    return empty_channels_last(out, out.shape).copy_(out), (y * kernel[1] + x).to(torch.uint8)


def max_unpool_reference(
    maps: Tensor, winner: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, in_size: Pair
) -> Tensor:
    """The same in plain torch."""
    window = (tuple(kernel), tuple(stride), tuple(padding), tuple(dilation))
    check_winner("max_unpool", maps, winner)
    shape = (*maps.shape[:2], *in_size)
    pulled = maps.new_zeros(*maps.shape[:2], in_size[0] * in_size[1])
    if maps.numel():
        index = winner_index(winner, window, tuple(in_size)).flatten(2)  # type: ignore[arg-type]
        index = index.expand(len(maps) // len(winner), *index.shape).flatten(0, 1)
        pulled.scatter_add_(2, index, maps.flatten(2))
    return empty_channels_last(maps, shape).copy_(pulled.view(shape))


torch.library.impl("fwdkern::max_pool", "CompositeExplicitAutograd", max_pool_reference)
torch.library.impl("fwdkern::max_unpool", "CompositeExplicitAutograd", max_unpool_reference)


@torch.library.impl("fwdkern::max_pool", "CPU")
def _max_pool_cpu(
    values: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> tuple[Tensor, Tensor]:
    library, _ = native.load()
    if library is None or values.dtype != torch.float32:
        return max_pool_reference(values, kernel, stride, padding, dilation, ceil_mode)
    _check_values(values, (tuple(kernel), tuple(stride), tuple(padding), tuple(dilation)))  # type: ignore[arg-type]
    out, winner = _max_pool_fake(values, kernel, stride, padding, dilation, ceil_mode)
    given, shape, _ = channels_last(values.contiguous(memory_format=torch.channels_last))
    library.max_pool(
        given.data_ptr(),
        shape,
        (tuple(kernel), tuple(stride), tuple(padding), tuple(dilation)),
        out.data_ptr(),
        tuple(out.shape[2:]),
        winner.data_ptr(),
        native.isa(library),
        native.threads(),
    )
    return out, winner


@torch.library.impl("fwdkern::max_unpool", "CPU")
def _max_unpool_cpu(
    maps: Tensor, winner: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, in_size: Pair
) -> Tensor:
    library, _ = native.load()
    if library is None or maps.dtype != torch.float32:
        return max_unpool_reference(maps, winner, kernel, stride, padding, dilation, in_size)
    window = (tuple(kernel), tuple(stride), tuple(padding), tuple(dilation))
    check_winner("max_unpool", maps, winner)
    given, shape, strides = channels_last(maps)
    out = empty_channels_last(maps, (*maps.shape[:2], *in_size))
    library.max_unpool(
        given.data_ptr(),
        shape,
        strides,
        (winner.data_ptr(), max(len(winner), 1), window),
        out.data_ptr(),
        tuple(in_size),
        native.isa(library),
        native.threads(),
    )
    return out


def _max_pool_cuda(
    values: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> tuple[Tensor, Tensor]:
    _check_values(values, (kernel, stride, padding, dilation))
    out, winner = _max_pool_fake(values, kernel, stride, padding, dilation, ceil_mode)
    given, shape, _ = channels_last(values.contiguous(memory_format=torch.channels_last))
    native.run_cuda(
        "max_pool",
        given,
        given.data_ptr(),
        native.CUDA_TYPES[values.dtype],
        shape,
        (kernel, stride, padding, dilation),
        out.data_ptr(),
        tuple(out.shape[2:]),
        winner.data_ptr(),
    )
    return out, winner


def _max_unpool_cuda(
    maps: Tensor, winner: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, in_size: Pair
) -> Tensor:
    check_winner("max_unpool", maps, winner)
    given, shape, strides = channels_last(maps)
    out = empty_channels_last(maps, (*maps.shape[:2], *in_size))
    native.run_cuda(
        "max_unpool",
        given,
        given.data_ptr(),
        native.CUDA_TYPES[maps.dtype],
        shape,
        strides,
        winner.data_ptr(),
        max(len(winner), 1),
        (kernel, stride, padding, dilation),
        out.data_ptr(),
        in_size,
    )
    return out


@torch.library.register_fake("fwdkern::max_pool")
def _max_pool_fake(
    values: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> tuple[Tensor, Tensor]:
    shape = aten.max_pool2d_with_indices(values.to("meta"), kernel, stride, padding, dilation, ceil_mode)[0].shape
    winner = values.new_empty((shape[0], *shape[2:], shape[1]), dtype=torch.uint8)
    return empty_channels_last(values, shape), winner


@torch.library.register_fake("fwdkern::max_unpool")
def _max_unpool_fake(
    maps: Tensor, winner: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, in_size: Pair
) -> Tensor:
    return empty_channels_last(maps, (*maps.shape[:2], *in_size))
