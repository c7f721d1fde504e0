"""All units of all activations in one pass."""

import functools

import torch
from torch import Tensor, nn

import fwdkern
from benchmarks import networks, own
from benchmarks.formats import FORMATS
from benchmarks.rivals import dense
from benchmarks.units import UnitMaps, by_autograd, choose_sample
from benchmarks.workload import Contender, Sample, Task
from benchmarks.workloads.units import TOLERANCE
from fwdkern.relevance import Relevance
from tests.oracle import autograd

_CHECKED = ("layer1.1", "layer2.1", "layer3.2")
_SAMPLED = 4


def of_resnet() -> Task:
    """ResNet-20, one photograph, the 188 416 units of its 19 ReLUs; the last block alone to compare with."""
    network, x = networks.resnet20(), networks.cifar_photo()
    net = fwdkern.fuse(network, x)
    layers = [layer.name for layer in net.layers if layer.operator == "relu"]
    front = networks.resnet_front(network)
    last = UnitMaps(front, x, choose_sample(front, x))
    units = {name: _some_units(network, name, x) for name in _CHECKED}
    contenders = [
        _own(net, x, layers, units, "window"),
        _own(net, x, layers, units, "dense"),
        own.unit_maps(net, last, "layer3.2", "dense", "yardstick", "fwdkern, layer3.2 alone"),
        _dense(front, x, {net.layer(name).name: flat for name, flat in units.items()}, layers),
    ]

    def references() -> list[Sample]:
        each = [
            by_autograd(networks.whole(network), x, functools.partial(autograd, targets=flat[None], layer=name))
            for name, flat in units.items()
        ]
        return [own.concatenated(samples) for samples in zip(*each, strict=True)]

    def multiplies() -> float:
        return own.multiplies_of_layers(net, x, layers)

    return Task(contenders, references, TOLERANCE, multiplies, last.references)


def _own(net: fwdkern.FusedModel, x: Tensor, layers: list[str], units: dict[str, Tensor], layout: str) -> Contender:
    def run() -> dict[str, Relevance]:
        return net.attribute_layers(x, layers, layout=layout)

    def sample(results: dict[str, Relevance]) -> Sample:
        return own.concatenated(own.sample_rows(results[net.layer(name).name], flat, x) for name, flat in units.items())

    return Contender(f"fwdkern, {layout}", "own", {"": run}, sample)


def _dense(front: nn.Module, x: Tensor, units: dict[str, Tensor], layers: list[str]) -> Contender:
    def sample(results: list[Tensor]) -> Sample:
        picked = [results[layers.index(name)][:, flat].T for name, flat in units.items()]
        return Sample(torch.cat(picked), torch.ones(1, 1, dtype=torch.bool))

    variants = {
        f"{name}, 64 a chunk": functools.partial(dense.run_all_layers, front, x, 64, layout)
        for name, layout in FORMATS.items()
    }
    return Contender("dense batched slices", "rival", variants, sample)


def _some_units(network: nn.Module, block: str, x: Tensor) -> Tensor:
    """Flat numbers of units of a block, [n]."""
    kept: list[Tensor] = []
    hook = network.get_submodule(block).register_forward_hook(lambda *call: kept.append(call[2]))
    with torch.no_grad():
        network(x)
    hook.remove()
    active = kept[0][0].flatten().nonzero()[:, 0]
    return active[torch.randperm(len(active), generator=torch.Generator().manual_seed(0))[:_SAMPLED]]
