"""Small networks for the row engine, drawn at random."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.engine.rows.networks import Branches, Gated, Residual
from tests.networks.families import randomise


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
    groups = 2 if channels % 2 == 0 and channels > 2 and draw(st.booleans()) else 1
    extra = draw(st.integers(0, stride - 1))
    unpadded = (min(size) - 1) * stride + kernel + extra
    padding = draw(st.integers(0, min(kernel - 1, (unpadded - 1) // 2)))
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
