"""From a model to the graph of layers."""

from fwdkern.graph.network import Layer, Network, build_network, enclosing_path

__all__ = ["Layer", "Network", "build_network", "enclosing_path"]
