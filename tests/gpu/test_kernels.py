"""The kernels on a GPU against float64, on the problems that Triton's interpreter and CUDA's emulation solve
elsewhere."""

import copy

import pytest
import torch

from fwdkern.ops import active_rows, active_rows_reference, row_combine
from fwdkern.ops.backend import gpu_obstacle
from fwdkern.ops.contract import contract, contract_reference
from fwdkern.ops.gate import gate_bits, gate_bits_reference, gate_maps, gate_maps_reference
from fwdkern.ops.max_pool import max_pool, max_pool_reference, max_unpool, max_unpool_reference
from fwdkern.ops.row_sums import row_sums, row_sums_reference
from fwdkern.ops.seed import seed, seed_reference
from tests.ops.layouts import LAYOUTS, draw
from tests.ops.problems import EPS, OPERAND_ROUNDING, CombineProblem, GemmProblem, stored


def moved(problem: GemmProblem, device: torch.device) -> GemmProblem:
    """The same problem with its tensors on a device."""
    there = copy.copy(problem)
    for name, value in vars(problem).items():
        if isinstance(value, torch.Tensor):
            setattr(there, name, value.to(device))
        elif isinstance(value, tuple):
            setattr(there, name, tuple(part.to(device) for part in value))
    return there


@pytest.mark.parametrize("precision", OPERAND_ROUNDING)
@pytest.mark.parametrize("storage", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("channels, slices, groups", [(1, 1, 1), (3, 7, 1), (17, 65, 1), (64, 256, 1), (24, 130, 2)])
@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
def test_gathered_gemm(
    density: float,
    channels: int,
    slices: int,
    groups: int,
    storage: torch.dtype,
    precision: str,
    kernels: str,
    gpu: torch.device,
) -> None:
    problem = GemmProblem(channels, channels, slices, density, 0, taps=9, groups=groups, dtype=storage)
    there = moved(problem, gpu)
    out = torch.full_like(there.before, torch.nan)
    there.run(kernels, out=out, precision=precision)
    problem.check(out.cpu(), scale=False, accumulate=False, operand_rounding=OPERAND_ROUNDING[precision])
    out.copy_(there.before)
    there.run(kernels, out=out, precision=precision, row_scale=there.row_scale, accumulate=True)
    problem.check(out.cpu(), scale=True, accumulate=True, operand_rounding=OPERAND_ROUNDING[precision])


@pytest.mark.parametrize("storage", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("slices", [1, 7, 33, 65, 256])
def test_row_combine(slices: int, storage: torch.dtype, kernels: str, gpu: torch.device) -> None:
    problem = CombineProblem(40, 23, slices, 9, 0, dtype=storage)
    offset, index, coefficient = (t.to(gpu) for t in (problem.offset, problem.index, problem.coefficient))
    found = row_combine(problem.in_maps.to(gpu), offset, index, coefficient, backend=kernels)
    problem.check(found.cpu(), accumulate=False)


def test_rows_beyond_two_gigabytes(kernels: str, gpu: torch.device) -> None:
    """Element offsets above 2^31: rows that lie far apart in one allocation."""
    stride, rows = 2**26, 40
    if torch.cuda.mem_get_info()[0] < 1.5 * stride * rows * 4:
        pytest.skip("less than 15 GiB of the GPU's memory are free")
    maps = torch.empty(rows * stride, device=gpu).as_strided((rows, 64), (stride, 1))
    maps.copy_(torch.randn(rows, 64))
    index = torch.arange(rows, dtype=torch.int32, device=gpu).flip(0).contiguous()
    offset, ones = torch.arange(rows + 1, device=gpu), torch.ones(rows, device=gpu)
    assert torch.equal(row_combine(maps, offset, index, ones, backend=kernels), maps.flip(0))


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (17, 33), (300, 1000)])
def test_active_rows(shape: tuple[int, int], transposed: bool, kernels: str, gpu: torch.device) -> None:
    gate = torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.3
    gate = gate.t().contiguous().t() if transposed else gate
    found = active_rows(gate.to(gpu), kernels)
    for part, expected in zip(found, active_rows_reference(gate), strict=True):
        assert torch.equal(part.cpu(), expected)


