"""The same questions on a GPU, at the sizes that it is for: units of the late blocks of large networks, all classes.

The networks are shaped as VGG-16 and ResNet-50 with random weights; biases are set so that about a third of the units
of every ReLU is open, as trained networks have them. Photographs are noise, smoothed. SqueezeNet has its real weights
where shared data is at hand, else it is made likewise. Densities stand in the titles.

Contenders in lower precision than float32 are compared within their own precision: goals name it. What the table of
backends chooses is the contender called fwdkern; beside it stand Triton's and CUDA's kernels alone, in the first
precision only, so that the time suffices.
"""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fwdkern
from benchmarks import networks, rivals
from benchmarks.formats import FORMATS
from benchmarks.kernel_gathered_gemm import CHECKED_SLICES, make_case
from benchmarks.own import sample_rows
from benchmarks.units import UnitMaps, by_autograd, choose_sample
from benchmarks.workload import Contender, Sample, Task, Unavailable
from fwdkern.engine import replay
from fwdkern.ops import gathered_gemm
from fwdkern.ops.backend import GPU_BACKENDS, ON_GPU, Preference, gpu_obstacle
from fwdkern.relevance import Relevance
from tests.networks.squeezenet import squeezenet1_1
from tests.oracle import autograd

OPEN = 0.35
# Of a map's largest entry; operands of 11 and of 8 bits through a dozen layers. The first is the main contender.
TOLERANCE = {"tf32": 5e-2, "ieee": 1e-3, "bf16": 2e-1}
KERNELS = {"triton": "Triton kernels", "cuda": "CUDA kernels"}
_BESIDE_CONVOLUTIONS = ("gate_bits", "gate_maps", "max_pool", "max_unpool", "row_sums")
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


def noise(side: int, batch: int = 1) -> Tensor:
    """[batch, 3, side, side]."""
    whole = torch.randn(batch, 3, side + 8, side + 8, generator=torch.Generator().manual_seed(0))
    return F.avg_pool2d(whole, 9, 1) * 9


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


@torch.no_grad()
def densities(network: nn.Module, x: Tensor) -> str:
    """The share of open units of every ReLU, as a note."""
    shares: list[float] = []
    hooks = [
        module.register_forward_hook(lambda *call: shares.append(float((call[2] > 0).float().mean())))
        for module in network.modules()
        if isinstance(module, nn.ReLU)
    ]
    network(x)
    for hook in hooks:
        hook.remove()
    if not shares:
        return ""
    mean = sum(shares) / len(shares)
    return f"open units of {len(shares)} ReLUs {min(shares):.2f} to {max(shares):.2f}, mean {mean:.2f}"


def units(
    make: Callable[[], nn.Sequential], side: int, part: int, device: str, precisions: tuple[str, ...] = tuple(TOLERANCE)
) -> Task:
    """All units of a network's output, whole maps; rivals on a part of the slices or units."""
    x = noise(side)
    network = with_open_gates(make(), x)
    return _units(network, networks.whole(network), x, None, "dense", part, device, precisions, compiles=False)


def resnet20(device: str, precisions: tuple[str, ...] = tuple(TOLERANCE)) -> Task:
    """ResNet-20, one CIFAR photograph, the 4096 units of the last residual block; rivals compiled too."""
    network = networks.resnet20()
    front, x = networks.resnet_front(network), networks.cifar_photo()
    return _units(network, front, x, "layer3.2", "dense", 1024, device, precisions, compiles=True)


def squeezenet_windows(device: str, precisions: tuple[str, ...] = tuple(TOLERANCE)) -> Task:
    """SqueezeNet 1.1, all 93 312 units of features.5 as windows, streamed."""
    network, x, _ = squeezenet(1)
    front = networks.squeezenet_front(network)
    return _units(network, front, x, "features.5", "window", 256, device, precisions, compiles=False)


