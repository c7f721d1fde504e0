"""Small calls of every CUDA kernel; run as a module on the device given, under compute-sanitizer for one.

Only memory accesses are of interest: each result is compared with the reference, and a difference ends the process.
"""

import sys

import torch
from torch import Tensor

from fwdkern.ops import active_rows, active_rows_reference, gathered_gemm, row_combine
from fwdkern.ops.active_rows import active_rows_on_device
from fwdkern.ops.contract import contract, contract_reference
from fwdkern.ops.gate import gate_bits, gate_bits_reference, gate_maps, gate_maps_reference
from fwdkern.ops.gathered_gemm import list_terms
from fwdkern.ops.max_pool import max_pool, max_pool_reference, max_unpool, max_unpool_reference
from fwdkern.ops.row_sums import row_sums, row_sums_reference
from fwdkern.ops.seed import seed, seed_reference
from tests.ops.layouts import draw
from tests.ops.problems import OPERAND_ROUNDING, CombineProblem, GemmProblem


def main(device: torch.device) -> None:
    for storage in (torch.float32, torch.bfloat16, torch.float16):
        for slices in (7, 64):  # without and with 16-byte accesses
            maps(device, storage, slices)
        for channels in (3, 16):
            gates(device, storage, channels)
    for shape in ((5, 7), (300, 8), (2, 20001)):  # rows that share a block, aligned ones, rows of several parts
        sums(device, *shape)
    for shape in ((3, 5), (70, 300)):
        gate = torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.3
        for found in (active_rows(gate.to(device), "cuda"), active_rows_on_device(gate.to(device), "cuda")):
            offset, channel = active_rows_reference(gate)
            same(found[0], offset)
            same(found[1][: len(channel)], channel)


def maps(device: torch.device, storage: torch.dtype, slices: int) -> None:
    combine = CombineProblem(9, 13, slices, 5, 0, storage)
    lists = [each.to(device) for each in (combine.offset, combine.index, combine.coefficient)]
    out = combine.before.to(device, copy=True)
    combine.check(row_combine(combine.in_maps.to(device), *lists, accumulate=True, out=out, backend="cuda").cpu(), True)
    column = torch.arange(13, dtype=torch.int32) - 1
    seeded, expected = torch.empty(13, slices, dtype=storage, device=device), torch.empty(13, slices, dtype=storage)
    value = torch.arange(13.0)
    seed_reference(value, column, expected)
    same(seed(value.to(device), column.to(device), seeded, "cuda"), expected)
    # Small whole numbers, so that every sum is exact.
    whole = combine.in_maps.float().mul(2).round().to(storage)
    factor = torch.ones_like(combine.coefficient)
    turned = torch.empty(slices, 13, dtype=storage)
    contract_reference(whole, combine.offset, combine.index, factor, turned)
    same(contract(whole.to(device), lists[0], lists[1], factor.to(device), backend="cuda"), turned)
    for precision, rounding in OPERAND_ROUNDING.items():
        problem = GemmProblem(20, 24, slices, 0.4, 0, groups=2, dtype=storage)
        rows = [tuple(each.to(device) for each in part) for part in (problem.in_rows, problem.out_rows)]
        products = gathered_gemm(
            problem.in_maps.to(device),
            *rows,
            problem.taps.to(device),
            problem.weight.to(device),
            groups=2,
            precision=precision,
            backend="cuda",
        )
        problem.check(products.cpu(), scale=False, accumulate=False, operand_rounding=rounding)
        there = problem.in_maps.to(device), rows[0], problem.taps.to(device), problem.weight.to(device)
        terms = list_terms(*there, groups=2, precision=precision, most=2**30, backend="cuda")
        listed = gathered_gemm(
            *there[:2], rows[1], *there[2:], groups=2, precision=precision, terms=terms, backend="cuda"
        )
        same(listed, products.cpu())


def sums(device: torch.device, rows: int, columns: int) -> None:
    random = torch.Generator().manual_seed(0)
    whole = torch.randint(-8, 9, (rows, columns), generator=random).float()  # so that every sum is exact
    addend, there = torch.randint(-4, 5, (rows,), generator=random).float(), whole.to(device, copy=True)
    for found, expected in zip(
        row_sums(there, addend.to(device), "cuda"), row_sums_reference(whole, addend), strict=True
    ):
        same(found, expected)
    same(there, whole)


def gates(device: torch.device, storage: torch.dtype, channels: int) -> None:
    window = ((3, 2), (2, 1), (1, 1), (1, 1))
    for layout in ("contiguous", "channels last"):
        values = draw(layout, 0, 2, channels, 6, 5).to(storage)
        bits = gate_bits(values.to(device), "cuda")
        same(bits, gate_bits_reference(values))
        same(gate_maps(values.to(device), bits, "cuda"), gate_maps_reference(values, bits.cpu()))
        out, winner = max_pool(values.to(device), window, False, "cuda")
        expected = max_pool_reference(values, *window, False)
        same(out, expected[0])
        same(winner, expected[1])
        pulled = draw("contiguous", 1, 4, *out.shape[1:]).mul(2).round().to(storage)
        same(
            max_unpool(pulled.to(device), winner, window, (6, 5), "cuda"),
            max_unpool_reference(pulled, expected[1], *window, (6, 5)),
        )


def same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=0)


if __name__ == "__main__":
    main(torch.device(sys.argv[1]))
