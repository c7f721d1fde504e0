"""Maps of classes."""

import functools

import torch
from torch import Tensor, nn

import fwdkern
from benchmarks import networks, own, rivals
from benchmarks.formats import FORMATS
from benchmarks.units import UnitMaps, by_autograd, choose_sample
from benchmarks.workload import Contender, Sample, Task
from benchmarks.workloads.units import TOLERANCE
from fwdkern.relevance import Relevance
from tests.oracle import autograd


def all_of_squeezenet() -> Task:
    """SqueezeNet 1.1, one photograph, all 1000 classes, whole maps; rivals on a part of the classes."""
    network, x = networks.squeezenet(), networks.imagenet_photos(1)
    front = networks.whole(network)
    problem = UnitMaps(front, x, choose_sample(front, x))
    net = fwdkern.fuse(network, x)
    contenders = [
        own.class_maps(net, problem),
        rivals.dense_transposes(net, problem, problem.some_active(128)),
        rivals.vmap_vjp(problem, problem.some_active(128), (16, 64)),
        rivals.captum_loop(problem, problem.some_active(32)),
        rivals.autograd_loop(problem, problem.some_active(32)),
    ]
    return Task(contenders, problem.references, TOLERANCE, lambda: net.plan(x, target="all").chosen.multiplies)


def all_of_digits() -> Task:
    """The embedded digit reader, one canvas, all 10 classes."""
    network, x = networks.digits(), networks.digits_canvas()
    front = networks.whole(network)
    problem = UnitMaps(front, x, choose_sample(front, x, 4))
    net = fwdkern.fuse(network, x)
    contenders = [
        own.class_maps(net, problem),
        rivals.vmap_vjp(problem, problem.active, (10,)),
        rivals.captum_loop(problem, problem.active),
        rivals.autograd_loop(problem, problem.active),
    ]
    return Task(contenders, problem.references, TOLERANCE, lambda: net.plan(x, target="all").chosen.multiplies)


def one_each_of_squeezenet() -> Task:
    """SqueezeNet 1.1, 8 photographs, the top class of each (told to everyone), forward pass included."""
    return one_each(networks.squeezenet(), networks.imagenet_photos(8))


def one_each(network: nn.Module, x: Tensor) -> Task:
    """One class map for every input. x: [B, C, H, W]."""
    net = fwdkern.fuse(network, x)
    front = networks.whole(network)
    with torch.no_grad():
        targets = network(x).argmax(1)

    def references() -> list[Sample]:
        return by_autograd(front, x, lambda network, x: autograd(network, x, targets[:, None]))

    everything = torch.ones(1, 1, dtype=torch.bool)
    positions = x.shape[2] * x.shape[3]

    def sample(result: Relevance) -> Sample:
        bias = result.bias[:, 0]
        return Sample(result.scores[:, 0].flatten(1) - (bias / positions)[:, None], everything, bias)

    # In either memory format, like its rivals: the fused network follows the format of its input.
    runs = {
        name: functools.partial(net.attribute, x.clone(memory_format=layout), targets)
        for name, layout in FORMATS.items()
    }
    contenders = [Contender("fwdkern", "own", runs, sample)]
    for layout in FORMATS:
        contenders += [
            rivals.captum_batch(front, x, targets, layout),
            rivals.autograd_batch(front, x, targets, layout),
        ]
    return Task(contenders, references, TOLERANCE, lambda: net.plan(x, target=targets).chosen.multiplies)
