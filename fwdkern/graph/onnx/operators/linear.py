"""Matrix products."""

import torch
from torch import Tensor
from torch.nn import functional as F

from fwdkern.graph.onnx.registry import Node, operator


@operator("Gemm", costly=True)
def gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """alpha · A · B + beta · C; a constant B makes it a linear layer."""
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    a = a.t() if node.get("transA", 0) else a
    weight = b if node.get("transB", 0) else b.t()
    weight = weight if alpha == 1 else weight * alpha
    if c is not None and beta != 1:
        c = c * beta
    if c is None or (c.dim() == 1 and c.shape[0] == weight.shape[0]):
        return F.linear(a, weight, c)
    return F.linear(a, weight) + c


@operator("MatMul", costly=True)
def matmul(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """A constant matrix on the right makes it a linear layer."""
    if 1 in node.constant and b.dim() == 2 and a.dim() >= 2:
        return F.linear(a, b.t())
    return torch.matmul(a, b)


@operator("Einsum", costly=True)
def einsum(node: Node, *operands: Tensor) -> Tensor:
    """By its equation."""
    return torch.einsum(node.get("equation", "").replace(" ", ""), *operands)
