"""Comparisons, choices, and conversions between types."""

from collections.abc import Callable

import torch
from torch import Tensor

from fwdkern.graph.onnx.registry import Node, operator


def _register(kind: str, function: Callable[..., Tensor]) -> None:
    operator(kind)(lambda node, *inputs: function(*inputs))


_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "And": torch.logical_and,
    "Or": torch.logical_or,
    "Xor": torch.logical_xor,
    "Not": torch.logical_not,
    "Where": torch.where,
    "IsNaN": torch.isnan,
}
for _kind, _function in _FUNCTIONS.items():
    _register(_kind, _function)

# By the numbers of TensorProto.DataType.
TYPES = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
    16: torch.bfloat16,
}


@operator("Cast", typed=True)
def cast(node: Node, x: Tensor, dtype: torch.dtype) -> Tensor:
    """To the network's own floating point type where the file names that one, also after ``model.double()``."""
    wanted = node.get("to")
    if wanted not in TYPES:
        node.refuse(f"to={wanted}")
    target = dtype if wanted == node.get("main_type") else TYPES[wanted]
    return x if x.dtype == target else x.to(target)


@operator("CastLike")
def cast_like(node: Node, x: Tensor, like: Tensor) -> Tensor:
    """To another tensor's type."""
    return x.to(like.dtype)
