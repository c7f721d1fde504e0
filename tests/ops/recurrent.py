"""Random recurrences, and what they give in float64."""

from itertools import pairwise

import torch
from torch import Tensor

from fwdkern.ops.recurrent_scan import recurrent_scan

EPSILON = torch.finfo(torch.float32).eps


class ScanProblem:
    """Maps [S, B, T, H] whose slices begin one after the other, with a recurrence to carry them through."""

    def __init__(
        self,
        slices: int,
        batch: int,
        steps: int,
        hidden: int,
        descending: bool,
        transposed: bool,
        full: bool,
        seed: int,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        g = torch.Generator().manual_seed(seed)
        self.maps = torch.randn(slices, batch, steps, hidden, generator=g, dtype=dtype)
        self.weight = torch.randn(hidden, hidden, generator=g, dtype=dtype) / hidden**0.5
        self.gain_out, keep, gain_in = torch.rand(3, batch, steps, hidden, generator=g, dtype=dtype)
        self.keep, self.gain_in = (keep, gain_in) if full else (None, None)
        self.descending, self.transposed = descending, transposed
        # The number of slices that have begun, by the step.
        begun = torch.linspace(min(slices, 1), slices, steps).round().long()
        begun = begun.flip(0) if descending else begun
        self.active = torch.stack([torch.zeros_like(begun), begun], 1)
        for t, count in enumerate(begun.tolist()):
            self.maps[count:, :, t] = 0

    def arguments(self) -> tuple[object, ...]:
        return (self.maps.clone(), self.weight, self.transposed, self.keep, self.gain_in, self.gain_out, self.active,
                self.descending)  # fmt: skip

    def run(self, backend: str) -> Tensor:
        return recurrent_scan(*self.arguments(), backend=backend)  # type: ignore[arg-type]

    def check(self, backend: str) -> None:
        """The result is right within the rounding of sums as long as a state, through all steps."""
        expected, magnitude = self._expected(False), self._expected(True)
        hidden, steps = self.weight.shape[0], self.maps.shape[2]
        bound = steps * (hidden + 4) * torch.finfo(self.maps.dtype).eps * magnitude
        assert bool(((self.run(backend) - expected).abs() <= bound).all())

    def _expected(self, absolute: bool) -> Tensor:
        """The recurrence slice by slice in float64, of absolute values for the bound."""

        def wide(values: Tensor | None) -> Tensor | None:
            return None if values is None else values.double().abs() if absolute else values.double()

        maps, weight, keep, gain_in, gain_out = map(
            wide, (self.maps, self.weight, self.keep, self.gain_in, self.gain_out)
        )
        weight = weight.mT if self.transposed else weight
        steps = list(range(maps.shape[2]))[:: -1 if self.descending else 1]
        out = maps.clone()
        for p, t in pairwise(steps):
            before = out[:, :, p]
            carried = torch.einsum("ij,sbj->sbi", weight, before if gain_in is None else before * gain_in[:, p])
            out[:, :, t] += carried * gain_out[:, t]
            if keep is not None:
                out[:, :, t] += keep[:, t] * before
        return out
