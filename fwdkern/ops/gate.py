"""Gates, one bit a unit: which units are open, and maps where they are."""

import torch
from torch import Tensor

from fwdkern.errors import InputError
from fwdkern.ops import native
from fwdkern.ops.backend import choose, implementation
from fwdkern.ops.checks import channels_last, empty_channels_last

torch.library.define("fwdkern::gate_bits", "(Tensor values) -> Tensor")
torch.library.define("fwdkern::gate_maps", "(Tensor maps, Tensor bits) -> Tensor")


def gate_bits(values: Tensor, backend: str | None = None) -> Tensor:
    """Where values are above 0, one bit each.

    values: [B, C, *positions], floating point or bool, any strides.
    Returns uint8 [B, *positions, ceil(C / 8)], contiguous: channel c is bit c % 8 of byte c // 8, bits behind the last
    channel are 0.
    """
    choice = choose("gate_bits", values.device, values.dtype, tuple(values.shape), backend)
    op, kernels = torch.ops.fwdkern.gate_bits, {"cuda": _gate_bits_cuda}
    bits: Tensor = implementation(choice, "gate_bits", values, op, gate_bits_reference, kernels)(values)
    return bits


def gate_maps(maps: Tensor, bits: Tensor, backend: str | None = None) -> Tensor:
    """maps where the gate is open, 0 where it is closed whatever the maps hold there.

    maps: [S · B, C, *positions], any strides; row i goes through gate i % B.
    bits: of gate_bits, for [B, C, *positions].
    Returns a tensor like maps whose channels are contiguous.
    """
    choice = choose("gate_maps", maps.device, maps.dtype, tuple(maps.shape), backend)
    op, kernels = torch.ops.fwdkern.gate_maps, {"cuda": _gate_maps_cuda}
    gated: Tensor = implementation(choice, "gate_maps", maps, op, gate_maps_reference, kernels)(maps, bits)
    return gated


def gate_mask(bits: Tensor, channels: int) -> Tensor:
    """The gate as bool [B, C, *positions]."""
    each = torch.arange(8, dtype=torch.uint8, device=bits.device)
    return (bits.unsqueeze(-1) >> each & 1).flatten(-2)[..., :channels].bool().movedim(-1, 1)


def gate_count(bits: Tensor) -> int:
    """How many units are open."""
    for shift, mask in ((1, 0x55), (2, 0x33), (4, 0x0F)):  # sums of ever wider groups of bits
        bits = (bits & mask) + (bits >> shift & mask)
    return int(bits.sum())


def _check_values(values: Tensor) -> None:
    if values.dim() < 2:
        raise InputError(f"gate_bits: values has shape {list(values.shape)}; expected [B, C, *positions].")


