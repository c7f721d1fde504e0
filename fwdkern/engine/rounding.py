"""What torch's own products on a GPU may round to while maps are computed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def rounding(precision: str, device: torch.device) -> Iterator[None]:
    """``"ieee"`` keeps torch's convolutions and products exact, ``"tf32"`` and ``"bf16"`` let them round to tf32.

    Torch rounds convolutions by default. Values would then differ by thousandths from what exact maps sum to. The
    switches are those of the process; they are put back.
    """
    if device.type != "cuda":
        yield
        return
    switches: tuple[Any, ...] = torch.backends.cuda.matmul, torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = [switch.fp32_precision for switch in switches]
    try:
        for switch in switches:
            switch.fp32_precision = "ieee" if precision == "ieee" else "tf32"
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.fp32_precision = value
