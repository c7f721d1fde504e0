"""Which values are gates: what a sigmoid or a softmax makes, moved, copied, resized or taken from a constant."""

import torch

aten = torch.ops.aten

GATES = {aten.sigmoid.default, aten.hardsigmoid.default, aten.softmax.int, aten._softmax.default}
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
