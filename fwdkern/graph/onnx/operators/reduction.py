"""Sums, means, norms and extremes over dimensions."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from fwdkern.graph.onnx.registry import Node, operator

_Reduce = Callable[[Tensor, list[int], bool], Tensor]


def _register(kind: str, reduce: _Reduce) -> None:
    @operator(kind, plain=(1,))
    def run(node: Node, x: Tensor, axes: np.ndarray | None = None) -> Tensor:
        # Before opset 18, of sums before 13, the axes are an attribute.
        given = node.get("axes") if axes is None else axes.reshape(-1).tolist()
        if not given:
            if node.get("noop_with_empty_axes", 0):
                given = []
                return x if kind not in ("ReduceSumSquare", "ReduceL1", "ReduceL2") else node.refuse("no axes")
            given = list(range(x.dim()))
        return reduce(x, given, bool(node.get("keepdims", 1)))


_register("ReduceMean", lambda x, axes, keep: x.mean(axes, keepdim=keep))
_register("ReduceSum", lambda x, axes, keep: x.sum(axes, keepdim=keep, dtype=x.dtype))
_register("ReduceMax", lambda x, axes, keep: torch.amax(x, axes, keepdim=keep))
_register("ReduceMin", lambda x, axes, keep: torch.amin(x, axes, keepdim=keep))
_register("ReduceL1", lambda x, axes, keep: x.abs().sum(axes, keepdim=keep, dtype=x.dtype))
_register("ReduceL2", lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keepdim=keep))
_register("ReduceSumSquare", lambda x, axes, keep: (x * x).sum(axes, keepdim=keep, dtype=x.dtype))
_register("ReduceLogSum", lambda x, axes, keep: x.sum(axes, keepdim=keep).log())
_register("ReduceLogSumExp", lambda x, axes, keep: torch.logsumexp(x, axes, keepdim=keep))
