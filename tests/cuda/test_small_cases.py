"""The calls that compute-sanitizer watches on a GPU, here in emulation: they must be right before they are watched."""

import pytest
import torch

from fwdkern.ops import native
from tests.gpu import small_cases


@pytest.mark.parametrize("backend", ["cuda"])
def test_in_emulation(backend: str) -> None:
    if native.load()[0] is None:
        pytest.skip(native.load()[1])
    small_cases.main(torch.device("cpu"))
