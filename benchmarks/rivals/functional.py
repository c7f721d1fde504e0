"""torch.func: forward derivatives of pixels, backward derivatives of units, many at once under vmap."""

import functools
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.func import jvp, vjp, vmap

from benchmarks.rivals.dense import seeds
from benchmarks.rivals.faster import compiled
from benchmarks.rivals.parts import over_slices, over_units
from benchmarks.units import UnitMaps
from benchmarks.workload import Contender


def vmap_jvp(problem: UnitMaps, pixels: range, chunks: Iterable[int]) -> Contender:
    """One forward derivative a pixel; best of the chunks."""
    variants = {
        f"{chunk} a chunk": functools.partial(jvp_slices, problem.front, problem.x, pixels, chunk) for chunk in chunks
    }
    return over_slices("vmap(jvp)", problem, pixels, variants)


def vmap_vjp(problem: UnitMaps, units: Tensor, chunks: Iterable[int]) -> Contender:
    """One backward derivative an active unit; best of the chunks."""
    variants = {
        f"{chunk} a chunk": functools.partial(vjp_units, problem.front, problem.x, units, chunk) for chunk in chunks
    }
    return over_units("vmap(vjp)", problem, units, variants)


def compiled_jvp(problem: UnitMaps, pixels: range, chunk: int) -> Contender:
    """The same through torch.compile."""
    push = compiled(vmap(lambda tangent: jvp(problem.front, (problem.x,), (tangent,))[1]))

    @torch.no_grad()
    def run() -> Tensor:
        return torch.cat([push(part[:, None]).flatten(1) for part in seeds(problem.x, pixels, chunk)])

    return over_slices("vmap(jvp), compiled", problem, pixels, {f"{chunk} a chunk": run})


def compiled_vjp(problem: UnitMaps, units: Tensor, chunk: int) -> Contender:
    """The same through torch.compile, the forward pass within."""
    front, x = problem.front, problem.x

    def gradients(rows: Tensor) -> Tensor:  # [chunk, 1, *shape] to [chunk, 1, C, H, W]
        (pulled,) = vmap(vjp(front, x)[1])(rows)
        return pulled

    pull = compiled(gradients)

    @torch.no_grad()
    def run() -> Tensor:
        parts = []
        for some in units.split(chunk):
            seed = x.new_zeros(len(some), torch.Size(problem.shape).numel())
            seed[torch.arange(len(some)), some] = 1
            parts.append((pull(seed.view(-1, 1, *problem.shape))[:, 0] * x).sum(1).flatten(1))
        return torch.cat(parts)

    return over_units("vmap(vjp), compiled", problem, units, {f"{chunk} a chunk": run})


@torch.no_grad()
def jvp_slices(front: nn.Module, x: Tensor, pixels: range, chunk: int) -> Tensor:
    """[slices, units]."""
    push = vmap(lambda tangent: jvp(front, (x,), (tangent,))[1])
    return torch.cat([push(part[:, None]).flatten(1) for part in seeds(x, pixels, chunk)])


@torch.no_grad()
def vjp_units(front: nn.Module, x: Tensor, units: Tensor, chunk: int) -> Tensor:
    """[k, pixels]."""
    out, pull = vjp(front, x)
    parts = []
    for some in units.split(chunk):
        seed = x.new_zeros(len(some), out.numel())
        seed[torch.arange(len(some)), some] = 1
        (gradients,) = vmap(pull)(seed.view(-1, *out.shape))  # [chunk, 1, C, H, W]
        parts.append((gradients[:, 0] * x).sum(1).flatten(1))
    return torch.cat(parts)
