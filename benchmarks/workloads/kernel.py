"""The kernel alone, on the layers of its own benchmark."""

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.kernel_gathered_gemm import CHECKED_SLICES, Case, make_case
from benchmarks.workload import Contender, Sample, Task

_EVERYTHING = torch.ones(1, 1, dtype=torch.bool)


def gathered_gemm(channels: int, side: int, slices: int, density: float) -> Task:
    """A 3×3 layer whose inputs and outputs are active at random. The tolerance is derived: reduction length × eps."""
    case = make_case(channels, side, slices, density, torch.Generator().manual_seed(0))

    def dense() -> Tensor:
        return F.conv2d(case.maps, case.kernel, padding=1)  # [slices, C, H, W]

    contenders = [
        Contender("gathered_gemm", "own", {"": case.run}, lambda rows: Sample(rows[:, :CHECKED_SLICES].T, _EVERYTHING)),
        Contender("dense convolution, channels last", "rival", {"": dense}, lambda maps: _rows(case, maps)),
    ]

    def references() -> list[Sample]:
        return [_rows(case, F.conv2d(case.maps[:CHECKED_SLICES].double(), case.kernel.double(), padding=1))]

    tolerance = 9 * channels * torch.finfo(torch.float32).eps
    return Task(contenders, references, tolerance, lambda: case.useful_flops() / 2)


def _rows(case: Case, maps: Tensor) -> Sample:
    """The active outputs of the first slices, [slices, rows]. maps: [slices, C, H, W]."""
    rows = maps[:CHECKED_SLICES].flatten(2).permute(0, 2, 1)[:, case.out_gate.T]
    return Sample(rows, _EVERYTHING)
