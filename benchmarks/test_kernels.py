"""Kernel-level cases for pytest-benchmark: `pytest benchmarks/test_kernels.py`."""

import pytest
import torch

from benchmarks.kernel_gathered_gemm import LAYERS, make_case
from fwdkern.ops import active_rows, row_combine

pytest.importorskip("pytest_benchmark")


@pytest.mark.parametrize("density", [0.3, 1.0])
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: "x".join(map(str, layer)))
def test_gathered_gemm(benchmark, layer, density):
    case = make_case(*layer, density, torch.Generator().manual_seed(0))
    case.check()
    benchmark(case.run)


@pytest.mark.parametrize("slices", [65, 257])
def test_row_combine(benchmark, slices):
    """A 3x3 depthwise convolution of 4096 rows, nine terms each."""
    rows, terms = 4096, 9
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(rows, slices, generator=generator)
    offset = torch.arange(0, rows * terms + 1, terms)
    index = (offset[:-1, None] // terms + torch.arange(terms)).clamp(max=rows - 1).flatten().to(torch.int32)
    coefficient = torch.randn(rows * terms, generator=generator)
    out = torch.empty(rows, slices)
    expected = row_combine(maps.double(), offset, index, coefficient.double())
    got = row_combine(maps, offset, index, coefficient, out=out, backend="cpu")
    torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-4)
    benchmark(row_combine, maps, offset, index, coefficient, out=out, backend="cpu")


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_active_rows(benchmark, layout):
    gate = torch.rand(256, 56 * 56, generator=torch.Generator().manual_seed(0)) < 0.3
    if layout == "channels_last":
        gate = gate.t().contiguous().t()
    benchmark(active_rows, gate, backend="cpu")
