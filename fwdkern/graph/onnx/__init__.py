"""ONNX in: a file becomes a torch module of ATen operators, which everything else treats like any other model."""

from fwdkern.graph.onnx.batch import open_batch
from fwdkern.graph.onnx.network import OnnxNetwork, example_input
from fwdkern.graph.onnx.read import is_onnx, read_onnx

__all__ = ["OnnxNetwork", "example_input", "is_onnx", "open_batch", "read_onnx"]
