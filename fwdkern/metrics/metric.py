"""What all measures share: a mean over examples that says what it leaves out."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from fwdkern.errors import InputError


class Metric:
    """A mean over examples, gathered in pieces by ``update``."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all examples."""
        self._values: list[Tensor] = []
        self._reasons: list[str] = []

    def values(self) -> Tensor:
        """One value for each example in the order of ``update``, float64 ``[n]`` on the CPU; NaN where left out."""
        return torch.cat(self._values) if self._values else torch.zeros(0, dtype=torch.float64)

    def reasons(self) -> list[str]:
        """Why each example was left out, in the same order; "" where it was not."""
        return list(self._reasons)

    @property
    def skipped(self) -> dict[str, int]:
        """How many examples were left out, by reason."""
        return dict(Counter(reason for reason in self._reasons if reason))

    def compute(self) -> float:
        """The mean over the examples that were not left out; NaN if all were.

        Raises:
            InputError: ``update`` was never called.
        """
        if not self._reasons:
            raise InputError(f"{type(self).__name__} has seen no example: call update before compute")
        return float(self.values().nanmean())

    def _add(self, values: Tensor, reasons: Sequence[str]) -> None:
        """values: ``[B]``; reasons: one for each, "" where the value counts."""
        left_out = torch.tensor([bool(reason) for reason in reasons])
        self._values.append(values.detach().cpu().double().masked_fill(left_out, torch.nan))
        self._reasons.extend(reasons)


def first_reason(*several: Sequence[str]) -> list[str]:
    """Of several reasons for each example the first that is not empty."""
    return [next(filter(None, reasons), "") for reasons in zip(*several, strict=True)]


def reasons_where(wrong: Tensor, reason: str) -> list[str]:
    """The reason for each example where ``wrong [B]`` is true, "" elsewhere."""
    return [reason if each else "" for each in wrong.tolist()]
