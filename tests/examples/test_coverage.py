"""The coverage table: what is complete, what differs, what captum cannot do, and networks that are not captured."""

import pytest
import torch
from torch import Tensor, nn

from examples import coverage

pytest.importorskip("captum")


def line(model: nn.Module, x: Tensor) -> dict[str, str]:
    return coverage.measure(coverage.Network("it", lambda: (model.eval(), x)))


def test_a_network_of_relus() -> None:
    model = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
    found = line(model, torch.randn(1, 8))
    assert found["network"] == "it" and (found["captured"], found["complete"]) == ("yes", "yes")
    for column in ("delta", "plain", "forward", "rows", "DeepLift"):
        assert float(found[column]) < 1e-4, column
    assert float(found["LRP"]) >= 0


def test_captum_stops_at_an_activation_used_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.relu, self.second = nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.relu(self.second(self.relu(self.first(x))))

    found = line(Twice(), torch.randn(1, 6))
    assert found["complete"] == "yes" and "Error" in found["DeepLift"]


def test_a_network_that_cannot_be_captured() -> None:
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    found = line(Branching(), torch.randn(1, 6))
    assert found["captured"].startswith("CaptureError") and found["complete"] == "–"


def test_families_are_those_of_the_tests() -> None:
    from tests.networks.families import FAMILIES

    assert [network.name for network in coverage.families()][: len(FAMILIES)] == list(FAMILIES)
