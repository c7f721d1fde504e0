"""Does the map point at the object? Measures against boxes.

Boxes are x0, y0, x1, y1 in pixels of the map, counted from its top left corner, so that the first pixel reaches from 0
to 1; ``Preprocessing.map_boxes`` makes them from boxes of the picture. A pixel lies in a box if its centre does. Boxes
may overlap and may reach beyond the map.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fwdkern.errors import InputError
from fwdkern.metrics.maps import check_maps
from fwdkern.metrics.metric import Metric, first_reason

NO_BOX = "no box"
NO_PIXEL = "no box holds a pixel"

Boxes = Tensor | Sequence[Tensor | Sequence[Sequence[float]]]


class _AgainstBoxes(Metric):
    """Attributes: ignored_boxes: how many boxes held no pixel, being outside the map or without area."""

    def reset(self) -> None:
        super().reset()
        self.ignored_boxes = 0

    def update(self, maps: Tensor, boxes: Boxes) -> None:
        """Add a batch.

        Args:
            maps: ``[B, H, W]``.
            boxes: for each map the boxes ``[n, 4]`` of its class; n may differ. An example without any is left out as
                "no box"; one whose boxes all lie outside the map, or hold no pixel's centre, as "no box holds a pixel".
        """
        maps, unusable = check_maps(maps)
        inside, boxless, ignored = _inside(boxes, maps)
        self._add(self._measure(maps, inside), first_reason(unusable, boxless))
        self.ignored_boxes += ignored

    def _measure(self, maps: Tensor, inside: Tensor) -> Tensor:
        raise NotImplementedError


class EnergyPointingGame(_AgainstBoxes):
    """Share of the map's positive part that lies inside the boxes, mean in per cent.

    Wang et al. 2020 (Score-CAM), https://arxiv.org/abs/1910.01279. A pixel inside several boxes counts once.
    """

    def _measure(self, maps: Tensor, inside: Tensor) -> Tensor:
        # Divided first, so that a sum of large values stays finite.
        shares = maps.clamp_min(0) / maps.flatten(1).amax(1)[:, None, None]
        return (shares * inside).flatten(1).sum(1) / shares.flatten(1).sum(1) * 100


class PointingGame(_AgainstBoxes):
    """Share of maps whose largest value lies inside a box or near one, mean in per cent.

    Zhang et al. 2018 (excitation backprop), https://arxiv.org/abs/1608.00507. The paper takes the mean
    within each class first; this is the mean over all examples. Of equal largest values the first counts, row by row.

    Args:
        tolerance: how far away, in pixels, the nearest pixel inside a box may be; the paper allows 15.
    """

    def __init__(self, tolerance: float = 15) -> None:
        if not tolerance >= 0:
            raise InputError(f"tolerance={tolerance} must not be negative")
        super().__init__()
        self.tolerance = tolerance

    def _measure(self, maps: Tensor, inside: Tensor) -> Tensor:
        width = maps.shape[2]
        rows = torch.arange(maps.shape[1], device=maps.device)[:, None]
        columns = torch.arange(width, device=maps.device)
        largest = maps.flatten(1).argmax(1)[:, None, None]
        squared = (rows - largest // width) ** 2 + (columns - largest % width) ** 2  # [B, H, W]
        return (inside & (squared <= self.tolerance**2)).flatten(1).any(1).float() * 100


def _inside(boxes: Boxes, maps: Tensor) -> tuple[Tensor, list[str], int]:
    """Which pixels lie in a box, bool ``[B, H, W]``; which examples have none; and how many boxes hold no pixel."""
    if len(boxes) != len(maps):
        raise InputError(f"boxes: {len(maps)} maps need as many lists of boxes, got {len(boxes)}")
    inside, reasons, ignored = torch.zeros(maps.shape, dtype=torch.bool), [], 0
    for example, given in enumerate(boxes):
        each = _each_box(given, *maps.shape[1:])  # [n, H, W]
        held = each.flatten(1).any(1)
        ignored += int((~held).sum())
        inside[example] = each.any(0)
        reasons.append(NO_BOX if not len(each) else "" if held.any() else NO_PIXEL)
    return inside.to(maps.device), reasons, ignored


def _each_box(boxes: object, height: int, width: int) -> Tensor:
    """Which pixels' centres each of n boxes holds, bool ``[n, H, W]`` on the CPU."""
    try:
        given = torch.as_tensor(boxes, dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"boxes cannot be read as numbers [n, 4]: {error}") from error
    given = given.reshape(0, 4) if given.numel() == 0 else given
    if given.dim() != 2 or given.shape[1] != 4:
        raise InputError(f"the boxes of one map must be [n, 4], each x0, y0, x1, y1; got {list(given.shape)}")
    x0, y0, x1, y1 = given[:, :, None].unbind(1)  # [n, 1]
    x, y = (torch.arange(size, dtype=torch.float64) + 0.5 for size in (width, height))
    return ((y >= y0) & (y < y1))[:, :, None] & ((x >= x0) & (x < x1))[:, None]
