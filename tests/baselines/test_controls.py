"""Maps that know nothing of the model."""

import math

import pytest
import torch
from torch import nn

from fwdkern.baselines import CONTROLS, METHODS, AllOnes, CentreGaussian, Random
from fwdkern.errors import InputError


class Refuses(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise AssertionError("a control ran the model")


def test_no_control_runs_the_model() -> None:
    for name in CONTROLS:
        METHODS[name](Refuses().eval()).attribute(torch.rand(2, 3, 8, 8))


def test_all_ones() -> None:
    assert torch.equal(AllOnes(Refuses().eval()).attribute(torch.rand(2, 3, 8, 6)), torch.ones(2, 8, 6))


def test_centre_gaussian_by_hand() -> None:
    """The two middle rows of four are 1/8 of the height off the centre, the outer ones 3/8."""
    found = CentreGaussian(Refuses().eval(), sigma=0.5).attribute(torch.rand(2, 3, 4, 1, dtype=torch.float64))
    profile = torch.tensor([math.exp(-0.5 * (d / 8 / 0.5) ** 2) for d in (3, 1, 1, 3)], dtype=torch.float64)
    torch.testing.assert_close(found, profile[None, :, None].expand(2, 4, 1))


def test_random_maps_are_the_same_in_any_dtype_that_holds_the_image() -> None:
    x = torch.rand(2, 3, 8, 8)
    method = Random(Refuses().eval())
    assert torch.equal(method.attribute(x), method.attribute(x.double()).float())


def test_bad_arguments() -> None:
    with pytest.raises(InputError, match="sigma=0 must be more than 0"):
        CentreGaussian(Refuses(), sigma=0)
