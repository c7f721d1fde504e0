"""From a model to the graph of layers."""

from fwdkern.graph.fold import SHAPE_ONLY
from fwdkern.graph.network import SOFTMAX, Layer, Network, build_network, enclosing_path

__all__ = ["SHAPE_ONLY", "SOFTMAX", "Layer", "Network", "build_network", "enclosing_path"]
