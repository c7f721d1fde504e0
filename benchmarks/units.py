"""The request that most workloads make: maps of many units of one layer, for one photograph."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from benchmarks.formats import FORMATS, in_format
from benchmarks.workload import Sample
from tests.oracle import Oracle, autograd


@dataclass(frozen=True)
class UnitMaps:
    """All units of what ``front`` returns. Numbers of units stay on the CPU, wherever it runs.

    front: [B, C, H, W] -> [B, *shape]; x: [1, C, H, W]; sample: flat numbers of the units that the gate compares, [n].
    """

    front: nn.Module
    x: Tensor
    sample: Tensor
    shape: tuple[int, ...] = field(init=False)
    active: Tensor = field(init=False)  # flat numbers of units that are not 0, [a]

    def __post_init__(self) -> None:
        with torch.no_grad():
            out = self.front(self.x)[0]
        object.__setattr__(self, "shape", tuple(out.shape))
        object.__setattr__(self, "active", out.flatten().nonzero()[:, 0].cpu())

    @property
    def pixels(self) -> int:
        return self.x.shape[2] * self.x.shape[3]

    def references(self) -> list[Sample]:
        """Autograd for the sampled units."""
        return by_autograd(self.front, self.x, lambda network, x: autograd(network, x, self.sample[None].to(x.device)))

    def some_active(self, count: int) -> Tensor:
        """``count`` active units, the sampled ones among them, [count]."""
        others = self.active[~torch.isin(self.active, self.sample)]
        chosen = others[torch.randperm(len(others), generator=torch.Generator().manual_seed(0))]
        sampled = self.sample[torch.isin(self.sample, self.active)]
        return torch.cat([sampled, chosen])[:count]

    def middle(self, count: int) -> range:
        """``count`` pixels of the middle row, where maps are seldom empty."""
        width = self.x.shape[3]
        start = (self.x.shape[2] // 2) * width + (width - min(count, width)) // 2
        return range(start, start + count)

    def of_slices(self, result: Tensor, pixels: range) -> Sample:
        """result: [slices, units], the maps' values at some pixels."""
        result = result.cpu()
        maps = torch.zeros(len(self.sample), self.pixels)
        covered = torch.zeros(1, self.pixels, dtype=torch.bool)
        maps[:, pixels.start : pixels.stop] = result[:, self.sample].T
        covered[:, pixels.start : pixels.stop] = True
        return Sample(maps, covered)

    def of_units(self, result: Tensor, units: Tensor) -> Sample:
        """result: [k, pixels], the maps of some units [k]."""
        result, units = result.cpu(), units.cpu()
        same = units == self.sample[:, None]  # [n, k]
        maps = result[same.int().argmax(1)]
        return Sample(maps, same.any(1, keepdim=True))


def by_autograd(network: nn.Module, x: Tensor, explain: Callable[[nn.Module, Tensor], Oracle]) -> list[Sample]:
    """What autograd says in float64 and in float32 in both memory formats, one row a unit, batch by batch.

    A gate that is 0 but for rounding may be open in one of them and shut in another, and the maps behind it then
    differ by thousandths; no two of them are more right than the third.
    """
    oracles = [explain(copy.deepcopy(network).double(), x.double())]
    oracles += [explain(*in_format(network, x, layout)) for layout in FORMATS]
    everything = torch.ones(1, 1, dtype=torch.bool)
    rows = [(oracle.pixels.flatten(2).flatten(0, 1).cpu(), oracle.bias.flatten().cpu()) for oracle in oracles]
    return [Sample(maps, everything, bias) for maps, bias in rows]


def choose_sample(front: nn.Module, x: Tensor, count: int = 8) -> Tensor:
    """Flat numbers of active units of what ``front`` returns: half of them in the middle of the image (of classes:
    the strongest), half anywhere. [count]."""
    with torch.no_grad():
        out = front(x)[0].cpu()
    generator = torch.Generator().manual_seed(0)
    plane = torch.zeros(out.shape, dtype=torch.bool)
    if out.dim() == 3:
        plane[:, out.shape[1] // 2, out.shape[2] // 2] = True
    else:
        plane[out.topk(count // 2).indices] = True
    near = _some((out != 0) & plane, count // 2, generator)
    return torch.cat([near, _some((out != 0) & ~plane, count - len(near), generator)])


def _some(mask: Tensor, count: int, generator: torch.Generator) -> Tensor:
    found = mask.flatten().nonzero()[:, 0]
    return found[torch.randperm(len(found), generator=generator)[:count]]
