"""A layer's value as channels of positions, whatever its rank."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Grid:
    """How units ``[*shape]`` are laid out as channels × rows × columns.

    [C, H, W] is itself; [T, D], steps of numbers, is D channels of one row; [K] is K channels of one position; more
    axes are joined into rows.
    """

    shape: tuple[int, ...]

    @property
    def size(self) -> tuple[int, int, int]:
        """Channels, rows, columns."""
        shape = self.shape
        if len(shape) == 2:
            return shape[1], 1, shape[0]
        channels, *rest = shape or (1,)
        columns = rest.pop() if rest else 1
        rows = 1
        for length in rest:
            rows *= length
        return channels, rows, columns

    def arrange(self, values: Tensor) -> Tensor:
        """Values ``[*shape]`` as ``[channels, rows, columns]``."""
        return (values.T if len(self.shape) == 2 else values).reshape(self.size)

    def flat(self, channel: int, row: int, column: int) -> int:
        """The unit's place in the flattened layer."""
        channels, rows, columns = self.size
        return column * channels + channel if len(self.shape) == 2 else (channel * rows + row) * columns + column

    def place(self, flat: int) -> tuple[int, int, int]:
        """The inverse of ``flat``."""
        channels, rows, columns = self.size
        if len(self.shape) == 2:
            return flat % channels, 0, flat // channels
        return flat // (rows * columns), flat // columns % rows, flat % columns
