"""The poisoned allocations of conftest.py: what they return, and that tracing and autograd still work."""

import pytest
import torch
from torch import Tensor, nn

ALLOCATIONS = {
    "empty": lambda like: torch.empty(like.shape, dtype=like.dtype),
    "empty_like": lambda like: torch.empty_like(like),
    "empty_strided": lambda like: torch.empty_strided(like.shape, like.stride(), dtype=like.dtype),
    "new_empty": lambda like: like.new_empty(like.shape),
    "new_empty_strided": lambda like: like.new_empty_strided(like.shape, like.stride()),
}


@pytest.mark.parametrize("allocation", ALLOCATIONS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_floats_are_nan(allocation: str, dtype: torch.dtype) -> None:
    assert ALLOCATIONS[allocation](torch.zeros(3, 5, dtype=dtype).T).isnan().all()


@pytest.mark.parametrize("allocation", ALLOCATIONS)
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_integers_are_the_largest_value(allocation: str, dtype: torch.dtype) -> None:
    assert (ALLOCATIONS[allocation](torch.zeros(3, 5, dtype=dtype).T) == torch.iinfo(dtype).max).all()


@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_booleans_are_true(allocation: str) -> None:
    assert ALLOCATIONS[allocation](torch.zeros(3, dtype=torch.bool)).all()


def test_out_and_requires_grad_are_kept() -> None:
    given = torch.zeros(4)
    assert torch.empty(4, out=given) is given and given.isnan().all()
    assert torch.empty(4, requires_grad=True).requires_grad


def test_modules_are_initialised_as_ever() -> None:
    assert all(parameter.isfinite().all() for parameter in nn.Conv2d(3, 4, 3).parameters())


class Allocates(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.empty_like(x).copy_(x) * 2


@pytest.mark.parametrize("strict", [True, False])
def test_export_records_no_fill(strict: bool) -> None:
    exported = torch.export.export(Allocates(), (torch.ones(3),), strict=strict)
    assert "fill" not in exported.graph_module.code
    assert exported.module()(torch.ones(3)).equal(torch.full((3,), 2.0))


def test_compile_works() -> None:
    compiled = torch.compile(Allocates(), fullgraph=True, backend="aot_eager")
    assert compiled(torch.ones(3)).equal(torch.full((3,), 2.0))
