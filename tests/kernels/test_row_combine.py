"""Sparse combinations in Triton's interpreter and in CUDA's emulation, against float64."""

import pytest
import torch

from tests import SEEDS
from tests.kernels.guards import Guards
from tests.ops.problems import CombineProblem


@pytest.fixture(params=["triton", "cuda"])
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize(
    "storage, seed", [(torch.float32, SEEDS[0]), (torch.float32, SEEDS[1]), (torch.float16, SEEDS[1])]
)
@pytest.mark.parametrize("slices", [1, 7, 33, 48, 65, 600])
@pytest.mark.parametrize("rows", [(1, 1), (5, 17), (40, 3), (9, 70)])
def test_odd_sizes_between_guards(
    backend: str, rows: tuple[int, int], slices: int, storage: torch.dtype, seed: int
) -> None:
    problem = CombineProblem(*rows, slices, 9, seed, storage)
    guards = Guards()
    problem.in_maps, out = guards.rows(problem.in_maps), guards.rows(torch.full_like(problem.before, torch.nan))
    problem.offset, problem.index = guards.flat(problem.offset), guards.flat(problem.index)
    problem.coefficient = guards.flat(problem.coefficient)
    problem.run(backend=backend, out=out)
    problem.check(out, accumulate=False)
    out.copy_(problem.before)
    problem.run(backend=backend, out=out, accumulate=True)
    problem.check(out, accumulate=True)
    guards.check()


# The interpreter reads bfloat16 rightly, but cuts it off where a GPU rounds.
@pytest.mark.parametrize("in_storage", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("out_storage", [torch.float32, torch.float16])
def test_storage(backend: str, in_storage: torch.dtype, out_storage: torch.dtype) -> None:
    problem = CombineProblem(20, 30, 37, 9, 1, in_storage)
    out = problem.before.to(out_storage)
    problem.before = out.clone()
    problem.run(backend=backend, out=out, accumulate=True)
    problem.check(out, accumulate=True)


def test_nothing_to_do(backend: str) -> None:
    assert CombineProblem(4, 0, 5, 3, 2).run(backend=backend).shape == (0, 5)
    assert CombineProblem(4, 6, 0, 3, 2).run(backend=backend).shape == (6, 0)
    none = CombineProblem(4, 6, 5, 0, 2)
    assert torch.equal(none.run(backend=backend), torch.zeros(6, 5))
    assert torch.equal(none.run(backend=backend, out=none.before.clone(), accumulate=True), none.before)


def test_a_row_of_nan_that_is_not_read(backend: str) -> None:
    problem = CombineProblem(6, 40, 20, 3, 5)
    problem.index.clamp_(min=1)
    problem.in_maps[0] = torch.nan
    assert not problem.run(backend=backend).isnan().any()
