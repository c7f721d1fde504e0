"""Small networks for the row engine: drawn at random, and named ones for what must not be left to chance."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.networks.families import randomise


class Residual(nn.Module):
    """relu(body(x) + shortcut(x)); the shortcut is a projection, a strided slice padded with zero channels, or x."""

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1),
        )
        self.project = nn.Conv2d(inputs, outputs, 1, stride) if shortcut == "project" else None
        self.stride, self.extra = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        if self.project is not None:
            short = self.project(x)
        else:
            short = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.extra // 2, -(-self.extra // 2)))
        return torch.relu(self.body(x) + short)


class Branches(nn.Module):
    """Concatenates the outputs of two convolutions, one on the other, and its input."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, width, 1)
        self.expand = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        small = torch.relu(self.squeeze(x))
        return torch.cat([small, torch.relu(self.expand(small)), x], 1)


class Gated(nn.Module):
    """Adds what an activation has already switched off to what it has not, and takes a branch away again."""

    def __init__(self, channels: int, activation: nn.Module) -> None:
        super().__init__()
        self.conv, self.point, self.activation = (
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.Conv2d(channels, channels, 1),
            activation,
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.point(x) + self.activation(self.conv(x)) - 0.5 * self.activation(x)


class Drawn(NamedTuple):
    network: nn.Module
    x: Tensor
    seed: int

    def __repr__(self) -> str:
        return f"seed {self.seed}, input {list(self.x.shape)}:\n{self.network}"


ACTIVATIONS: list[Callable[[], nn.Module]] = [
    nn.ReLU,
    lambda: nn.LeakyReLU(0.1),
    nn.ReLU6,
    lambda: nn.Hardtanh(-0.5, 0.5),
    lambda: nn.PReLU(init=0.3),
]


def _conv(draw: st.DrawFn, channels: int, size: tuple[int, int]) -> nn.Module:
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilation = draw(st.integers(1, 2))
    stride = draw(st.tuples(st.integers(1, 2), st.integers(1, 3)))
    padding = tuple(
        draw(st.integers(max(0, -(-(dilation * (k - 1) + 1 - n) // 2)), max(2, k)))
        for k, n in zip(kernel, size, strict=True)
    )
    groups = draw(st.sampled_from([g for g in (1, 2, channels) if channels % g == 0]))
    outputs = channels if groups == channels and draw(st.booleans()) else groups * draw(st.integers(1, 6 // groups + 1))
    return nn.Conv2d(channels, outputs, kernel, stride, padding, dilation, groups, bias=draw(st.booleans()))


def _transposed(draw: st.DrawFn, channels: int, size: tuple[int, int]) -> nn.Module:
    kernel, stride = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    padding = draw(st.integers(0, kernel - 1)) if min(size) > 1 else 0
    groups = 2 if channels % 2 == 0 and channels > 2 and draw(st.booleans()) else 1
    extra = draw(st.integers(0, stride - 1))
    return nn.ConvTranspose2d(channels, groups * 2, kernel, stride, padding, extra, groups)


def _max_pool(draw: st.DrawFn, channels: int, size: tuple[int, int]) -> nn.Module:
    kernel = draw(st.integers(1, min(3, *size)))
    return nn.MaxPool2d(
        kernel, draw(st.integers(1, 2)), draw(st.integers(0, kernel // 2)), ceil_mode=draw(st.booleans())
    )


def _average_pool(draw: st.DrawFn, channels: int, size: tuple[int, int]) -> nn.Module:
    kernel = draw(st.integers(1, min(3, *size)))
    padding, flags = draw(st.integers(0, kernel // 2)), draw(st.tuples(st.booleans(), st.booleans()))
    return nn.AvgPool2d(kernel, draw(st.integers(1, 3)), padding, flags[0], flags[1], draw(st.sampled_from([None, 3])))


def _adaptive(draw: st.DrawFn, channels: int, size: tuple[int, int]) -> nn.Module:
    side = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    return draw(st.sampled_from([nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d]))(side)


def _residual(draw: st.DrawFn, channels: int, size: tuple[int, int]) -> nn.Module:
    shortcut = draw(st.sampled_from(["project", "pad"]))
    return Residual(channels, channels + draw(st.integers(0, 2)), draw(st.integers(1, 2)), shortcut)


STAGES: list[Callable[[st.DrawFn, int, tuple[int, int]], nn.Module]] = [
    _conv,
    _transposed,
    _max_pool,
    _average_pool,
    _adaptive,
    _residual,
    lambda draw, channels, size: Branches(channels, draw(st.integers(1, 3))),
    lambda draw, channels, size: Gated(channels, draw(st.sampled_from(ACTIVATIONS))()),
    lambda draw, channels, size: nn.BatchNorm2d(channels),
    lambda draw, channels, size: draw(st.sampled_from(ACTIVATIONS))(),
]


@st.composite
def image_networks(draw: st.DrawFn) -> Drawn:
    """A convolution, one to four stages, sometimes a head of linear layers; with a batch of inputs."""
    seed = draw(st.integers(0, 2**20))
    batch, channels = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    shape = (channels, draw(st.integers(1, 18)), draw(st.integers(1, 11)))
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, *shape, generator=random)
    stages: list[nn.Module] = []
    value = x
    for number in range(draw(st.integers(2, 5))):
        make = _conv if number == 0 else draw(st.sampled_from(STAGES))
        stage = make(draw, value.shape[1], (value.shape[2], value.shape[3]))
        with torch.no_grad():
            grown = stage.eval()(value)
        # The oracle's cost is inputs times outputs.
        if grown[0].numel() <= 500:
            stages.append(stage)
            value = grown
    if draw(st.booleans()):
        features = value[0].numel()
        stages += [nn.Flatten(), nn.Linear(features, 5), nn.ReLU(), nn.Linear(5, 3)][: draw(st.sampled_from([2, 4]))]
    return Drawn(randomise(nn.Sequential(*stages), seed).eval(), x, seed)


@st.composite
def vector_networks(draw: st.DrawFn) -> Drawn:
    """Linear layers on vectors, with batch norms and activations between."""
    seed, width = draw(st.integers(0, 2**20)), draw(st.integers(1, 300))
    x = torch.randn(draw(st.integers(1, 2)), width, generator=torch.Generator().manual_seed(seed))
    stages: list[nn.Module] = []
    for _ in range(draw(st.integers(1, 3))):
        out = draw(st.integers(1, 9))
        stages += [nn.Linear(width, out), nn.BatchNorm1d(out), draw(st.sampled_from(ACTIVATIONS))()]
        width = out
    return Drawn(randomise(nn.Sequential(*stages), seed).eval(), x, seed)


class Lambda(nn.Module):
    """A network written as a function of its modules and its input."""

    def __init__(self, function: Callable[[nn.ModuleList, Tensor], Tensor], *modules: nn.Module) -> None:
        super().__init__()
        self.m, self.function = nn.ModuleList(modules), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.m, x)


def _dead() -> nn.Module:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 2, 3), nn.ReLU())
    randomise(network)
    with torch.no_grad():
        network[0].bias.fill_(-100)
    return network


# name -> (network, input shape [C, H, W] or [F])
NAMED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "gate inside a sum": (
        lambda: Lambda(lambda m, x: m[1](x) + F.relu(m[0](x)), nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1)),
        (3, 7, 9),
    ),
    "value and its gate": (
        lambda: Lambda(lambda m, x: (lambda y: y + F.relu(y))(m[0](x)), nn.Conv2d(3, 4, 3, padding=1)),
        (3, 7, 9),
    ),
    "gated difference": (
        lambda: Lambda(lambda m, x: m[1](x) - F.relu6(3 * m[0](x)), nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1)),
        (3, 7, 9),
    ),
    "same branch twice": (
        lambda: Lambda(lambda m, x: m[1](torch.cat([F.relu(m[0](x))] * 2, 1)), nn.Conv2d(3, 2, 3), nn.Conv2d(4, 3, 2)),
        (3, 7, 9),
    ),
    "concatenated pools": (
        lambda: Lambda(
            lambda m, x: m[1](torch.cat([F.max_pool2d(m[0](x), 3, 1, 1), F.max_pool2d(x, 3, 1, 1)], 1)),
            nn.Conv2d(3, 2, 3, padding=1),
            nn.Conv2d(5, 3, 3),
        ),
        (3, 7, 9),
    ),
    "pool of a concatenation in a residual": (
        lambda: Lambda(
            lambda m, x: (lambda y: m[2](y) + y)(F.max_pool2d(torch.cat([F.relu(m[0](x)), m[1](x)], 1), 2)),
            nn.Conv2d(3, 2, 3, padding=1),
            nn.Conv2d(3, 2, 1),
            nn.Conv2d(4, 4, 1),
        ),
        (3, 6, 8),
    ),
    "split, swapped, flipped, rolled": (
        lambda: Lambda(
            lambda m, x: m[1](
                torch.cat([F.relu(m[0](x)).chunk(2, 1)[1], m[0](x).chunk(2, 1)[0]], 1).flip(1).roll(1, 3)
            ),
            nn.Conv2d(3, 4, 3, padding=1),
            nn.Conv2d(4, 2, 3),
        ),
        (3, 6, 5),
    ),
    "axes swapped": (
        lambda: Lambda(
            lambda m, x: m[1](F.relu(m[0](x)).permute(0, 1, 3, 2)), nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 2, (1, 2))
        ),
        (3, 11, 7),
    ),
    "dilated overlapping pool, ceil": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1, 2, ceil_mode=True), nn.Conv2d(4, 3, 2)
        ),
        (3, 11, 10),
    ),
    "mean at the end": (
        lambda: Lambda(lambda m, x: m[1](F.relu(m[0](x)).mean((2, 3))), nn.Conv2d(3, 6, 3, padding=1), nn.Linear(6, 4)),
        (3, 9, 17),
    ),
    "all dead": (_dead, (3, 8, 8)),
    "one position": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1)), (3, 1, 1)),
    "output larger than a tile": (
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 1, 3, stride=3)),
        (1, 19, 35),
    ),
    "upsampled": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, 2, 1),
            nn.ReLU(),
            nn.ConvTranspose2d(4, 2, 3, 2, 1, 1, groups=2),
            nn.ReLU(),
            nn.Conv2d(2, 1, 3),
        ),
        (2, 10, 9),
    ),
    "vector cut short": (
        lambda: Lambda(lambda m, x: m[1](F.relu(m[0](x[:, 3:]))), nn.Linear(6, 5), nn.Linear(5, 2)),
        (9,),
    ),
    "long vector": (lambda: nn.Sequential(nn.Linear(700, 6), nn.ReLU(), nn.Linear(6, 3)), (700,)),
    "vector seen as an image": (
        lambda: Lambda(lambda m, x: m[0](x.view(-1, 1, 4, 5)), nn.Conv2d(1, 3, 3, padding=1)),
        (20,),
    ),
}


def named(name: str, batch: int = 2, seed: int = 0) -> tuple[nn.Module, Tensor]:
    """A named network with random weights, in evaluation mode, and inputs for it."""
    make, shape = NAMED[name]
    network = make()
    if name != "all dead":
        randomise(network, seed)
    return network.eval(), torch.randn(batch, *shape, generator=torch.Generator().manual_seed(seed))
