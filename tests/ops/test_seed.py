import pytest
import torch

from fwdkern.errors import InputError
from fwdkern.ops import seed
from tests.kernels.guards import Guards


@pytest.mark.parametrize("backend", ["torch", "triton", "cuda"])
@pytest.mark.parametrize("storage", [torch.float32, torch.float16])
@pytest.mark.parametrize("rows, slices", [(1, 1), (70, 7), (5, 48), (9, 600), (0, 3), (3, 0)])
def test_values(backend: str, rows: int, slices: int, storage: torch.dtype) -> None:
    random = torch.Generator().manual_seed(rows)
    guards = Guards()
    value = guards.flat(torch.randn(rows, generator=random))
    column = guards.flat(torch.randint(-1, max(slices, 1), (rows,), generator=random, dtype=torch.int32))
    out = guards.rows(torch.full((rows, slices), torch.nan, dtype=storage))
    assert seed(value, column, out, backend) is out
    expected = torch.zeros(rows, slices)
    for row, own in enumerate(column.tolist()):
        if 0 <= own < slices:
            expected[row, own] = value[row]
    assert torch.equal(out, expected.to(storage))
    guards.check()


def test_opcheck() -> None:
    arguments = torch.randn(4), torch.tensor([0, -1, 2, 1], dtype=torch.int32), torch.empty(4, 3)
    torch.library.opcheck(torch.ops.fwdkern.seed.default, arguments)


@pytest.mark.parametrize("backend", ["torch", "triton", "cuda"])
def test_rejects(backend: str) -> None:
    value, column, out = torch.randn(4), torch.zeros(4, dtype=torch.int32), torch.empty(4, 3)
    for match, arguments in [
        ("value has shape", (value[1:], column, out)),
        ("value has dtype", (value.double(), column, out)),
        ("column has dtype", (value, column.long(), out)),
        ("contiguous slices", (value, column, torch.empty(3, 4).t())),
        ("overlap", (value, column, torch.empty(1, 3).expand(4, 3))),
        ("column is on meta", (value, column.to("meta"), out)),
    ]:
        with pytest.raises(InputError, match=match):
            seed(*arguments, backend)
