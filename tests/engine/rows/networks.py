"""Small networks for the row engine: named ones for what must not be left to chance."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
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


# name -> (network, input shape [C, H, W], [C, L] or [F])
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
    "upsampled channel by channel": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, 2, 1), nn.ReLU(), nn.ConvTranspose2d(4, 4, 3, 2, 1, 1, groups=4), nn.ReLU()
        ),
        (2, 10, 9),
    ),
    "shuffled": (
        lambda: Lambda(
            lambda m, x: m[1](F.relu(m[0](x)).unflatten(1, (2, 3)).transpose(1, 2).flatten(1, 2)),
            nn.Conv2d(3, 6, 3, padding=1),
            nn.Conv2d(6, 4, 2, groups=2),
        ),
        (3, 9, 10),
    ),
    "excited": (
        lambda: Lambda(
            lambda m, x: m[2]((lambda y: y * m[1](y.mean((2, 3), keepdim=True)).sigmoid())(F.relu(m[0](x)))),
            nn.Conv2d(3, 4, 3, padding=1),
            nn.Conv2d(4, 4, 1),
            nn.Conv2d(4, 3, 2),
        ),
        (3, 9, 10),
    ),
    "product": (
        lambda: Lambda(
            lambda m, x: m[2](F.relu(m[0](x)) * F.relu6(m[1](x))),
            nn.Conv2d(3, 4, 3, padding=1),
            nn.Conv2d(3, 4, 1),
            nn.Conv2d(4, 3, 2),
        ),
        (3, 9, 10),
    ),
    "lines": (
        lambda: nn.Sequential(
            nn.Conv1d(2, 6, 5, stride=2, padding=2, dilation=2),
            nn.ReLU(),
            nn.MaxPool1d(3, 2, 1),
            nn.Conv1d(6, 6, 3, padding=1, groups=2),
            nn.ReLU(),
            nn.AvgPool1d(2, ceil_mode=True),
            nn.ConvTranspose1d(6, 4, 3, stride=2, groups=2),
            nn.ReLU(),
            nn.AdaptiveAvgPool1d(3),
        ),
        (2, 150),
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
