"""Batch norm in evaluation mode."""

import pytest
import torch

from fwdkern.rules import NoRule
from tests.rules.jacobian import check_rule, freeze, image, live

aten = torch.ops.aten


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 4), (2, 3)])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm(shape: tuple[int, ...], affine: bool) -> None:
    weight, bias = (image(3), image(3, seed=1)) if affine else (None, None)
    statistics = (image(3, seed=2), image(3, seed=3).abs() + 0.1)
    check_rule(
        aten.batch_norm.default, *live(image(*shape)), weight, bias, *statistics, False, 0.1, 1e-3, True, tight=True
    )


def test_statistics_of_the_batch_have_no_rule() -> None:
    with pytest.raises(NoRule, match="mixes examples"):
        freeze(aten.batch_norm.default, *live(image(2, 3, 4)), None, None, None, None, True, 0.1, 1e-3, True)
