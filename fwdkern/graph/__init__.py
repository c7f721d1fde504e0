"""From a model to the graph of layers."""

from fwdkern.graph.network import SOFTMAX, Layer, Network, build_network, enclosing_path

__all__ = ["SOFTMAX", "Layer", "Network", "build_network", "enclosing_path"]
