"""The same questions on a GPU, at the sizes that it is for: units of the late blocks of large networks, all classes.

The networks are shaped as VGG-16 and ResNet-50 with random weights; biases are set so that about a third of the units
of every ReLU is open, as trained networks have them. Photographs are noise, smoothed.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fwdkern
from benchmarks import networks, rivals
from benchmarks.kernel_gathered_gemm import CHECKED_SLICES, make_case
from benchmarks.own import sample_rows
from benchmarks.units import UnitMaps, choose_sample
from benchmarks.workload import Contender, Sample, Task
from fwdkern.ops import gathered_gemm
from fwdkern.relevance import Relevance

OPEN = 0.35
# Of a map's largest entry; operands of 11 and of 8 bits through a dozen layers.
TOLERANCE = {"ieee": 1e-3, "tf32": 5e-2, "bf16": 2e-1}
_EVERYTHING = torch.ones(1, 1, dtype=torch.bool)
_VGG = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512)


def vgg_block4() -> nn.Sequential:
    """VGG-16 up to the ReLUs of its fourth block. [B, 3, 224, 224] -> [B, 512, 28, 28]."""
    layers: list[nn.Module] = []
    channels = 3
    for size in _VGG:
        if isinstance(size, str):
            layers.append(nn.MaxPool2d(2))
            continue
        layers += [nn.Conv2d(channels, size, 3, padding=1), nn.ReLU()]
        channels = size
    return nn.Sequential(*layers)


class Bottleneck(nn.Module):
    """Three convolutions beside a skip connection; batch norms are folded already."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.relu1 = nn.Conv2d(inputs, width, 1), nn.ReLU()
        self.conv2, self.relu2 = nn.Conv2d(width, width, 3, stride, 1), nn.ReLU()
        self.conv3, self.relu3 = nn.Conv2d(width, 4 * width, 1), nn.ReLU()
        self.skip = nn.Identity() if inputs == 4 * width else nn.Conv2d(inputs, 4 * width, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv3(self.relu2(self.conv2(self.relu1(self.conv1(x)))))
        return self.relu3(out + self.skip(x))


def resnet50_layer3() -> nn.Sequential:
    """ResNet-50 up to its third stage. [B, 3, 224, 224] -> [B, 1024, 14, 14]."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for width, blocks, first_stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2)):
        for block in range(blocks):
            layers.append(Bottleneck(inputs, width, first_stride if block == 0 else 1))
            inputs = 4 * width
    return nn.Sequential(*layers)


def noise(side: int) -> Tensor:
    """[1, 3, side, side]."""
    return F.avg_pool2d(torch.randn(1, 3, side + 8, side + 8, generator=torch.Generator().manual_seed(0)), 9, 1) * 9


@torch.no_grad()
def with_open_gates(network: nn.Module, x: Tensor, share: float = OPEN) -> nn.Module:
    """Set weights to keep the scale and biases so that ``share`` of every convolution's outputs is positive."""
    random = torch.Generator().manual_seed(0)

    def adjust(conv: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor:
        assert isinstance(conv, nn.Conv2d) and conv.bias is not None
        cut = out.transpose(0, 1).flatten(1).quantile(1 - share, 1)  # [C]
        conv.bias -= cut
        return out - cut[:, None, None]

    handles = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, generator=random)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
            handles.append(module.register_forward_hook(adjust))
    network(x)
    for handle in handles:
        handle.remove()
    return network.eval()


def units(
    make: Callable[[], nn.Sequential], side: int, part: int, device: str, precisions: tuple[str, ...] = tuple(TOLERANCE)
) -> Task:
    """All units of a network's output, whole maps; rivals on a part of the slices or units."""
    x = noise(side)
    network = with_open_gates(make(), x).to(device)
    x = x.to(device)
    problem = UnitMaps(networks.whole(network), x, choose_sample(network, x.clone()).cpu())
    net = fwdkern.fuse(network, x)
    layer = net.layers[-1].name
    contenders = [
        _own(precision, functools.partial(_stream, net, problem, layer, precision)) for precision in precisions
    ]
    some = problem.middle(part)
    contenders += [
        rivals.dense_slices(problem, some, (part // 2, part)),
        rivals.vmap_jvp(problem, problem.middle(part // 4), (part // 8, part // 4)),
        rivals.vmap_vjp(problem, problem.some_active(part // 4), (part // 8, part // 4)),
    ]
    multiplies = functools.partial(_multiplies, net, x, layer)
    return Task(contenders, problem.references, TOLERANCE[precisions[-1]], multiplies, device=device)


def kernel(channels: int, side: int, slices: int, density: float, device: str) -> Task:
    """A 3×3 layer whose inputs and outputs are active at random, in tf32; the ceiling is torch.mm's rate in tf32."""
    case = make_case(channels, side, slices, density, torch.Generator().manual_seed(0))
    there = {name: _moved(value, device) for name, value in vars(case).items()}
    gate = case.out_gate.T

    def own() -> Tensor:
        lists = (there["rows"], there["in_rows"], there["out_rows"], there["taps"], there["weight"])
        return gathered_gemm(*lists, out=there["out"], precision="tf32")

    def dense() -> Tensor:
        return F.conv2d(there["maps"], there["kernel"], padding=1)  # [slices, C, H, W]

    def rows(maps: Tensor) -> Sample:
        return Sample(maps[:CHECKED_SLICES].flatten(2).permute(0, 2, 1).cpu()[:, gate], _EVERYTHING)

    contenders = [
        Contender(
            "gathered_gemm, tf32", "own", {"": own}, lambda out: Sample(out[:, :CHECKED_SLICES].T.cpu(), _EVERYTHING)
        ),
        Contender("dense convolution, channels last, tf32", "rival", {"": dense}, rows),
    ]
    exact = F.conv2d(case.maps[:CHECKED_SLICES].double(), case.kernel.double(), padding=1)
    return Task(contenders, lambda: [rows(exact)], 1e-2, lambda: case.useful_flops() / 2, device=device)


def _moved(value: Any, device: str) -> Any:
    return tuple(part.to(device) for part in value) if isinstance(value, tuple) else value.to(device)


def classes(device: str) -> Task:
    """SqueezeNet 1.1, one photograph, all 1000 class maps."""
    network, x = networks.squeezenet().to(device), networks.imagenet_photos(1).to(device)
    front = networks.whole(network)
    problem = UnitMaps(front, x, choose_sample(front, x).cpu())
    net = fwdkern.fuse(network, x)

    def run(precision: str) -> list[Sample]:
        return [sample_rows(net.attribute(x, "all", precision=precision), problem.sample.to(x.device), x)]

    contenders = [_own(precision, functools.partial(run, precision)) for precision in ("ieee", "tf32")]
    contenders += [
        rivals.dense_transposes(net, problem, problem.some_active(256)),
        rivals.vmap_vjp(problem, problem.some_active(256), (64, 256)),
    ]
    return Task(
        contenders,
        problem.references,
        TOLERANCE["tf32"],
        lambda: net.plan(x, target="all").chosen.multiplies,
        device=device,
    )


def _own(precision: str, run: Callable[[], list[Sample]]) -> Contender:
    def joined(parts: list[Sample]) -> Sample:
        bias = [part.bias for part in parts if part.bias is not None]
        maps = torch.cat([part.maps for part in parts]).cpu()
        return Sample(maps, _EVERYTHING, torch.cat(bias).cpu())

    return Contender(f"fwdkern, {precision}", "own", {"": run}, joined)


def _stream(net: fwdkern.FusedModel, problem: UnitMaps, layer: str, precision: str) -> list[Sample]:
    """All units in parts that are dropped when they have been seen; the sampled maps are kept, in their order."""
    kept: list[tuple[int, Sample]] = []
    start = 0
    for part in net.iter_units(problem.x, layer, memory="16GiB", precision=precision):
        kept += _seen(part, start, problem)
        start += part.scores.shape[1]
    return [sample for _, sample in sorted(kept, key=lambda pair: pair[0])]


def _seen(part: Relevance, start: int, problem: UnitMaps) -> list[tuple[int, Sample]]:
    count = part.scores.shape[1]
    found = []
    for place, unit in enumerate(problem.sample.tolist()):
        if start <= unit < start + count:
            row = torch.tensor([unit - start], device=part.scores.device)
            found.append((place, sample_rows(part, row, problem.x)))
    return found


def _multiplies(net: fwdkern.FusedModel, x: Tensor, layer: str) -> float:
    return net.plan(x, layer, memory="8GiB").chosen.multiplies
