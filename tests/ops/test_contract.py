import pytest
import torch

from fwdkern.errors import InputError
from fwdkern.ops import contract
from tests.kernels.guards import Guards
from tests.ops.problems import CombineProblem


@pytest.mark.parametrize("backend", ["torch", "triton", "cuda"])
@pytest.mark.parametrize("storage", [torch.float32, torch.float16])
@pytest.mark.parametrize("targets", [1, 7, 33, 65])
@pytest.mark.parametrize("rows, slices", [(1, 1), (5, 48), (40, 3), (9, 70)])
def test_values(backend: str, rows: int, slices: int, targets: int, storage: torch.dtype) -> None:
    problem = CombineProblem(rows, slices, targets, 5, 0, storage)
    guards = Guards()
    out = guards.rows(torch.full((targets, slices), torch.nan, dtype=storage))
    lists = map(guards.flat, (problem.offset, problem.index, problem.coefficient))
    assert contract(guards.rows(problem.in_maps), *lists, out=out, backend=backend) is out
    problem.check(out.t(), accumulate=False)
    guards.check()


@pytest.mark.parametrize("backend", ["torch", "triton", "cuda"])
def test_nothing_to_do(backend: str) -> None:
    for rows, slices, targets, longest in [(4, 0, 5, 3), (4, 6, 0, 3), (4, 6, 5, 0), (0, 6, 5, 0)]:
        problem = CombineProblem(max(rows, 1), slices, targets, longest, 1)
        out = contract(problem.in_maps[:rows], problem.offset, problem.index, problem.coefficient, backend=backend)
        assert out.shape == (targets, slices)
        assert longest or not out.any()


def test_opcheck() -> None:
    problem = CombineProblem(6, 9, 10, 4, 5)
    arguments = problem.in_maps, problem.offset, problem.index, problem.coefficient, torch.empty(10, 9)
    torch.library.opcheck(torch.ops.fwdkern.contract.default, arguments)


@pytest.mark.parametrize("backend", ["torch", "triton", "cuda"])
def test_rejects(backend: str) -> None:
    problem = CombineProblem(6, 9, 10, 4, 5)
    pulled, lists = problem.in_maps, (problem.offset, problem.index, problem.coefficient)
    for match, arguments, out in [
        ("contiguous slices", (pulled.t().contiguous().t(), *lists), None),
        ("offset is empty", (pulled, lists[0][:0], *lists[1:]), None),
        ("index has dtype", (pulled, lists[0], lists[1].long(), lists[2]), None),
        ("coefficient has shape", (pulled, *lists[:2], lists[2][1:]), None),
        ("out has shape", (pulled, *lists), torch.empty(9, 10)),
        ("out and pulled share memory", (torch.zeros(9, 9), *lists), "pulled"),
        ("pulled on cpu", (pulled, lists[0], lists[1].to("meta"), lists[2]), None),
    ]:
        with pytest.raises(InputError, match=match):
            contract(*arguments, out=arguments[0] if out == "pulled" else out, backend=backend)
