"""Functions of one value, and softmax."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fwdkern.graph.onnx.registry import Node, operator


def _register(kind: str, function: Callable[[Tensor], Tensor]) -> None:
    operator(kind)(lambda node, x: function(x))


_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "Relu": F.relu,
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "HardSwish": F.hardswish,
    "Mish": F.mish,
    "Softplus": F.softplus,
    "Softsign": F.softsign,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Log": torch.log,
    "Sqrt": torch.sqrt,
    "Reciprocal": torch.reciprocal,
    "Abs": torch.abs,
    "Neg": torch.neg,
    "Sin": torch.sin,
    "Cos": torch.cos,
    "Tan": torch.tan,
    "Sinh": torch.sinh,
    "Cosh": torch.cosh,
    "Asin": torch.asin,
    "Acos": torch.acos,
    "Atan": torch.atan,
    "Asinh": torch.asinh,
    "Atanh": torch.atanh,
    "Floor": torch.floor,
    "Ceil": torch.ceil,
    "Round": torch.round,
    "Sign": torch.sign,
}
for _kind, _function in _FUNCTIONS.items():
    _register(_kind, _function)


@operator("LeakyRelu")
def leaky_relu(node: Node, x: Tensor) -> Tensor:
    """Slope alpha below 0."""
    return F.leaky_relu(x, node.get("alpha", 0.01))


@operator("PRelu")
def prelu(node: Node, x: Tensor, slope: Tensor) -> Tensor:
    """A slope for each channel, or any that broadcasts."""
    flat = slope.reshape(-1)
    per_channel = slope.dim() == x.dim() - 1 and x.dim() > 1 and slope.numel() == slope.shape[0] == x.shape[1]
    if slope.numel() == 1 or per_channel:
        return F.prelu(x, flat)
    return F.relu(x) - slope * F.relu(-x)


@operator("ThresholdedRelu")
def thresholded_relu(node: Node, x: Tensor) -> Tensor:
    """0 up to alpha."""
    return F.threshold(x, node.get("alpha", 1.0), 0.0)


@operator("Elu")
def elu(node: Node, x: Tensor) -> Tensor:
    """alpha · (exp x − 1) below 0."""
    return F.elu(x, node.get("alpha", 1.0))


@operator("Celu")
def celu(node: Node, x: Tensor) -> Tensor:
    """alpha · (exp(x / alpha) − 1) below 0."""
    return F.celu(x, node.get("alpha", 1.0))


@operator("Selu")
def selu(node: Node, x: Tensor) -> Tensor:
    """gamma · elu(x, alpha)."""
    alpha, gamma = node.get("alpha", 1.6732631921768188), node.get("gamma", 1.0507010221481323)
    if abs(alpha - 1.6732632423543772) < 1e-6 and abs(gamma - 1.0507009873554805) < 1e-6:
        return F.selu(x)
    return F.elu(x, alpha) * gamma


@operator("HardSigmoid")
def hard_sigmoid(node: Node, x: Tensor) -> Tensor:
    """max(0, min(1, alpha · x + beta)), a gate as torch's with its slope of 1/6 is."""
    alpha, beta = node.get("alpha", 0.2), node.get("beta", 0.5)
    if not math.isclose(alpha, 1 / 6, rel_tol=1e-6):
        x = x * (6 * alpha)
    return F.hardsigmoid(x if beta == 0.5 else x + 6 * (beta - 0.5))


@operator("Swish")
def swish(node: Node, x: Tensor) -> Tensor:
    """x · sigmoid(alpha · x)."""
    alpha = node.get("alpha", 1.0)
    return F.silu(x) if alpha == 1 else x * torch.sigmoid(x * alpha)


@operator("Gelu")
def gelu(node: Node, x: Tensor) -> Tensor:
    """Exact, or by tanh."""
    return F.gelu(x, approximate=node.get("approximate", "none"))


@operator("Clip", plain=(1, 2))
def clip(node: Node, x: Tensor, low: np.ndarray | None = None, high: np.ndarray | None = None) -> Tensor:
    """Between two constants, which before opset 11 are attributes."""
    least = node.get("min") if low is None else low.item()
    most = node.get("max") if high is None else high.item()
    if least is None and most is None:
        return x
    if x.is_floating_point() and least is not None and most is not None and least <= most:
        return F.hardtanh(x, least, most)
    return torch.clamp(x, least, most)


@operator("Softmax")
def softmax(node: Node, x: Tensor) -> Tensor:
    """Over one dimension, before opset 13 over `axis` and all behind it."""
    return _over(node, x, torch.softmax)


@operator("LogSoftmax")
def log_softmax(node: Node, x: Tensor) -> Tensor:
    """The logarithm of ``softmax``."""
    return _over(node, x, torch.log_softmax)


def _over(node: Node, x: Tensor, function: Callable[[Tensor, int], Tensor]) -> Tensor:
    axis = node.get("axis", -1 if node.opset >= 13 else 1)
    if node.opset >= 13 or axis in (-1, x.dim() - 1):
        return function(x, axis)
    return function(x.flatten(axis), -1).reshape(x.shape)


@operator("Identity")
def identity(node: Node, x: Tensor) -> Tensor:
    """The same."""
    return x


@operator("Dropout", plain=(1, 2))
def dropout(node: Node, x: Tensor, ratio: np.ndarray | None = None, training: np.ndarray | None = None) -> Tensor:
    """Lets everything through in evaluation mode."""
    if node.outputs > 1 or (training is not None and training.item()):
        node.refuse("training_mode or the mask (export the model in evaluation mode)")
    return x
