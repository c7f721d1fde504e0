"""The table of families: every network runs, is reproducible, and answers to its input."""

import pytest
import torch

from tests.networks.families import FAMILIES


@pytest.mark.parametrize("name", FAMILIES)
def test_family(name: str) -> None:
    factory, input_shape = FAMILIES[name]
    network = factory()
    images = torch.randn(3, *input_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = network(images)
        assert logits.shape[0] == 3 and logits.isfinite().all()
        assert logits.std(0).min() > 1e-3
        assert factory(seed=0)(images).equal(logits)
        assert not factory(seed=1)(images).equal(logits)
    assert not network.training


def test_factories_leave_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    FAMILIES["mlp"].factory()
    assert torch.random.get_rng_state().equal(before)