def check_gate(op: str, shape: torch.Size, device: torch.device, bits: Tensor) -> None:
    """`bits` is a gate of gate_bits that fits maps of `shape` [S · B, C, *positions]."""
    expected = (*shape[2:], -(-shape[1] // 8)) if len(shape) > 1 else ()
    if tuple(bits.shape[1:]) != expected or (shape[0] % len(bits) if len(bits) else shape[0]):
        raise InputError(
            f"{op}: bits has shape {list(bits.shape)}, which does not fit maps of shape {list(shape)}; "
            "expected [B, *positions, ceil(C / 8)] for [S · B, C, *positions]."
        )
    if bits.dtype != torch.uint8 or not bits.is_contiguous():
        raise InputError(f"{op}: bits must be contiguous uint8, as gate_bits returns them.")
    if bits.device != device:
        raise InputError(f"{op}: bits is on {bits.device} and maps on {device}; move one of them.")


def gate_bits_reference(values: Tensor) -> Tensor:
    """The same in plain torch."""
    _check_values(values)
    open_ = (values > 0).movedim(1, -1)  # [B, *positions, C]
    padded = torch.nn.functional.pad(open_, (0, -values.shape[1] % 8)).unflatten(-1, (-1, 8))
    weight = 2 ** torch.arange(8, dtype=torch.uint8, device=values.device)
    return (padded * weight).sum(-1, dtype=torch.uint8)


def gate_maps_reference(maps: Tensor, bits: Tensor) -> Tensor:
    """The same in plain torch."""
    check_gate("gate_maps", maps.shape, maps.device, bits)
    out = empty_channels_last(maps, maps.shape)
    if out.numel():
        mask = gate_mask(bits, maps.shape[1])
        out.unflatten(0, (-1, len(bits))).copy_(torch.where(mask, maps.unflatten(0, (-1, len(bits))), 0))
    return out


torch.library.impl("fwdkern::gate_bits", "CompositeExplicitAutograd", gate_bits_reference)
torch.library.impl("fwdkern::gate_maps", "CompositeExplicitAutograd", gate_maps_reference)


@torch.library.impl("fwdkern::gate_bits", "CPU")
def _gate_bits_cpu(values: Tensor) -> Tensor:
    library, _ = native.load()
    if library is None or values.dtype != torch.float32:
        return gate_bits_reference(values)
    planes, strides, bits = _planes(values)
    library.gate_bits(
        planes.data_ptr(), tuple(planes.shape), strides, bits.data_ptr(), native.isa(library), native.threads()
    )
    return bits


def _planes(values: Tensor) -> tuple[Tensor, tuple[int, int, int], Tensor]:
    """values as [B, C, positions], a copy where positions lie apart, its strides, and memory for the bits."""
    _check_values(values)
    planes = values.flatten(2) if values.dim() > 2 else values.unsqueeze(2)
    images, channels, _ = planes.shape
    bits = values.new_empty((images, *values.shape[2:], -(-channels // 8)), dtype=torch.uint8)
    return planes, (planes.stride(0), planes.stride(1) if channels > 1 else 1, planes.stride(2)), bits


def _gate_bits_cuda(values: Tensor) -> Tensor:
    planes, strides, bits = _planes(values)
    kind = native.CUDA_TYPES[values.dtype]
    native.run_cuda("gate_bits", planes, planes.data_ptr(), kind, tuple(planes.shape), strides, bits.data_ptr())
    return bits


def _gate_maps_cuda(maps: Tensor, bits: Tensor) -> Tensor:
    check_gate("gate_maps", maps.shape, maps.device, bits)
    given, shape, strides = channels_last(maps)
    out = empty_channels_last(maps, maps.shape)
    layout = given.data_ptr(), native.CUDA_TYPES[maps.dtype], shape, strides
    native.run_cuda("gate_maps", given, *layout, bits.data_ptr(), max(len(bits), 1), out.data_ptr())
    return out


@torch.library.impl("fwdkern::gate_maps", "CPU")
def _gate_maps_cpu(maps: Tensor, bits: Tensor) -> Tensor:
    library, _ = native.load()
    if library is None or maps.dtype != torch.float32:
        return gate_maps_reference(maps, bits)
    check_gate("gate_maps", maps.shape, maps.device, bits)
    given, shape, strides = channels_last(maps)
    out = empty_channels_last(maps, maps.shape)
    library.gate_maps(
        given.data_ptr(),
        shape,
        strides,
        bits.data_ptr(),
        max(len(bits), 1),
        out.data_ptr(),
        native.isa(library),
        native.threads(),
    )
    return out


@torch.library.register_fake("fwdkern::gate_bits")
def _gate_bits_fake(values: Tensor) -> Tensor:
    return values.new_empty((values.shape[0], *values.shape[2:], -(-values.shape[1] // 8)), dtype=torch.uint8)


@torch.library.register_fake("fwdkern::gate_maps")
def _gate_maps_fake(maps: Tensor, bits: Tensor) -> Tensor:
    return empty_channels_last(maps, maps.shape)
