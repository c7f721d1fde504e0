"""One file per operator family; importing them fills the registry."""

from fwdkern.graph.onnx.operators import (
    activation,
    arithmetic,
    convolution,
    indexing,
    linear,
    logic,
    normalisation,
    pooling,
    quantised,
    recurrent,
    reduction,
    reshape,
    resize,
    shapes,
)

__all__ = [
    "activation",
    "arithmetic",
    "convolution",
    "indexing",
    "linear",
    "logic",
    "normalisation",
    "pooling",
    "quantised",
    "recurrent",
    "reduction",
    "reshape",
    "resize",
    "shapes",
]
