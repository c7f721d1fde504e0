"""Measures of maps on a GPU against the same on the CPU."""

import pytest
import torch

from tests.metrics.pictures import batch
from tests.metrics.test_metric import CASES, Case


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_measures(case: Case, gpu: torch.device) -> None:
    here, there = case.make(), case.make()
    images, maps, target = batch()
    case.feed(here, images, maps, target)
    case.feed(there, images.to(gpu), maps.to(gpu), target.to(gpu))
    torch.testing.assert_close(there.values(), here.values(), equal_nan=True, rtol=1e-9, atol=1e-9)
    assert there.reasons() == here.reasons()
