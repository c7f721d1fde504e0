"""Small ONNX files made by hand."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

Node = tuple[str, list[str], list[str], dict[str, Any]]


def model(
    nodes: Sequence[Node],
    shape: Sequence[int | str],
    weights: dict[str, np.ndarray] | None = None,
    opset: int = 17,
    kind: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A file that reads "x" of this shape and returns "y"; a node's name is its first result's unless given."""
    made = [
        helper.make_node(op, inputs, outputs, **{"name": outputs[0], **attributes})
        for op, inputs, outputs, attributes in nodes
    ]
    graph = helper.make_graph(
        made,
        "graph",
        [helper.make_tensor_value_info("x", kind, list(shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def save(proto: onnx.ModelProto, folder: Path) -> Path:
    """The file, in a folder."""
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def network(batch: int | str = "batch") -> onnx.ModelProto:
    """A convolution, a pool and a linear layer, with names as torch gives them; [batch, 3, 8, 8] to [batch, 5]."""
    random = torch.Generator().manual_seed(0)
    weights = {
        "w": torch.randn(4, 3, 3, 3, generator=random).numpy(),
        "b": torch.randn(4, generator=random).numpy(),
        "head": torch.randn(5, 64, generator=random).numpy(),
        "sizes": np.array([1 if batch == 1 else 0, -1]),
    }
    nodes: list[Node] = [
        ("Conv", ["x", "w", "b"], ["a"], {"pads": [1, 1, 1, 1], "name": "/block/block.0/conv1/Conv"}),
        ("Relu", ["a"], ["r"], {"name": "/block/block.0/relu/Relu"}),
        ("MaxPool", ["r"], ["p"], {"kernel_shape": [2, 2], "strides": [2, 2], "name": "/pool/MaxPool"}),
        ("Reshape", ["p", "sizes"], ["f"], {"name": "/Reshape"}),
        ("Gemm", ["f", "head"], ["y"], {"transB": 1, "name": "/fc/Gemm"}),
    ]
    return model(nodes, [batch, 3, 8, 8], weights)
