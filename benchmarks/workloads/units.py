"""All units of one layer."""

from torch import Tensor

import fwdkern
from benchmarks import networks, own, rivals
from benchmarks.units import UnitMaps, choose_sample
from benchmarks.workload import Task

# Of a map's largest entry, for sums of up to a few thousand float32 terms in each of twenty layers.
TOLERANCE = 1e-4


def of_resnet_block() -> Task:
    """ResNet-20, one photograph, the 4096 units of the last residual block, whole maps; only the loops over single
    units run on a part of them."""
    network, x = networks.resnet20(), networks.cifar_photo()
    net = fwdkern.fuse(network, x)
    front = networks.resnet_front(network)
    problem = UnitMaps(front, x, choose_sample(front, x))
    everywhere, chunks = range(problem.pixels), (64, 256)
    few = problem.some_active(32)
    contenders = [
        own.unit_maps(net, problem, "layer3.2"),
        rivals.algorithm1(problem, everywhere),
        rivals.dense_slices(problem, everywhere, chunks),
        rivals.vmap_jvp(problem, everywhere, chunks),
        rivals.vmap_vjp(problem, problem.active, chunks),
        rivals.captum_loop(problem, few),
        rivals.autograd_loop(problem, few),
    ]
    return Task(contenders, problem.references, TOLERANCE, lambda: net.plan(x, "layer3.2").chosen.multiplies)


def of_digits() -> Task:
    """The embedded digit reader, one canvas, all units of its last ReLU, whole maps; rivals on a part."""
    return of_digits_on(networks.digits_canvas(), 256)


def of_digits_on(x: Tensor, part: int) -> Task:
    """The same on any canvas [1, 1, H, W]; rivals do ``part`` slices or units, loops an eighth of that."""
    network = networks.digits()
    net = fwdkern.fuse(network, x)
    front = networks.digits_front(network)
    problem = UnitMaps(front, x, choose_sample(front, x))
    some, few = problem.middle(part), problem.some_active(part // 8)
    contenders = [
        own.unit_maps(net, problem, "relu_4"),
        rivals.algorithm1(problem, problem.middle(part // 8)),
        rivals.dense_slices(problem, some, (32, 128)),
        rivals.vmap_jvp(problem, some, (32, 128)),
        rivals.vmap_vjp(problem, problem.some_active(part), (32, 128)),
        rivals.captum_loop(problem, few),
        rivals.autograd_loop(problem, few),
    ]
    return Task(contenders, problem.references, TOLERANCE, lambda: net.plan(x, "relu_4").chosen.multiplies)


def of_squeezenet_as_windows() -> Task:
    """SqueezeNet 1.1, all 93 312 units of features.5 as windows, streamed; rivals on a part of slices or units."""
    network, x = networks.squeezenet(), networks.imagenet_photos(1)
    net = fwdkern.fuse(network, x)
    front = networks.squeezenet_front(network)
    problem = UnitMaps(front, x, choose_sample(front, x))
    contenders = [
        own.streamed_unit_maps(net, problem, "features.5", "2GiB"),
        rivals.algorithm1(problem, problem.middle(32)),
        rivals.dense_slices(problem, problem.middle(128), (8, 32)),
        rivals.vmap_jvp(problem, problem.middle(64), (8, 32)),
        rivals.vmap_vjp(problem, problem.some_active(64), (8, 32)),
        rivals.captum_loop(problem, problem.some_active(16)),
        rivals.autograd_loop(problem, problem.some_active(32)),
    ]

    def multiplies() -> float:
        return net.plan(x, "features.5", layout="window", memory="1GiB").chosen.multiplies

    return Task(contenders, problem.references, TOLERANCE, multiplies)


def of_squeezenet_at_two_sizes() -> Task:
    """SqueezeNet 1.1, features.5 as windows, at 448² (the photograph resized) and, to compare with, at 224²."""
    network, small = networks.squeezenet(), networks.imagenet_photos(1)
    large = networks.resized(small, 448)
    net = fwdkern.fuse(network, small)
    front = networks.squeezenet_front(network)
    problems = [UnitMaps(front, x, choose_sample(front, x)) for x in (large, small)]
    contenders = [
        own.unit_maps(net, problems[0], "features.5", "window", name="fwdkern, 448²"),
        own.unit_maps(net, problems[1], "features.5", "window", "yardstick", "fwdkern, 224²"),
    ]

    def multiplies() -> float:
        return net.plan(large, "features.5", layout="window").chosen.multiplies

    return Task(contenders, problems[0].references, TOLERANCE, multiplies, problems[1].references)
