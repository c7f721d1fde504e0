"""Tensors between guard regions: the interpreter checks no bounds."""

import torch
from torch import Tensor


class Guards:
    """Copies tensors into buffers whose every other element is a sentinel, and checks that those stay as they are.

    A sentinel of floats is NaN, so that one which is read shows in the result. One of integers is a small number: a
    kernel that follows it lands on a wrong row, not outside the process.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[Tensor, Tensor, Tensor]] = []

    def flat(self, values: Tensor, margin: int = 64) -> Tensor:
        """A contiguous copy with sentinels before and behind it."""
        buffer = torch.full((values.numel() + 2 * margin,), self._sentinel(values), dtype=values.dtype)
        return self._keep(buffer, buffer[margin : margin + values.numel()].view(values.shape), values)

    def rows(self, values: Tensor, gap: int = 5) -> Tensor:
        """A copy of ``[rows, slices]`` with sentinels around and between its rows."""
        buffer = torch.full((values.shape[0] + 2, values.shape[1] + gap), self._sentinel(values), dtype=values.dtype)
        return self._keep(buffer, buffer[1:-1, gap // 2 : gap // 2 + values.shape[1]], values)

    def check(self) -> None:
        for buffer, view, sentinel in self._kept:
            now = view.clone()
            view.fill_(sentinel)
            assert torch.equal(buffer, torch.full_like(buffer, sentinel.item())) or bool(buffer.isnan().all())
            view.copy_(now)

    @staticmethod
    def _sentinel(values: Tensor) -> float:
        return torch.nan if values.is_floating_point() else 1

    def _keep(self, buffer: Tensor, view: Tensor, values: Tensor) -> Tensor:
        view.copy_(values)
        self._kept.append((buffer, view, torch.tensor(self._sentinel(values))))
        return view
