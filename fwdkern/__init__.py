"""fwdkern: what every neuron of a network saw in a given input, fast and exact."""

from fwdkern import nn
from fwdkern.algorithm1 import algorithm1
from fwdkern.info import info
from fwdkern.model import FusedModel, fuse
from fwdkern.relevance import Relevance

__version__ = "0.1.0"
__all__ = ["FusedModel", "Relevance", "__version__", "algorithm1", "fuse", "info", "nn"]
