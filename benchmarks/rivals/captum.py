"""Captum, as its users call it; imported when it is called, since not every GPU machine has it."""

import functools
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.formats import in_both, in_format
from benchmarks.rivals.parts import over_units
from benchmarks.units import UnitMaps
from benchmarks.workload import Contender, Sample, Unavailable


def captum_loop(problem: UnitMaps, units: Tensor) -> Contender:
    """One call a unit: NeuronGradient times input for the units of a layer, InputXGradient for classes."""
    run = classes if len(problem.shape) == 1 else neurons
    return over_units("Captum loop", problem, units, in_both(run, problem.front, problem.x, units, problem.shape))


def neurons(front: nn.Module, x: Tensor, units: Tensor, shape: tuple[int, ...]) -> Tensor:
    """[k, pixels]."""
    NeuronGradient = _captum().NeuronGradient

    # Captum asks for a module whose output the units are; a front need not end in one.
    network = nn.Sequential(front, nn.Identity())
    method = NeuronGradient(network, network[1])
    x = x.detach().requires_grad_()
    places = torch.stack(torch.unravel_index(units, shape), 1).tolist()
    return torch.stack([(method.attribute(x, tuple(place)) * x)[0].sum(0).flatten() for place in places]).detach()


def classes(front: nn.Module, x: Tensor, units: Tensor, shape: tuple[int, ...]) -> Tensor:
    """[k, pixels]."""
    method = _captum().InputXGradient(front)
    x = x.detach().requires_grad_()
    return torch.stack([method.attribute(x, target=unit)[0].sum(0).flatten() for unit in units.tolist()]).detach()


def _captum() -> Any:
    try:
        from captum import attr
    except ImportError:
        raise Unavailable("Captum is not installed") from None
    return attr


def captum_batch(network: nn.Module, x: Tensor, targets: Tensor, layout: str) -> Contender:
    """InputXGradient of one class for every input of a batch. x: [B, C, H, W], targets: [B]."""
    run = functools.partial(one_each, *in_format(network, x, layout), targets)
    return Contender(f"Captum, {layout}", "rival", {"": run}, lambda maps: Sample(maps.cpu(), torch.ones(1, 1).bool()))


def one_each(network: nn.Module, x: Tensor, targets: Tensor) -> Tensor:
    """[B, pixels]."""
    x = x.detach().requires_grad_()
    return _captum().InputXGradient(network).attribute(x, target=targets).detach().sum(1).flatten(1)
