"""The workloads of single ops on the CPU, small, where Triton's kernels are interpreted and CUDA's emulated."""

import functools
from collections.abc import Callable

import pytest
import torch

from benchmarks.runner import run
from benchmarks.timing import Effort
from benchmarks.workload import Task, Workload
from benchmarks.workloads import ops
from tests import cuda_here, triton_here

SMALL = {
    "active_rows": functools.partial(ops.active_rows, 20, 6, 0.3, "cpu"),
    "contract": functools.partial(ops.contract, 30, 20, 3, "cpu"),
    "gathered_gemm": functools.partial(ops.gathered_gemm, 16, 4, 16, 0.3, "ieee", "cpu"),
    "row_combine": functools.partial(ops.row_combine, 30, 16, 4, torch.float32, "cpu"),
    "row_combine, bfloat16": functools.partial(ops.row_combine, 30, 16, 4, torch.bfloat16, "cpu"),
    "gate_maps": functools.partial(ops.gate_maps, 3, 20, 5, 0.3, "cpu"),
    "row_sums": functools.partial(ops.row_sums, 30, 40, "cpu"),
    "seed": functools.partial(ops.seed, 30, 16, "cpu"),
}


@pytest.mark.parametrize("name", SMALL)
def test_all_backends_stand_side_by_side(name: str) -> None:
    build: Callable[[], Task] = SMALL[name]
    result = run(Workload(name, name, build), Effort(rounds=1), False, print)
    assert [figure.wrong for figure in result.figures] == [""] * len(result.figures)
    expected = ["cuda", ops.COPY] if cuda_here.missing() is None else [ops.COPY]
    if name in ("gate_maps", "row_sums"):  # which Triton has no kernels for, and torch serves
        expected.insert(-1, "torch")
    elif triton_here.missing(interpreter=True) is None:
        expected.insert(0, "triton")
    if name not in ("contract", "seed"):  # which the compiled library does inside whole passes
        expected.insert(-1, "cpu")
    assert [figure.name for figure in result.figures] == expected
