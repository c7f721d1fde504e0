"""Plain autograd: input times gradient."""

import functools

import torch
from torch import Tensor, nn

from benchmarks.formats import in_both, in_format
from benchmarks.rivals.parts import over_units
from benchmarks.units import UnitMaps
from benchmarks.workload import Contender, Sample


def autograd_loop(problem: UnitMaps, units: Tensor) -> Contender:
    """One forward pass, then one backward pass a unit."""
    return over_units("autograd loop", problem, units, in_both(loop, problem.front, problem.x, units))


def loop(front: nn.Module, x: Tensor, units: Tensor) -> Tensor:
    """[k, pixels]."""
    leaf = x.detach().requires_grad_()
    out = front(leaf).flatten()
    maps = []
    for unit in units.tolist():
        (gradient,) = torch.autograd.grad(out[unit], leaf, retain_graph=True)
        maps.append((gradient * x)[0].sum(0).flatten())
    return torch.stack(maps)


def autograd_batch(network: nn.Module, x: Tensor, targets: Tensor, layout: str) -> Contender:
    """One backward pass for one class of every input of a batch. x: [B, C, H, W], targets: [B]."""
    run = functools.partial(one_each, *in_format(network, x, layout), targets)
    return Contender(
        f"autograd, {layout}", "rival", {"": run}, lambda maps: Sample(maps.cpu(), torch.ones(1, 1).bool())
    )


def one_each(network: nn.Module, x: Tensor, targets: Tensor) -> Tensor:
    """[B, pixels]."""
    leaf = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(network(leaf).gather(1, targets[:, None]).sum(), leaf)
    return (gradient * x).sum(1).flatten(1)
