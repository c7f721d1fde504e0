"""Other ways to the same maps. They compute R only, which is less than fwdkern's V with its check.

The loops that would take minutes run on a part of the slices or units; ``parts`` scales their time.
"""

from benchmarks.rivals.algorithm1 import algorithm1
from benchmarks.rivals.autograd import autograd_batch, autograd_loop
from benchmarks.rivals.captum import captum_batch, captum_loop
from benchmarks.rivals.dense import dense_slices, dense_slices_on_gpu
from benchmarks.rivals.functional import compiled_jvp, compiled_vjp, vmap_jvp, vmap_vjp
from benchmarks.rivals.transposed import dense_transposes

__all__ = [
    "algorithm1",
    "autograd_batch",
    "autograd_loop",
    "captum_batch",
    "captum_loop",
    "compiled_jvp",
    "compiled_vjp",
    "dense_slices",
    "dense_slices_on_gpu",
    "dense_transposes",
    "vmap_jvp",
    "vmap_vjp",
]
