"""Pooling in 1, 2 and 3 dimensions: a maximum is its winner's map (torch's tie rule), an average is linear. A pool of
lines is one of images that are one row high."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fwdkern.errors import UnsupportedOperatorError
from fwdkern.ops.max_pool import Window, fits_bytes, max_pool, max_unpool, winner_index
from fwdkern.rules.frozen import Frozen, fold
from fwdkern.rules.reach import window_max
from fwdkern.rules.registry import Call, plain, register

aten = torch.ops.aten


class Winner(Frozen):
    """Every output copies the input that won its window.

    Args:
        index: int64 ``[B, C, *out]``, the winner's flat position in its channel's plane.
        in_shape: ``[B, C, *in]``.
        window: (kernel, stride, padding, dilation), or None for adaptive windows.
    """

    def __init__(self, index: Tensor, in_shape: torch.Size, window: tuple[tuple[int, ...], ...] | None) -> None:
        self._index, self.in_shape, self.window = index, in_shape, window
        self.out_size = tuple(index.shape[2:])

    @property
    def index(self) -> Tensor:
        """The winners, as in the arguments."""
        return self._index

    def forward(self, *maps: Tensor) -> Tensor:
        index = self.index
        flat = index.flatten(2).expand(maps[0].shape[0], -1, -1, -1)
        return maps[0].flatten(3).gather(3, flat).unflatten(3, index.shape[2:])

    def reverse(self, maps: Tensor) -> tuple[Tensor, ...]:
        flat = self.index.flatten(2).expand(maps.shape[0], -1, -1, -1)
        pulled = maps.new_zeros(*maps.shape[:3], self.in_shape[2:].numel())
        return (pulled.scatter_add_(3, flat, maps.flatten(3)).unflatten(3, self.in_shape[2:]),)

    def reach(self, *boxes: Tensor) -> Tensor:
        if self.window is None:
            return adaptive_max(boxes[0], self.out_size)
        kernel, stride, padding, dilation = self.window
        pads = [(p, p) for p in padding]
        return window_max(boxes[0], kernel, stride, pads, dilation, self.out_size)


class PlacedWinner(Winner):
    """Winners kept as their places in their windows, one byte each: uint8 ``[B, *out, C]``."""

    deferred = True
    window: Window

    def __init__(self, place: Tensor, in_shape: torch.Size, window: Window) -> None:
        self.place, self.in_shape, self.window = place, in_shape, window
        self.in_size, self.out_size = (in_shape[2], in_shape[3]), tuple(place.shape[1:3])

    @property
    def index(self) -> Tensor:
        return winner_index(self.place, self.window, self.in_size)

    def reverse(self, maps: Tensor) -> tuple[Tensor, ...]:
        return (fold(maps, lambda rows: max_unpool(rows, self.place, self.window, self.in_size)),)


def adaptive_max(maps: Tensor, out_size: tuple[int, ...]) -> Tensor:
    """Maximum over the windows of adaptive pooling: [⌊i·n/m⌋, ⌈(i+1)·n/m⌉)."""
    for axis, m in enumerate(out_size, start=3):
        n = maps.shape[axis]
        bounds = [(i * n // m, -((-(i + 1) * n) // m)) for i in range(m)]
        maps = torch.stack([maps.narrow(axis, a, b - a).amax(axis) for a, b in bounds], axis)
    return maps


def _tuple(value: Any, rank: int) -> tuple[int, ...]:
    values = [value] if isinstance(value, int) else list(value)
    return tuple(values * rank if len(values) == 1 else values)


def _two(value: Any) -> tuple[int, int]:
    first, second = _tuple(value, 2)
    return first, second


def freeze_max_pool2d(
    x: Tensor, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> tuple[Tensor, Winner]:
    """Pool ``[B, C, H, W]`` and keep the winners; returns the output and its frozen operator."""
    stride = stride if stride not in (None, []) else kernel
    window = (_two(kernel), _two(stride), _two(padding), _two(dilation))
    if not fits_bytes(window):
        output, index = aten.max_pool2d_with_indices(x, *window, ceil_mode)
        if max(window[3]) > 1 and output.isneginf().any():
            raise UnsupportedOperatorError(
                f"a window of a max pool with kernel {window[0]}, padding {window[2]} and dilation {window[3]} lies in "
                f"the padding of an input of {list(x.shape)} alone: its maximum, −inf, is of no pixel; enlarge it"
            )
        return output, Winner(index, x.shape, window)
    output, place = max_pool(x, window, ceil_mode)
    # What follows runs in the memory format that it has in the model, and so rounds alike.
    return output if x.stride(1) == 1 else output.contiguous(), PlacedWinner(place, x.shape, window)


@register("max pool", aten.max_pool2d.default)
def max_pool2d(call: Call) -> Frozen:
    """max_pool2d(x, kernel, stride, padding, dilation, ceil_mode)."""
    call.output, frozen = freeze_max_pool2d(
        plain(call.args[0]),
        call.args[1],
        call.argument(2, "stride", []),
        call.argument(3, "padding", 0),
        call.argument(4, "dilation", 1),
        call.argument(5, "ceil_mode", False),
    )
    return frozen


@register("max pool", aten.max_pool1d.default, aten.max_pool3d.default)
def max_pool_nd(call: Call) -> Frozen:
    """max_pool1d and max_pool3d(x, kernel, stride, padding, dilation, ceil_mode)."""
    x, rank = plain(call.args[0]), 1 if call.target is aten.max_pool1d.default else 3
    kernel = _tuple(call.args[1], rank)
    window = (
        kernel,
        _tuple(call.argument(2, "stride", []) or kernel, rank),
        _tuple(call.argument(3, "padding", 0), rank),
        _tuple(call.argument(4, "dilation", 1), rank),
    )
    ceil_mode = call.argument(5, "ceil_mode", False)
    if rank == 3:
        call.output, index = aten.max_pool3d_with_indices(x, *window, ceil_mode)
        return Winner(index, x.shape, window)
    kernel, stride, padding, dilation = lifted(window)
    output, flat = freeze_max_pool2d(x.unsqueeze(-2), kernel, stride, padding, dilation, ceil_mode)
    call.output = output.squeeze(-2)
    return Winner(flat.index.squeeze(-2), x.shape, window)


def adaptive_max_pool1d(x: Tensor, output_size: Any) -> Tensor:
    """The values of adaptive max pooling without the indices that ATen returns beside them."""
    return aten.adaptive_max_pool1d(x, output_size)[0]


def adaptive_max_pool2d(x: Tensor, output_size: Any) -> Tensor:
    """The values of adaptive max pooling without the indices that ATen returns beside them."""
    return aten.adaptive_max_pool2d(x, output_size)[0]


def adaptive_max_pool3d(x: Tensor, output_size: Any) -> Tensor:
    """The values of adaptive max pooling without the indices that ATen returns beside them."""
    return aten.adaptive_max_pool3d(x, output_size)[0]


# By the operator of values and indices that of the values alone.
FIRST_OF_POOL: dict[Any, Any] = {
    aten.adaptive_max_pool1d.default: adaptive_max_pool1d,
    aten.adaptive_max_pool2d.default: adaptive_max_pool2d,
    aten.adaptive_max_pool3d.default: adaptive_max_pool3d,
}
_ADAPTIVE = {values: both for both, values in FIRST_OF_POOL.items()}


@register("max pool", *_ADAPTIVE)
def adaptive_max_pool(call: Call) -> Frozen:
    """adaptive_max_pool(x, output_size)."""
    x = plain(call.args[0])
    call.output, index = _ADAPTIVE[call.target](x, call.args[1])
    return Winner(index, x.shape, None)


class AveragePool(Frozen):
    """avg_pool2d and avg_pool3d, with torch's own divisor rules.

    Args:
        window: (kernel, stride, padding), each as long as there are dimensions.
        rest: (ceil_mode, count_include_pad, divisor_override).
    """

    def __init__(
        self, in_shape: torch.Size, out_size: tuple[int, ...], window: tuple[Any, ...], rest: tuple[Any, ...]
    ) -> None:
        self.in_shape, self.out_size, self.window, self.rest = in_shape, out_size, window, rest
        self.lines = len(out_size) == 1
        self._arguments = (*(lifted(window) if self.lines else window), *rest)
        self._pool, self._transpose = (
            (aten.avg_pool3d, aten.avg_pool3d_backward)
            if len(out_size) == 3
            else (aten.avg_pool2d, aten.avg_pool2d_backward)
        )

    def forward(self, *maps: Tensor) -> Tensor:
        return fold(maps[0], lambda x: _on_images(x, self.lines, lambda y: self._pool(y, *self._arguments)))

    def reverse(self, maps: Tensor) -> tuple[Tensor, ...]:
        in_shape = self.in_shape if not self.lines else (*self.in_shape[:2], 1, self.in_shape[2])

        def transpose(y: Tensor) -> Tensor:
            shape_only = y.new_empty(1).expand(y.shape[0], *in_shape[1:])
            return self._transpose(y, shape_only, *self._arguments)

        return (fold(maps, lambda x: _on_images(x, self.lines, transpose)),)

    def reach(self, *boxes: Tensor) -> Tensor:
        kernel, stride, padding = self.window
        return window_max(boxes[0], kernel, stride, [(p, p) for p in padding], (1,) * len(self.out_size), self.out_size)


def _on_images(x: Tensor, lines: bool, operator: Callable[[Tensor], Tensor]) -> Tensor:
    return operator(x.unsqueeze(-2)).squeeze(-2) if lines else operator(x)


def lifted(window: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
    """A window of lines (kernel, stride, padding, dilation) as one of images that are one row high."""
    neutral = (1, 1, 0, 1)
    return tuple((one, *part) for one, part in zip(neutral, window, strict=False))


@register("average pool", aten.avg_pool1d.default, aten.avg_pool2d.default, aten.avg_pool3d.default)
def avg_pool(call: Call) -> Frozen:
    """avg_pool(x, kernel, stride, padding, ceil_mode, count_include_pad, divisor_override)."""
    shape = plain(call.args[0]).shape
    rank = {aten.avg_pool1d.default: 1, aten.avg_pool2d.default: 2, aten.avg_pool3d.default: 3}[call.target]
    kernel = _tuple(call.args[1], rank)
    stride = call.argument(2, "stride", [])
    window = (
        kernel,
        kernel if stride in (None, []) else _tuple(stride, rank),
        _tuple(call.argument(3, "padding", 0), rank),
    )
    rest = (
        call.argument(4, "ceil_mode", False),
        call.argument(5, "count_include_pad", True),
        call.argument(6, "divisor_override"),
    )
    return AveragePool(shape, tuple(call.output.shape[2:]), window, rest)


class AdaptiveAveragePool(Frozen):
    """adaptive_avg_pool in 1, 2 or 3 dimensions to ``out_size``."""

    def __init__(self, in_shape: torch.Size, out_size: tuple[int, ...]) -> None:
        self.in_shape, self.out_size = in_shape, out_size
        self.lines = len(out_size) == 1
        self._size = (1, *out_size) if self.lines else out_size
        self._pool, self._transpose = (
            (aten.adaptive_avg_pool3d, aten._adaptive_avg_pool3d_backward)
            if len(out_size) == 3
            else (aten.adaptive_avg_pool2d, aten._adaptive_avg_pool2d_backward)
        )

    def forward(self, *maps: Tensor) -> Tensor:
        return fold(maps[0], lambda x: _on_images(x, self.lines, lambda y: self._pool(y, self._size)))

    def reverse(self, maps: Tensor) -> tuple[Tensor, ...]:
        if set(self.out_size) == {1}:
            share = maps / self.in_shape[2:].numel()
            return (share.expand(len(maps), *self.in_shape),)
        in_shape = self.in_shape if not self.lines else (*self.in_shape[:2], 1, self.in_shape[2])

        def transpose(y: Tensor) -> Tensor:
            return self._transpose(y.contiguous(), y.new_empty(1).expand(y.shape[0], *in_shape[1:]))

        return (fold(maps, lambda x: _on_images(x, self.lines, transpose)),)

    def reach(self, *boxes: Tensor) -> Tensor:
        return adaptive_max(boxes[0], self.out_size)


@register("average pool", aten.adaptive_avg_pool1d.default, aten.adaptive_avg_pool2d.default)
@register("average pool", aten.adaptive_avg_pool3d.default, aten._adaptive_avg_pool2d.default)
def adaptive_avg_pool(call: Call) -> Frozen:
    """adaptive_avg_pool(x, output_size)."""
    return AdaptiveAveragePool(plain(call.args[0]).shape, tuple(call.output.shape[2:]))