def test_seed_and_contract(kernels: str, gpu: torch.device) -> None:
    random = torch.Generator().manual_seed(0)
    value, column = torch.randn(50, generator=random), torch.randint(-1, 33, (50,), generator=random).int()
    expected, out = torch.empty(50, 33), torch.empty(50, 33, device=gpu)
    seed_reference(value, column, expected)
    assert torch.equal(seed(value.to(gpu), column.to(gpu), out, kernels).cpu(), expected)
    pulled, offset = torch.randn(50, 33, generator=random), torch.arange(0, 51, 5)
    index, coefficient = torch.randint(50, (50,), generator=random).int(), torch.randn(50, generator=random)
    turned = torch.empty(33, 10)
    contract_reference(pulled, offset, index, coefficient, turned)
    found = contract(*(t.to(gpu) for t in (pulled, offset, index, coefficient)), backend=kernels)
    assert (found.cpu() - turned).abs().max() <= 5 * 5 * 2**-23 * turned.abs().max()


@pytest.mark.parametrize("storage", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("channels", [3, 16, 40])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gates_and_pools(layout: str, channels: int, storage: torch.dtype, gpu: torch.device) -> None:
    """CUDA's alone: Triton has none of these, and bits must be those of torch."""
    obstacle = gpu_obstacle("cuda", "gate_bits", gpu, storage)
    if obstacle:
        pytest.skip(obstacle)
    values, maps = draw(layout, 0, 2, channels, 9, 8).to(storage), draw("contiguous", 1, 4, channels, 9, 8).to(storage)
    bits = gate_bits(values.to(gpu), "cuda")
    assert bits.cpu().equal(gate_bits_reference(values))
    assert gate_maps(maps.to(gpu), bits, "cuda").cpu().equal(gate_maps_reference(maps, bits.cpu()))
    window = ((3, 3), (2, 2), (1, 1), (1, 1))
    out, winner = max_pool(values.to(gpu), window, False, "cuda")
    expected, expected_winner = max_pool_reference(values, *window, False)
    assert out.cpu().equal(expected) and winner.cpu().equal(expected_winner)
    pulled = draw("contiguous", 2, 4, *out.shape[1:]).to(storage)
    found = max_unpool(pulled.to(gpu), winner, window, (9, 8), "cuda").cpu()
    exact = max_unpool_reference(pulled.double(), expected_winner, *window, (9, 8))
    magnitude = max_unpool_reference(pulled.double().abs(), expected_winner, *window, (9, 8))
    assert ((found.double() - exact).abs() <= 9 * EPS * magnitude + stored(exact, storage)).all()


@pytest.mark.parametrize("shape", [(5, 7), (300, 961), (2, 20001), (70_000, 8)])
def test_row_sums(shape: tuple[int, int], gpu: torch.device) -> None:
    """CUDA's alone: whole numbers, so that every sum is exact."""
    obstacle = gpu_obstacle("cuda", "row_sums", gpu, torch.float32)
    if obstacle:
        pytest.skip(obstacle)
    random = torch.Generator().manual_seed(0)
    maps = torch.randint(-8, 9, shape, generator=random).float()
    addend, there = torch.randint(-4, 5, shape[:1], generator=random).float(), maps.to(gpu, copy=True)
    for found, expected in zip(row_sums(there, addend.to(gpu), "cuda"), row_sums_reference(maps, addend), strict=True):
        assert torch.equal(found.cpu(), expected)
    assert torch.equal(there.cpu(), maps)


def test_two_streams(kernels: str, gpu: torch.device) -> None:
    """Calls on two streams at once do not share scratch."""
    problems = [GemmProblem(64, 64, 256, 0.4, number, positions=(64, 64), taps=9) for number in range(2)]
    there = [moved(problem, gpu) for problem in problems]
    streams = [torch.cuda.Stream() for _ in there]
    outs = [torch.empty_like(problem.before) for problem in there]
    torch.cuda.synchronize()
    for _ in range(10):
        for problem, stream, out in zip(there, streams, outs, strict=True):
            with torch.cuda.stream(stream):
                problem.run(kernels, out=out)
    torch.cuda.synchronize()
    for problem, out in zip(problems, outs, strict=True):
        problem.check(out.cpu(), scale=False, accumulate=False)
