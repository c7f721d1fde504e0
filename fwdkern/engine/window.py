"""Maps cropped to their units' receptive fields."""

import torch
from torch import Tensor


class Window:
    """Crops of the image, one a unit, all of one size, each holding its unit's receptive field.

    Attributes:
        origin: int64 ``[1 or B, K, 2]``, image position (y, x) of each crop's corner; size: (h, w).
    """

    def __init__(self, fields: Tensor, image: tuple[int, ...]) -> None:
        extent = fields[:, 2:] - fields[:, :2]  # [1 or B, 2, K]
        self.size = (int(extent[:, 0].max().clamp_min(1)), int(extent[:, 1].max().clamp_min(1)))
        last = torch.tensor(image, device=fields.device) - torch.tensor(self.size, device=fields.device)
        self.origin = torch.minimum(fields[:, :2].transpose(1, 2), last).contiguous()
        self.image = image

    def of(self, example: int) -> tuple[Tensor, tuple[int, int]]:
        """Corners ``[K, 2]`` and size for one input."""
        return self.origin[example if len(self.origin) > 1 else 0], self.size

    def crop(self, maps: Tensor, start: int, stop: int) -> Tensor:
        """Whole maps ``[B, n, H·W]`` of units start..stop to ``[B, n, h, w]``."""
        return crop(maps, self.origin[:, start:stop], self.size, self.image[1])

    def place(self, rows: Tensor, start: int, scores: Tensor) -> None:
        """Write slices start.. ``[B, K, n]`` of pixels into crops ``[B, K, h, w]``."""
        pixel = torch.arange(start, start + rows.shape[2], device=rows.device)
        y = pixel // self.image[1] - self.origin[..., 0, None]  # [1 or B, K, n]
        x = pixel % self.image[1] - self.origin[..., 1, None]
        inside = (y >= 0) & (y < self.size[0]) & (x >= 0) & (x < self.size[1])
        y, x, inside = (t.expand(rows.shape) for t in (y, x, inside))
        example, unit, column = inside.nonzero(as_tuple=True)
        scores[example, unit, y[inside], x[inside]] = rows[example, unit, column]


def crop(maps: Tensor, origin: Tensor, size: tuple[int, ...], width: int) -> Tensor:
    """Crops ``[B, n, h, w]`` of maps ``[B, n, H·W]`` of images ``width`` pixels wide, corners ``[1 or B, n, 2]``."""
    y = origin[..., 0, None, None] + torch.arange(size[0], device=maps.device)[:, None]
    x = origin[..., 1, None, None] + torch.arange(size[1], device=maps.device)
    index = (y * width + x).flatten(2).expand(len(maps), -1, -1)
    return maps.gather(2, index).unflatten(2, size)