def _units(
    network: nn.Module,
    front: nn.Module,
    x: Tensor,
    block: str | None,
    layout: str,
    part: int,
    device: str,
    precisions: tuple[str, ...],
    compiles: bool,
) -> Task:
    """All units of what ``front`` returns, which is the network's layer ``block``, or its output."""
    note = densities(front, x)
    network, front, x = network.to(device), front.to(device), x.to(device)
    problem = UnitMaps(front, x, choose_sample(front, x))
    net = fwdkern.fuse(network, x)
    layer = net.layers[-1].name if block is None else block
    contenders = [
        _own(precision, functools.partial(_stream, net, problem, layer, layout, precision, "auto"))
        for precision in precisions
    ]
    contenders += _by_kernels(precisions[0], functools.partial(_stream, net, problem, layer, layout, precisions[0]), x)
    part = min(part, problem.pixels)
    some, half = problem.middle(part), (part // 2, part)
    contenders += rivals.dense_slices_on_gpu(problem, some, half, torch.float32, "tf32")
    contenders += rivals.dense_slices_on_gpu(problem, some, half, torch.bfloat16, "bf16", compiles)
    few, units, chunks = problem.middle(part // 4), problem.some_active(part // 4), (part // 8, part // 4)
    contenders += [rivals.vmap_jvp(problem, few, chunks), rivals.vmap_vjp(problem, units, chunks)]
    if compiles:
        contenders += [rivals.compiled_jvp(problem, few, len(few)), rivals.compiled_vjp(problem, units, len(units))]

    def multiplies() -> float:
        return net.plan(x, layer, layout=layout, memory="8GiB").chosen.multiplies

    tolerance = max(TOLERANCE[precision] for precision in precisions)
    return Task(contenders, problem.references, tolerance, multiplies, device=device, notes=(note,))


def squeezenet(batch: int) -> tuple[nn.Module, Tensor, str]:
    """SqueezeNet 1.1 and photographs [batch, 3, 224, 224]; where they are absent, random ones. And which it is."""
    try:
        return networks.squeezenet(), networks.imagenet_photos(batch), "real weights"
    except networks.Absent:
        x = noise(224, batch)
        return with_open_gates(squeezenet1_1(), x[:1]), x, "random weights"


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
    maps = case.rows.numel() + case.out.numel()
    # Maps in and out, weights, and 12 bytes a term, written once and read once.
    moved = 4 * (maps + case.weight.numel()) + 24 * case.terms()
    multiplies = case.useful_flops() / 2
    return Task(contenders, lambda: [rows(exact)], 1e-2, lambda: multiplies, device=device, bytes=moved)


def _moved(value: Any, device: str) -> Any:
    return tuple(part.to(device) for part in value) if isinstance(value, tuple) else value.to(device)


def classes(device: str) -> Task:
    """SqueezeNet 1.1, one photograph, all 1000 class maps."""
    network, x, weights = squeezenet(1)
    note = densities(network, x)
    network, x = network.to(device), x.to(device)
    front = networks.whole(network)
    problem = UnitMaps(front, x, choose_sample(front, x))
    net = fwdkern.fuse(network, x)

    def run(precision: str, backend: str = "auto") -> list[Sample]:
        result = net.attribute(x, "all", precision=precision, backend=backend)
        return [sample_rows(result, problem.sample.to(x.device), x)]

    contenders = [_own(precision, functools.partial(run, precision)) for precision in ("tf32", "ieee")]
    contenders += _by_kernels("tf32", functools.partial(run, "tf32"), x)
    some = problem.some_active(256)
    contenders += [
        rivals.dense_transposes(net, problem, some),
        rivals.vmap_vjp(problem, some, (64, 256)),
        rivals.compiled_vjp(problem, some, len(some)),
    ]

    def multiplies() -> float:
        return net.plan(x, target="all").chosen.multiplies

    return Task(contenders, problem.references, TOLERANCE["tf32"], multiplies, device=device, notes=(weights, note))


def one_each(device: str, batch: int) -> Task:
    """SqueezeNet 1.1, the top class of each photograph (told to everyone), forward pass included."""
    network, x, weights = squeezenet(batch)
    note = densities(network, x[:1])
    network, x = network.to(device), x.to(device)
    net, front = fwdkern.fuse(network, x), networks.whole(network)
    with torch.no_grad():
        targets = front(x).argmax(1)
    positions = x.shape[2] * x.shape[3]

    def references() -> list[Sample]:
        return by_autograd(front, x, lambda network, x: autograd(network, x, targets[:, None]))

    def sample(result: Relevance) -> Sample:
        bias = result.bias[:, 0].cpu()
        return Sample(result.scores[:, 0].flatten(1).cpu() - (bias / positions)[:, None], _EVERYTHING, bias)

    def contender(name: str, role: Literal["own", "yardstick"], explain: Callable[[Tensor], Relevance]) -> Contender:
        images = {label: x.clone(memory_format=layout) for label, layout in FORMATS.items()}
        return Contender(
            name, role, {label: functools.partial(explain, each) for label, each in images.items()}, sample
        )

    def own(precision: str, role: Literal["own", "yardstick"] = "own", name: str = "") -> Contender:
        made = contender(
            name or f"fwdkern, {precision}", role, lambda images: net.attribute(images, targets, precision=precision)
        )
        for run in made.variants.values():
            run()  # the second call records, later ones replay
        return made

    def without_graph() -> Contender:
        contender = own("tf32", "yardstick", "fwdkern, tf32, without CUDA graph")

        def launched(run: Callable[[], Relevance]) -> Relevance:
            with mock.patch.object(replay, "_on_gpu", lambda x: False):
                return run()

        variants = {label: functools.partial(launched, run) for label, run in contender.variants.items()}
        return replace(contender, variants=variants)

    def with_kernels() -> Contender:
        """Gates, pools and sums, what there is beside convolutions, by kernels instead of torch's operators."""
        alone = fwdkern.fuse(network, x)  # what is recorded stays with its network
        table = {op: (Preference("cuda", "to compare with torch's operators"),) for op in _BESIDE_CONVOLUTIONS}

        def explain(images: Tensor) -> Relevance:
            _require("cuda", "gate_maps", x)
            with mock.patch.dict(ON_GPU, table):
                return alone.attribute(images, targets, precision="tf32")

        return contender(f"{KERNELS['cuda']} beside convolutions, tf32", "own", explain)

    contenders = [own("tf32"), own("ieee"), without_graph(), with_kernels()]
    for layout in FORMATS:
        contenders += [
            rivals.captum_batch(front, x, targets, layout),
            rivals.autograd_batch(front, x, targets, layout),
        ]

    def multiplies() -> float:
        return net.plan(x, target=targets).chosen.multiplies

    return Task(contenders, references, TOLERANCE["tf32"], multiplies, device=device, notes=(weights, note))


def _by_kernels(precision: str, run: Callable[[str], list[Sample]], x: Tensor) -> list[Contender]:
    """The same by each backend's kernels alone, from what runs a backend."""

    def alone(backend: str) -> list[Sample]:
        _require(backend, "gathered_gemm", x)
        return run(backend)

    return [
        _own(precision, functools.partial(alone, backend), f"{KERNELS[backend]}, {precision}")
        for backend in GPU_BACKENDS
    ]


def _require(backend: str, op: str, x: Tensor) -> None:
    obstacle = gpu_obstacle(backend, op, x.device, torch.float32)
    if obstacle:
        raise Unavailable(obstacle)


def _own(precision: str, run: Callable[[], list[Sample]], name: str = "") -> Contender:
    def joined(parts: list[Sample]) -> Sample:
        bias = [part.bias for part in parts if part.bias is not None]
        maps = torch.cat([part.maps for part in parts]).cpu()
        return Sample(maps, _EVERYTHING, torch.cat(bias).cpu())

    return Contender(name or f"fwdkern, {precision}", "own", {"": run}, joined)


def _stream(
    net: fwdkern.FusedModel, problem: UnitMaps, layer: str, layout: str, precision: str, backend: str
) -> list[Sample]:
    """All units in parts that are dropped when they have been seen; the sampled maps are kept, in their order."""
    kept: list[tuple[int, Sample]] = []
    start = 0
    request: dict[str, Any] = {"layout": layout, "memory": "16GiB", "precision": precision, "backend": backend}
    for part in net.iter_units(problem.x, layer, **request):
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
