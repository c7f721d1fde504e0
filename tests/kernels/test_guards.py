import pytest
import torch

from tests.kernels.guards import Guards


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int32])
def test_writes_beside_the_tensor_are_found(dtype: torch.dtype) -> None:
    values = torch.arange(6).view(2, 3).to(dtype)
    for make, step in (("flat", 3), ("rows", 8)):
        guards = Guards()
        view = getattr(guards, make)(values)
        assert torch.equal(view, values) and view.stride(0) == step
        view.zero_()
        guards.check()
        assert not view.any(), "the check changed the tensor"
        view.as_strided((1,), (1,), view.storage_offset() + 2 * step).fill_(7)
        with pytest.raises(AssertionError):
            guards.check()
