"""Algorithm 1 of the thesis, letter by letter: the oracle of the tests and the baseline of the benchmarks.

For an input x of shape [C, H, W] with N = H * W pixels, every unit u of every layer has a map V_u, [H, W]:

    first layer    V_u = (w_u * x, summed over the input channels, + b_u / N) * |sgn(out_u)|
    later layers   V_u = (sum_j w_uj V_j                           + b_u / N) * |sgn(out_u)|

The maps of all units of a layer are one tensor ``[*unit_shape, H, W]`` (``[C', H', W', H, W]`` after a
convolution, ``[U, H, W]`` after a linear layer). An input unit's map is its own value at its own pixel
(``input_maps``), which makes the first equation a case of the second.

The functions of this file are the layer equations without the factor |sgn(out)|, and ``switch``, which is
that factor. They compose by hand where a network is not a chain: maps are added where values are added,
concatenated where values are concatenated, and zero where values are padded with zeros. ``algorithm1`` runs
them over a chain of modules.

Nothing here is optimised, and nothing is meant to be.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fwdkern.errors import InputError, UnsupportedOperatorError

_SUPPORTED = (
    "Conv2d (zero padding), Linear, BatchNorm2d, ReLU, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d, Flatten, "
    "Identity, Dropout, Dropout2d and Sequential, all in evaluation mode"
)


def input_maps(x: Tensor) -> Tensor:
    """Maps of the input units: each value at its own pixel. x: [C, H, W]. Returns [C, H, W, H, W]."""
    _, height, width = x.shape
    pixels = height * width
    own_pixel = torch.eye(pixels, dtype=x.dtype, device=x.device).view(height, width, height, width)
    return x[:, :, :, None, None] * own_pixel


def first_layer(layer: nn.Conv2d | nn.Linear, x: Tensor) -> Tensor:
    """First equation, before the switch: w_u * x summed over the input channels, + b_u / N.

    x: [C, H, W]. Returns [C', H', W', H, W] for a convolution, [U, H, W] for a linear layer on the flat
    image.
    """
    maps = input_maps(x)
    if isinstance(layer, nn.Linear):
        return fully_connected(layer, maps.flatten(0, 2))
    return convolution(layer, maps)


def fully_connected(layer: nn.Linear, maps: Tensor) -> Tensor:
    """Second equation for a linear layer, before the switch. maps: [J, H, W]. Returns [U, H, W]."""
    out = torch.einsum("uj,...jhw->...uhw", layer.weight, maps)
    return out if layer.bias is None else out + _bias_share(layer.bias, maps)


def convolution(layer: nn.Conv2d, maps: Tensor) -> Tensor:
    """Second equation for a convolution, before the switch: Algorithm 1's loop.

    maps: [C, H', W', H, W]. Returns [C'', H'', W'', H, W]. Any stride, dilation, groups and zero padding.
    """
    if layer.padding_mode != "zeros":
        raise UnsupportedOperatorError(
            f"algorithm1 was given a Conv2d with padding_mode={layer.padding_mode!r}; it knows 'zeros' only. "
            "Pad the maps by hand, or explain the model with fwdkern.fuse."
        )

    def convolve(one: Tensor) -> Tensor:
        return F.conv2d(one, layer.weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)

    out = _slice_by_slice(convolve, maps)
    return out if layer.bias is None else out + _bias_share(layer.bias, maps)[:, None, None]


def batch_norm(layer: nn.BatchNorm2d, maps: Tensor) -> Tensor:
    """Second equation for batch normalisation in evaluation mode, w = gamma / sigma, b = beta - w * mean.

    maps: [C, H', W', H, W]. Returns the same shape.
    """
    if layer.running_mean is None or layer.running_var is None:
        raise UnsupportedOperatorError(
            "algorithm1 was given a BatchNorm2d without running statistics; its output then depends on the "
            "batch. Use track_running_stats=True."
        )
    scale = (layer.running_var + layer.eps).rsqrt()
    if layer.weight is not None:
        scale = scale * layer.weight
    shift = -scale * layer.running_mean
    if layer.bias is not None:
        shift = shift + layer.bias
    return maps * scale[:, None, None, None, None] + _bias_share(shift, maps)[:, None, None]


def max_pool(layer: nn.MaxPool2d, maps: Tensor, values: Tensor) -> Tensor:
    """The winner's map, ties broken as torch breaks them.

    maps: [C, H', W', H, W], values: the pool's input [C, H', W']. Returns [C, H'', W'', H, W].
    """
    geometry = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode)
    _, winners = F.max_pool2d(values, *geometry, return_indices=True)  # [C, H'', W''], positions in H' * W'
    channel = torch.arange(len(maps), device=maps.device)[:, None, None]
    return maps.flatten(1, 2)[channel, winners]


def average_pool(layer: nn.AvgPool2d | nn.AdaptiveAvgPool2d, maps: Tensor) -> Tensor:
    """Average of the maps in each window. maps: [C, H', W', H, W]. Returns [C, H'', W'', H, W]."""
    return _slice_by_slice(layer, maps)


def switch(maps: Tensor, out: Tensor) -> Tensor:
    """The factor |sgn(out_u)|. maps: [*unit_shape, H, W], out: the units' values [*unit_shape]."""
    return maps * out.sign().abs()[..., None, None]


@overload
def algorithm1(layers: nn.Module | Iterable[nn.Module], x: Tensor, all_layers: Literal[False] = False) -> Tensor: ...


@overload
def algorithm1(layers: nn.Module | Iterable[nn.Module], x: Tensor, all_layers: Literal[True]) -> dict[str, Tensor]: ...


@torch.no_grad()
def algorithm1(
    layers: nn.Module | Iterable[nn.Module], x: Tensor, all_layers: bool = False
) -> Tensor | dict[str, Tensor]:
    """Maps of all units of the last layer of a chain of modules, or of every layer.

    layers: an nn.Sequential (nested as one likes), a sequence of modules, or one module, in evaluation
    mode. Known are Conv2d (zero padding), Linear, BatchNorm2d, ReLU, MaxPool2d, AvgPool2d,
    AdaptiveAvgPool2d, Flatten, Identity and Dropout.
    x: one image, [C, H, W] or [1, C, H, W], in the dtype and on the device of the weights.

    Returns the last layer's maps [*unit_shape, H, W]; with ``all_layers=True`` a dictionary from each
    module's path in the chain ("0", "1", "3.conv", ...) to its maps. Each map sums to its unit's value.

    The thesis writes a weighted layer and its activation as one layer, whose output is the activation's. So
    maps pass through convolutions, linear layers and batch norms unswitched and are switched at the ReLU;
    the map that is returned for a module without activation carries |sgn(out)| of the unit itself. To the
    letter: a unit whose output is exactly 0 has the map 0, at a ReLU (a pre-activation of exactly 0 is off)
    and at a linear output (where the contributions cancel). Either way the sum is the unit's value.

    Raises InputError for another shape or dtype of x, UnsupportedOperatorError for another module or one in
    training mode, by its path.
    """
    if x.dim() == 4 and len(x) == 1:
        x = x[0]
    if x.dim() != 3 or not x.is_floating_point():
        raise InputError(
            f"algorithm1 was given x of shape {list(x.shape)} and dtype {x.dtype}; it explains one "
            "floating-point image, [C, H, W] or [1, C, H, W]. Convert the image, or loop over the batch."
        )
    maps = input_maps(x)
    values = x[None].clone()  # an in-place ReLU must not write into the caller's image
    surfaces = {}
    for path, layer in _chain(layers):
        maps = _advance(path, layer, maps, values[0])
        values = layer(values)
        if all_layers:
            surfaces[path] = switch(maps, values[0])
    return surfaces if all_layers else switch(maps, values[0])


def _slice_by_slice(operator: Callable[[Tensor], Tensor], maps: Tensor) -> Tensor:
    """Apply a linear operator on [1, C, H', W'] to the slice of each input pixel. maps: [C, H', W', H, W]."""
    height, width = maps.shape[-2:]
    slices = maps.flatten(-2).permute(3, 0, 1, 2)  # [N, C, H', W']
    out = torch.cat([operator(one) for one in slices.split(1)])  # [N, C'', H'', W'']
    return out.permute(1, 2, 3, 0).unflatten(-1, (height, width))


def _bias_share(bias: Tensor, maps: Tensor) -> Tensor:
    """b_u / N as maps to add. bias: [U], maps: [..., H, W]. Returns [U, 1, 1]."""
    return (bias / (maps.shape[-2] * maps.shape[-1]))[:, None, None]


def _chain(layers: nn.Module | Iterable[nn.Module], prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Leaf modules in the order in which they run, with their paths."""
    if isinstance(layers, nn.Sequential):
        children = zip(layers._modules, layers, strict=True)
    elif isinstance(layers, nn.Module):
        children = zip(["0"], [layers], strict=True)
    else:
        layers = list(layers)
        children = zip(map(str, range(len(layers))), layers, strict=True)
    for name, child in children:
        if isinstance(child, nn.Sequential):
            yield from _chain(child, f"{prefix}{name}.")
        else:
            yield prefix + name, child


def _advance(path: str, layer: nn.Module, maps: Tensor, values: Tensor) -> Tensor:
    """Maps of a module's output from the maps and values of its input."""
    if layer.training and isinstance(layer, nn.BatchNorm2d | nn.Dropout | nn.Dropout2d):
        raise UnsupportedOperatorError(
            f"algorithm1 was given {path!r} ({type(layer).__name__}) in training mode; call eval() first."
        )
    match layer:
        case nn.Conv2d():
            return convolution(layer, maps)
        case nn.Linear():
            return fully_connected(layer, maps)
        case nn.BatchNorm2d():
            return batch_norm(layer, maps)
        case nn.ReLU():
            return switch(maps, values.relu())
        case nn.MaxPool2d() if not layer.return_indices:
            return max_pool(layer, maps, values)
        case nn.AvgPool2d() | nn.AdaptiveAvgPool2d():
            return average_pool(layer, maps)
        case nn.Flatten() if layer.start_dim > 0:
            unit_shape = layer(values[None]).shape[1:]
            return maps.reshape(*unit_shape, *maps.shape[-2:])
        case nn.Identity() | nn.Dropout() | nn.Dropout2d():
            return maps
    raise UnsupportedOperatorError(
        f"algorithm1 was given {path!r}, {layer}, for which it has no layer equation; it knows {_SUPPORTED}. "
        "Use fwdkern.fuse for other operators."
    )
