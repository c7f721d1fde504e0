"""One file per operator family; importing them fills the registry."""

from fwdkern.graph.onnx.operators import (
    activation,
    arithmetic,
    attention,
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
    "attention",
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
