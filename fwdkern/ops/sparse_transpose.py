"""The transpose of a 2-d convolution with the gate and the max pool behind it, over pulled maps that are mostly 0."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from fwdkern.errors import InputError
from fwdkern.ops import native
from fwdkern.ops.backend import choose
from fwdkern.ops.checks import channels_last, check_devices, check_list, empty_channels_last
from fwdkern.ops.gate import check_gate, gate_maps_reference
from fwdkern.ops.max_pool import Pair, Window, check_winner, max_unpool_reference

OP = "sparse_transpose"

torch.library.define(
    "fwdkern::sparse_transpose",
    "(Tensor maps, Tensor? winner, int[] window, Tensor? bits, Tensor weight, Tensor? bias, int[2] stride, "
    "int[2] padding, int[2] in_size) "
    "-> (Tensor pulled, Tensor mass)",
)


def sparse_transpose(
    maps: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Pair,
    padding: Pair,
    in_size: Pair,
    bits: Tensor | None = None,
    pool: tuple[Tensor, Window] | None = None,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Pull maps of a gated convolution's outputs back to its inputs; only open entries that are not 0 are multiplied.

    maps: [S · B, C_out, h, w], any strides, best with contiguous channels.
    weight: [C_out, C_in, kh, kw] of a convolution without groups and dilation; bias: [C_out], contiguous, or None.
    in_size: (H, W) of the convolution's input.
    bits: the gate behind the convolution, of gate_bits for [B, C_out, h, w]; None where there is none.
    pool: winners and windows of a max pool behind the gate, of max_pool for [B, C_out, h, w]; the maps are then
        [S · B, C_out, h', w'], those of its output.
    Returns the pulled maps [S · B, C_in, H, W] with contiguous channels and the bias mass [S · B], the sum of the gated
    maps times the bias. Both are the same bit for bit for any number of threads.
    """
    winner, window = (None, []) if pool is None else (pool[0], [side for pair in pool[1] for side in pair])
    choice = choose(OP, maps.device, maps.dtype, tuple(maps.shape), backend)
    call = sparse_transpose_reference if choice.name == "torch" else torch.ops.fwdkern.sparse_transpose
    return call(maps, winner, window, bits, weight, bias, stride, padding, in_size)


def _check(
    maps: Tensor,
    winner: Tensor | None,
    window: list[int],
    bits: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    stride: Pair,
    padding: Pair,
    in_size: Pair,
) -> None:
    if maps.dim() != 4 or weight.dim() != 4 or maps.shape[1] != weight.shape[0]:
        raise InputError(
            f"{OP}: maps has shape {list(maps.shape)} and weight {list(weight.shape)}; expected [N, C_out, h, w] and "
            "[C_out, C_in, kh, kw]."
        )
    if maps.dtype != weight.dtype or maps.device != weight.device:
        raise InputError(f"{OP}: maps is {maps.dtype} on {maps.device}, weight {weight.dtype} on {weight.device}.")
    if bias is not None:
        check_list(OP, "bias", bias, maps.dtype, (weight.shape[0],))
        check_devices(OP, "maps", maps.device, {"bias": bias})
    size = _out_size(weight, stride, padding, in_size)
    if winner is not None:
        check_winner(OP, maps, winner)
    elif tuple(maps.shape[2:]) != size:
        raise InputError(f"{OP}: maps has shape {list(maps.shape)}; the convolution's output is {list(size)}.")
    if bits is not None:
        check_gate(OP, torch.Size((*maps.shape[:2], *size)), maps.device, bits)


def _pairs(window: list[int]) -> Window:
    kernel, stride, padding, dilation = ((window[i], window[i + 1]) for i in range(0, 8, 2))
    return kernel, stride, padding, dilation


