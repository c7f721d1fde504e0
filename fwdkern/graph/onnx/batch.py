"""The batch size that an ONNX file fixes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fwdkern.errors import FwdkernError
from fwdkern.graph.onnx.network import OnnxNetwork, Step


def open_batch(network: OnnxNetwork, shape: Sequence[int]) -> None:
    """Let a network whose file fixes the batch size serve every batch, where that is seen to change nothing.

    shape: of an input, without the batch. Exporters write the batch size into reshapes. Read as "the size that is
    there", it must give the same outputs for one input after the other and for two together.
    """
    fixed = network.batch
    if fixed is None or not network.spec.dtype.is_floating_point:
        return
    random = torch.Generator().manual_seed(1)
    like = next((value for value in network.state_dict().values() if value.is_floating_point()), torch.empty(0))
    pair = torch.rand((2 * fixed, *shape), generator=random).to(like)
    with torch.no_grad():
        apart = [network(part) for part in pair.split(fixed)]
        reshapes = [step for step in network.steps if _keeps_batch(step, fixed)]
        before = [step.arrays[1] for step in reshapes]
        for step in reshapes:
            step.arrays[1] = np.concatenate([[0], step.arrays[1][1:]])
        network.batch = None
        try:
            together = network(pair)
            if _same(apart, together):
                return
        except FwdkernError:
            pass
        network.batch = fixed
        for step, old in zip(reshapes, before, strict=True):
            step.arrays[1] = old


def _keeps_batch(step: Step, batch: int) -> bool:
    shape = step.arrays.get(1)
    fits = step.node.kind == "Reshape" and 1 not in step.tensors and not step.node.get("allowzero", 0)
    return bool(fits and shape is not None and shape.size and shape.reshape(-1)[0] == batch)


def _same(apart: list[Any], together: Any) -> bool:
    single = isinstance(together, Tensor)
    results = [(part,) if single else part for part in apart]
    for i, whole in enumerate((together,) if single else together):
        parts = [result[i] for result in results]
        if whole.dim() != parts[0].dim():
            return False
        grown = [dim for dim, size in enumerate(parts[0].shape) if size != whole.shape[dim]]
        if len(grown) != 1:
            return False
        joined = torch.cat(parts, grown[0])
        scale = float(joined.abs().max()) if joined.numel() and joined.is_floating_point() else 1.0
        # Of values that are not finite nothing is seen.
        if (
            not joined.isfinite().all()
            or joined.shape != whole.shape
            or not torch.allclose(joined, whole, 1e-3, 1e-4 * scale)
        ):
            return False
    return True
