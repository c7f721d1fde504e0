"""Row lists and combinations cut to a rectangle of positions, and tiles of maps put into result windows.

Index work on the host: the compiled library where it is there, else plain torch with the same result.
"""

import torch
from torch import Tensor

from fwdkern.ops import native

Rectangle = tuple[int, int, int, int]  # y0, y1, x0, x1, half open


def window_rows(offset: Tensor, channel: Tensor, width: int, inside: Rectangle) -> tuple[Tensor, Tensor, Tensor]:
    """The rows of a list at the positions inside a rectangle of its grid, renumbered from 0.

    offset: int64 [height * width + 1]; channel: int32 [rows]; both contiguous, on the CPU.
    Returns their numbers in the whole list int64 [n], offset int64 [positions inside + 1], channel int32 [n].
    """
    library, _ = native.load()
    if library is None:
        return window_rows_reference(offset, channel, width, inside)
    y0, y1, x0, x1 = inside
    total = library.count_window_rows(offset.data_ptr(), width, inside)
    rows = torch.empty(total, dtype=torch.int64)
    local_offset = torch.empty((y1 - y0) * (x1 - x0) + 1, dtype=torch.int64)
    local_channel = torch.empty(total, dtype=torch.int32)
    library.list_window_rows(
        offset.data_ptr(),
        channel.data_ptr(),
        width,
        inside,
        rows.data_ptr(),
        local_offset.data_ptr(),
        local_channel.data_ptr(),
    )
    return rows, local_offset, local_channel


def window_rows_reference(
    offset: Tensor, channel: Tensor, width: int, inside: Rectangle
) -> tuple[Tensor, Tensor, Tensor]:
    """The same in plain torch."""
    y0, y1, x0, x1 = inside
    start = offset[:-1].view(-1, width)[y0:y1, x0:x1].reshape(-1)
    count = offset[1:].view(-1, width)[y0:y1, x0:x1].reshape(-1) - start
    local_offset = torch.zeros(len(count) + 1, dtype=torch.int64)
    torch.cumsum(count, 0, out=local_offset[1:])
    rows = torch.arange(int(local_offset[-1])) + (start - local_offset[:-1]).repeat_interleave(count)
    return rows, local_offset, channel[rows]


def window_terms(
    offset: Tensor, index: Tensor, coefficient: Tensor, rows: Tensor, local: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The terms of some rows of a combination, in local numbers of the input rows.

    offset: int64 [all rows + 1], index: int32 [terms], coefficient: float32 [terms]: the whole combination.
    rows: int64 [n], the rows wanted; local: int32 [all input rows], an input row's local number, -1 to drop it.
    Returns offset int64 [n + 1], index int32 and coefficient float32 of the terms that stay.
    """
    library, _ = native.load()
    if library is None:
        return window_terms_reference(offset, index, coefficient, rows, local)
    local_offset = torch.empty(len(rows) + 1, dtype=torch.int64)
    whole = (offset.data_ptr(), index.data_ptr())
    wanted = (rows.data_ptr(), len(rows), local.data_ptr())
    total = library.count_window_terms(*whole, *wanted, local_offset.data_ptr())
    local_index = torch.empty(total, dtype=torch.int32)
    local_coefficient = torch.empty(total)
    library.list_window_terms(
        *whole, coefficient.data_ptr(), *wanted, local_index.data_ptr(), local_coefficient.data_ptr()
    )
    return local_offset, local_index, local_coefficient


def window_terms_reference(
    offset: Tensor, index: Tensor, coefficient: Tensor, rows: Tensor, local: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The same in plain torch."""
    start = offset[rows]
    count = offset[rows + 1] - start
    begin = count.cumsum(0) - count
    entry = torch.arange(int(count.sum())) + (start - begin).repeat_interleave(count)
    local_index = local[index[entry].long()]
    there = local_index >= 0
    kept = torch.zeros(len(entry) + 1, dtype=torch.int64)
    torch.cumsum(there, 0, out=kept[1:])
    return torch.cat([kept[begin], kept[-1:]]), local_index[there], coefficient[entry][there]


def scatter_windows(maps: Tensor, target: Tensor, tile: Rectangle, origin: Tensor, out: Tensor) -> None:
    """Put a tile's maps into result windows; pixels of the tile outside a unit's window are left out.

    maps: float32 [n, tile height * tile width], contiguous; target: int64 [n], the unit of each row, -1 for none.
    origin: int64 [units, 2], the image position (y, x) of each window's corner.
    out: float32 [units, window height, window width], contiguous, written in place.
    """
    library, _ = native.load()
    if library is None:
        scatter_windows_reference(maps, target, tile, origin, out)
        return
    library.scatter_windows(
        maps.data_ptr(),
        maps.stride(0),
        target.data_ptr(),
        len(target),
        tile,
        origin.data_ptr(),
        out.shape[1],
        out.shape[2],
        out.data_ptr(),
        native.threads(),
    )


def scatter_windows_reference(maps: Tensor, target: Tensor, tile: Rectangle, origin: Tensor, out: Tensor) -> None:
    """The same in plain torch."""
    y0, y1, x0, x1 = tile
    there = (target >= 0).nonzero().flatten()
    unit = target[there][:, None, None]
    y = torch.arange(y0, y1)[:, None] - origin[unit, 0]
    x = torch.arange(x0, x1) - origin[unit, 1]
    y, x = torch.broadcast_tensors(y, x)  # [n, tile height, tile width]
    inside = (y >= 0) & (y < out.shape[1]) & (x >= 0) & (x < out.shape[2])
    values = maps[there].view(len(there), y1 - y0, x1 - x0)
    out[unit.expand_as(y)[inside], y[inside], x[inside]] = values[inside]