def _out_size(weight: Tensor, stride: Pair, padding: Pair, in_size: Pair) -> Pair:
    """(h, w) of the convolution's output."""
    h, w = ((n + 2 * p - k) // s + 1 for n, p, k, s in zip(in_size, padding, weight.shape[2:], stride, strict=True))
    return h, w


def sparse_transpose_reference(
    maps: Tensor,
    winner: Tensor | None,
    window: list[int],
    bits: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    stride: Pair,
    padding: Pair,
    in_size: Pair,
) -> tuple[Tensor, Tensor]:
    """The same in plain torch, dense."""
    _check(maps, winner, window, bits, weight, bias, stride, padding, in_size)
    size = _out_size(weight, stride, padding, in_size)
    if winner is not None:
        maps = max_unpool_reference(maps, winner, *_pairs(window), size)
    if bits is not None:
        maps = gate_maps_reference(maps, bits)
    mass = maps.new_zeros(len(maps)) if bias is None else maps.sum((2, 3)) @ bias
    # A strided convolution ignores its last inputs: the transpose has to give them back, as zeros.
    left_over = [
        n - ((m - 1) * s - 2 * p + k)
        for n, m, s, p, k in zip(in_size, maps.shape[2:], stride, padding, weight.shape[2:], strict=True)
    ]
    pulled = F.conv_transpose2d(maps, weight, None, stride, padding, left_over)
    return empty_channels_last(pulled, pulled.shape).copy_(pulled), mass


torch.library.impl("fwdkern::sparse_transpose", "CompositeExplicitAutograd", sparse_transpose_reference)

# Packed weights by their tensor, with the version that they were packed at.
_packed: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def _pack(weight: Tensor) -> Tensor:
    """[C_out, kh, kw · C_in], the last padded to whole vectors of 16: how the library wants it."""
    version = None if weight.is_inference() else weight._version
    known = _packed.get(weight)
    if known is not None and version is not None and known[:2] == (version, weight.data_ptr()):
        return known[2]
    lines = weight.detach().permute(0, 2, 3, 1).flatten(2)
    packed = F.pad(lines, (0, -lines.shape[2] % 16)).contiguous()
    _packed[weight] = (version, weight.data_ptr(), packed)
    return packed


@torch.library.impl("fwdkern::sparse_transpose", "CPU")
def _sparse_transpose_cpu(
    maps: Tensor,
    winner: Tensor | None,
    window: list[int],
    bits: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    stride: Pair,
    padding: Pair,
    in_size: Pair,
) -> tuple[Tensor, Tensor]:
    library, _ = native.load()
    if library is None or maps.dtype != torch.float32:
        return sparse_transpose_reference(maps, winner, window, bits, weight, bias, stride, padding, in_size)
    _check(maps, winner, window, bits, weight, bias, stride, padding, in_size)
    given, shape, strides = channels_last(maps)
    packed = _pack(weight)
    out, _ = _sparse_transpose_fake(maps, winner, window, bits, weight, bias, stride, padding, in_size)
    parts = maps.new_zeros(len(maps), library.mass_parts(in_size[0]) if bias is not None else 1)
    library.sparse_transpose(
        given.data_ptr(),
        shape,
        strides,
        None if winner is None else (winner.data_ptr(), max(len(winner), 1), _pairs(window)),
        _out_size(weight, stride, padding, in_size),
        0 if bits is None else bits.data_ptr(),
        1 if bits is None else max(len(bits), 1),
        0 if bias is None else bias.data_ptr(),
        packed.data_ptr(),
        tuple(weight.shape[2:]),
        tuple(stride),
        tuple(padding),
        out.data_ptr(),
        tuple(in_size),
        weight.shape[1],
        parts.data_ptr(),
        native.isa(library),
        native.threads(),
    )
    return out, parts.sum(1)


@torch.library.register_fake("fwdkern::sparse_transpose")
def _sparse_transpose_fake(
    maps: Tensor,
    winner: Tensor | None,
    window: list[int],
    bits: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    stride: Pair,
    padding: Pair,
    in_size: Pair,
) -> tuple[Tensor, Tensor]:
    return empty_channels_last(maps, (maps.shape[0], weight.shape[1], *in_size)), maps.new_empty(len(maps))
