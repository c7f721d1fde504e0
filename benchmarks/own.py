"""fwdkern's contenders: its public calls with their defaults, which add bias and check completeness."""

from collections.abc import Iterable

import torch
from torch import Tensor

from benchmarks.units import UnitMaps
from benchmarks.workload import Contender, Sample
from fwdkern import FusedModel
from fwdkern.engine.attribution import Job, Request
from fwdkern.engine.features import parse_features
from fwdkern.engine.options import parse_options
from fwdkern.engine.units import parse_units
from fwdkern.relevance import Relevance


def unit_maps(
    net: FusedModel, problem: UnitMaps, layer: str, layout: str = "dense", role: str = "own", name: str = "fwdkern"
) -> Contender:
    """All units of a layer in one call."""

    def run() -> Relevance:
        return net.attribute_units(problem.x, layer, layout=layout)

    def sample(result: Relevance) -> Sample:
        return sample_rows(result, problem.sample, problem.x)

    return Contender(name, role, {"": run}, sample)


def streamed_unit_maps(net: FusedModel, problem: UnitMaps, layer: str, memory: str) -> Contender:
    """All units of a layer as windows, each part dropped when it has been seen; the sampled maps are kept."""

    def run() -> list[Sample]:
        kept, start = [], 0
        for part in net.iter_units(problem.x, layer, layout="window", memory=memory):
            count = part.scores.shape[1]
            here = problem.sample[(problem.sample >= start) & (problem.sample < start + count)]
            if len(here):
                kept.append((here, sample_rows(part, here - start, problem.x)))
            start += count
        return kept

    def sample(kept: list[tuple[Tensor, Sample]]) -> Sample:
        order = torch.cat([here for here, _ in kept])
        place = (order == problem.sample[:, None]).int().argmax(1)
        maps = torch.cat([part.maps for _, part in kept])[place]
        bias = torch.cat([part.bias for _, part in kept if part.bias is not None])[place]
        return Sample(maps, torch.ones(1, 1, dtype=torch.bool), bias)

    return Contender(f"fwdkern, streamed under {memory}", "own", {"": run}, sample)


def class_maps(net: FusedModel, problem: UnitMaps) -> Contender:
    """All classes in one call."""

    def run() -> Relevance:
        return net.attribute(problem.x, target="all")

    def sample(result: Relevance) -> Sample:
        return sample_rows(result, problem.sample, problem.x)

    return Contender("fwdkern", "own", {"": run}, sample)


def sample_rows(result: Relevance, rows: Tensor, x: Tensor) -> Sample:
    """Some rows of a result for one image x [1, C, H, W], as whole maps R without their bias."""
    height, width = x.shape[2:]
    bias = result.bias[0, rows]
    maps = result.scores[0, rows] - (bias / (height * width))[:, None, None]  # [n, h, w]
    if result.origin is not None:
        whole = x.new_zeros(len(rows), height, width)
        for i, (top, left) in enumerate(result.origin[0, rows].tolist()):
            whole[i, top : top + maps.shape[1], left : left + maps.shape[2]] = maps[i]
        maps = whole
    return Sample(maps.flatten(1), torch.ones(1, 1, dtype=torch.bool), bias)


def concatenated(samples: Iterable[Sample]) -> Sample:
    """Samples that cover all of their maps, one below the other."""
    samples = list(samples)
    biases = [sample.bias for sample in samples if sample.bias is not None]
    maps = torch.cat([sample.maps for sample in samples])
    return Sample(maps, torch.ones(1, 1, dtype=torch.bool), torch.cat(biases) if len(biases) == len(samples) else None)


def multiplies_of_layers(net: FusedModel, x: Tensor, layers: Iterable[str]) -> float:
    """Multiply-adds of one pass to several layers; ``net.plan`` counts single requests only."""
    layers = list(layers)
    tape, network = net._record(x, "ieee", *layers)
    steps = {name: tape.find(name) for name in layers}
    requests = [Request(i, parse_units("all", tape.steps[i].value, name), name) for name, i in steps.items()]
    options = parse_options("uniform", "forward", "window", "auto", "2GiB", False)
    return Job(network, tape, requests, parse_features("pixels", tape.input), options).plan.chosen.multiplies
