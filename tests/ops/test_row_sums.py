"""row_sums against float64."""

import pytest
import torch

from fwdkern.errors import InputError
from fwdkern.ops.row_sums import row_sums

EPS = torch.finfo(torch.float32).eps


@pytest.mark.parametrize("backend", ["cpu", "torch", "cuda"])
@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (1, 1), (5, 17), (4, 4097), (2, 20001), (33, 512), (3, 2**14)])
def test_against_float64(shape: tuple[int, int], added: bool, backend: str, native_library: object) -> None:
    random = torch.Generator().manual_seed(0)
    maps = torch.randn(shape, generator=random)
    addend = torch.randn(shape[0], generator=random) if added else None
    expected = maps.clone() if addend is None else maps + addend[:, None]
    sums, magnitude = row_sums(maps, addend, backend)
    assert torch.equal(maps, expected)
    exact = expected.double()
    # Partial sums of at most 32 elements, then double precision or ever larger halves; torch's blocks are as deep.
    bound = 64 * EPS * exact.abs().sum(1) + 1e-30
    assert ((sums.double() - exact.sum(1)).abs() <= bound).all()
    assert ((magnitude.double() - exact.abs().sum(1)).abs() <= bound).all()


def test_float64_and_bfloat16_run_in_torch() -> None:
    for dtype in (torch.float64, torch.bfloat16):
        maps = torch.ones(2, 3, dtype=dtype)
        sums, magnitude = row_sums(maps, torch.tensor([1, -3], dtype=dtype))
        assert sums.tolist() == [6, -6] and magnitude.tolist() == [6, 6] and sums.dtype is dtype


def test_opcheck(native_library: object) -> None:
    for addend in (None, torch.randn(3)):
        torch.library.opcheck(torch.ops.fwdkern.row_sums.default, (torch.randn(3, 40), addend))


@pytest.mark.parametrize(
    ("maps", "addend", "problem"),
    [
        (torch.zeros(3), None, "maps has shape"),
        (torch.zeros(3, 4).T, None, "maps has strides"),
        (torch.zeros(3, 4, dtype=torch.int32), None, "floating point"),
        (torch.zeros(3, 4), torch.zeros(4), "addend has shape"),
        (torch.zeros(3, 4), torch.zeros(3, dtype=torch.float64), "addend has dtype"),
    ],
)
def test_wrong_arguments(maps: torch.Tensor, addend: torch.Tensor | None, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        row_sums(maps, addend)
