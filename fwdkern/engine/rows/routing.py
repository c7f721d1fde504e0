"""Which products of a device pass gather their rows, and which are done dense because nearly all rows are there."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Route = Literal["gathered", "dense"]


class Share(NamedTuple):
    """Parts of torch.mm's rate in one precision: ``gathered``, the gathered GEMM's on useful work; ``copies``, output
    channels at which a dense product takes as long as the copies around it."""

    gathered: float
    copies: float


# COUNTED, NOT MEASURED: nobody has timed these on a GPU. `make gpu` measures both and prints the table to put here.
# gathered: cycles of tensor cores over cycles of issuing in the loop of the widest tile (benchmarks/NOTES.md); "ieee"
# has no tensor cores and gathers two operands for every product of a 64 x 64 tile. copies: every dense input is read
# and written once a tap, 8 bytes (bf16: 4), beside 2 flops an output channel, at 3 TB/s and 50, 400 and 800 Tflop/s.
SHARES = {"ieee": Share(0.7, 65), "tf32": Share(0.9, 530), "bf16": Share(0.6, 530)}
# Bytes that the dense inputs of one product may take; more are multiplied piece by piece.
DENSE_BYTES = 256 * 2**20


class Product(NamedTuple):
    """What a route depends on: rows and units (positions times channels) of both sides, the weight's shape ``[T, C_in,
    C_out / groups]``."""

    in_rows: int
    in_units: int
    out_rows: int
    out_units: int
    weight: tuple[int, ...]
    groups: int

    @property
    def densities(self) -> tuple[float, float]:
        return self.in_rows / max(self.in_units, 1), self.out_rows / max(self.out_units, 1)


def route(product: Product, precision: str) -> Route:
    """How one product is done, by whichever takes less time.

    Gathered work falls with density_in x density_out, at a lower rate; dense work is all of it, and its inputs are
    copied first. One side is never left dense alone: that would replace three of four of the loop's 4-byte copies of
    weights by wider ones, some 5 % of its instructions, for 1 / density of the work.
    """
    density_in, density_out = product.densities
    share, channels = SHARES[precision], product.weight[2]
    dense = 1 + share.copies / channels
    return "dense" if product.groups == 1 and density_in * density_out / share.gathered > dense else "gathered"


def dense_product(
    arena: Tensor,
    place: Tensor,
    taps: Tensor,
    weight: Tensor,
    position: Tensor,
    channel: Tensor,
    precision: str,
) -> Tensor:
    """The rows that a gathered GEMM would compute, from all inputs and to all outputs of every position.

    Args:
        arena: ``[rows, slices]``, row 0 zero; place: int64 ``[in positions, C_in]``, the row of each unit, 0 for none.
        taps: int64 ``[positions, T]``, −1 for none; weight: ``[T, C_in, C_out]``.
        position, channel: of each row wanted, ``[out rows]``.

    Returns:
        ``[out rows, slices]`` in the weight's dtype.
    """
    slices, (count, depth) = arena.shape[1], (len(taps), taps.shape[1] * weight.shape[1])
    # −1 finds the last position, which is empty.
    padded = torch.cat([place, place.new_zeros(1, place.shape[1])])
    matrix = weight.flatten(0, 1).T  # [C_out, T * C_in]
    step = max(1, DENSE_BYTES // max(1, depth * slices * arena.element_size()))
    outputs = weight.new_empty(weight.shape[2], count, slices)
    for start in range(0, count, step):
        sources = padded[taps[start : start + step]].flatten(1).T  # [T * C_in, some positions]
        inputs = arena[sources.flatten()].view(depth, -1)  # [T * C_in, some positions * slices]
        outputs[:, start : start + step] = _multiply(matrix, inputs, precision).view(len(matrix), -1, slices)
    return outputs[channel.long(), position]


def _multiply(matrix: Tensor, inputs: Tensor, precision: str) -> Tensor:
    """In the matrix's dtype; what it may round to is `fwdkern.engine.rounding`'s for tf32."""
    if precision != "bf16" or matrix.dtype != torch.float32:
        return matrix @ inputs.to(matrix.dtype)
    matrix, inputs = matrix.bfloat16(), inputs.bfloat16()
    # Only GPUs have products of bfloat16 with float32 sums.
    return torch.mm(matrix, inputs, out_dtype=torch.float32) if inputs.is_cuda else matrix.float() @ inputs.float()
