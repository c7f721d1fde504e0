"""Row lists: which units of a layer have a map worth computing, grouped by position."""

from dataclasses import dataclass, field

from torch import Tensor

from fwdkern.ops.active_rows import active_rows, active_rows_on_device, number_rows
from fwdkern.ops.row_program import Rectangle


@dataclass
class RowList:
    """The active units of a layer ``[C, H, W]`` (a vector counts as ``[C, 1, 1]``) for one input.

    Attributes:
        grid: (H, W); channels: C.
        offset: int64 ``[H·W + 1]``; channel: int32 ``[rows]``: rows of one position stand together, channels ascending.
        unit: int64 ``[rows]``, each row's index in the flattened layer.
        row: int64 ``[C·H·W + 1]``, each unit's row or −1; the last entry, −1, answers for unit −1.
    """

    channels: int
    grid: tuple[int, int]
    offset: Tensor
    channel: Tensor
    unit: Tensor = field(init=False)
    row: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.unit, self.row = number_rows(self.offset, self.channel, self.channels)

    def __len__(self) -> int:
        return len(self.channel)

    @property
    def whole(self) -> Rectangle:
        return 0, self.grid[0], 0, self.grid[1]


def list_rows(mask: Tensor, channels: int, grid: tuple[int, int], count: int | None = None) -> RowList:
    """Row list of a bool mask over the flattened layer ``[C·H·W]``; ``count`` is how many are set, where the caller
    knows, so that nothing has to be read from a device."""
    gate = mask.view(channels, -1)
    if count is None:
        return RowList(channels, grid, *active_rows(gate))
    offset, channel = active_rows_on_device(gate)
    return RowList(channels, grid, offset, channel[:count].clone())
