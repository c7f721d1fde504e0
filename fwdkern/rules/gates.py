"""Which values are gates: what a sigmoid or a softmax makes, moved, copied, resized or taken from a constant. An inverse,
such as that of a norm, is frozen like a gate where it multiplies: x · (1 / d) is the quotient x / d."""

from typing import Any

import torch

aten = torch.ops.aten

GATES = {
    aten.sigmoid.default,
    aten.hardsigmoid.default,
    aten.softmax.int,
    aten._softmax.default,
    aten._safe_softmax.default,
    aten.rsqrt.default,
    aten.reciprocal.default,
}
GATE_KEEPING = {
    aten._to_copy.default,
    aten.add.Tensor,
    aten.avg_pool2d.default,
    aten.cat.default,
    aten.chunk.default,
    aten.expand.default,
    aten.flatten.using_ints,
    aten.mul.Tensor,
    aten.permute.default,
    aten.repeat.default,
    aten.reshape.default,
    aten.rsub.Scalar,
    aten.select.int,
    aten.slice.Tensor,
    aten.squeeze.dim,
    aten.sub.Tensor,
    aten.to.dtype,
    aten.transpose.int,
    aten.unsqueeze.default,
    aten.upsample_bilinear2d.vec,
    aten.upsample_nearest2d.vec,
    aten.view.default,
}


def makes_gate(target: Any, args: tuple[Any, ...]) -> bool:
    """Whether an operator's result is a gate whatever it reads."""
    if target is aten.pow.Tensor_Scalar:
        return bool(args[1] < 0)
    return target in GATES
