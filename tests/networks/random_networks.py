"""Random small networks of every piecewise linear operator: chains, residuals, concatenations, in-place operators."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

MOST = 160  # elements of an intermediate value, per example


class Step(NamedTuple):
    """One operator: which earlier values it reads (0 is the input), and the function."""

    sources: tuple[int, ...]
    function: Callable[..., Tensor]


class Program(nn.Module):
    """Runs steps in order; the last one's value is the output."""

    def __init__(self) -> None:
        super().__init__()
        self.modules_used = nn.ModuleList()
        self.steps: list[Step] = []
        self.description: list[str] = []

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for step in self.steps:
            values.append(step.function(*(values[i] for i in step.sources)))
        return values[-1]

    def extra_repr(self) -> str:
        return "\n".join(f"{i}: {text}" for i, text in enumerate(self.description, 1))


class Builder:
    """Draws steps one by one, keeping the shapes of all values [C, H, W]."""

    def __init__(self, draw: st.DrawFn, shape: tuple[int, ...], exact: bool) -> None:
        self.draw, self.exact = draw, exact
        self.program = Program()
        self.values = [torch.zeros(2, *shape, dtype=torch.float64)]
        self.random = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))

    @property
    def shape(self) -> torch.Size:
        return self.values[-1].shape[1:]

    def integer(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def flag(self) -> bool:
        return self.draw(st.booleans())

    def choose(self, *options: object) -> object:
        return self.draw(st.sampled_from(options))

    def add(self, function: Callable[..., Tensor], text: str, *others: int) -> bool:
        """Append a step unless its value would be empty or too large."""
        sources = (len(self.values) - 1, *others)
        try:
            value = function(*(self.values[i].clone() for i in sources))
        except (RuntimeError, ValueError):
            return False  # the shape does not suit the operator
        if not 0 < value[0].numel() <= MOST:
            return False
        # A dilated window can miss the image: torch's max pool then writes beyond its gradient on the way back.
        if not value.isfinite().all():
            return False
        self.program.steps.append(Step(sources, function))
        if not self._differentiable():
            self.program.steps.pop()
            return False
        self.values.append(value.detach())
        self.program.description.append(f"{text} of {sources}, {list(value.shape[1:])}")
        return True

    def module(self, module: nn.Module) -> bool:
        self._randomise(module)
        if not self.add(module, str(module)):
            return False
        self.program.modules_used.append(module)
        return True

    def _differentiable(self) -> bool:
        """Autograd refuses some operators in place: where the one before keeps its output for the way back."""
        x = self.values[0].clone().requires_grad_()
        try:
            torch.autograd.grad(self.program(x.clone()).sum(), x, allow_unused=True)
        except RuntimeError:
            return False
        return True

    def _numbers(self, like: Tensor, low: float = -1.0, high: float = 1.0) -> Tensor:
        numbers = torch.rand(like.shape, generator=self.random, dtype=torch.float64) * (high - low) + low
        # Multiples of a half: every sum is exact, so that windows hold ties and values lie on kinks.
        return (numbers * 2).round() / 2 if self.exact else numbers

    def _randomise(self, module: nn.Module) -> None:
        module.double().eval()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.copy_(self._numbers(parameter))
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.copy_(self._numbers(module.running_mean))
                variance = torch.rand(module.running_var.shape, generator=self.random, dtype=torch.float64) + 0.5
                module.running_var.copy_(variance.round() * 4 if self.exact else variance)
                module.eps = 0.0 if self.exact else 1e-3
            if isinstance(module, nn.PReLU):
                module.weight.copy_(module.weight.abs() / 2)


def convolution(b: Builder) -> bool:
    channels = b.shape[0]
    groups = b.choose(*[g for g in (1, 2, 3, channels) if channels % g == 0])
    outputs, kernel = groups * b.integer(1, 2), (b.integer(1, 3), b.integer(1, 3))
    mode = b.choose("zeros", "zeros", "reflect", "replicate", "circular")
    padding = "same" if b.integer(0, 9) == 0 else (b.integer(0, 1), b.integer(0, 1))
    stride = 1 if padding == "same" else (b.integer(1, 2), b.integer(1, 2))
    geometry = {"padding": padding, "dilation": b.integer(1, 2), "groups": groups, "padding_mode": mode}
    return b.module(nn.Conv2d(channels, outputs, kernel, stride, bias=b.flag(), **geometry))


def transposed(b: Builder) -> bool:
    channels, groups = b.shape[0], b.choose(*[g for g in (1, 2) if b.shape[0] % g == 0])
    stride, kernel = b.integer(1, 2), b.integer(1, 3)
    beyond = b.integer(0, stride - 1)
    outputs = groups * b.integer(1, 2)
    geometry = (kernel, stride, b.integer(0, kernel // 2), beyond, groups, b.flag())
    return b.module(nn.ConvTranspose2d(channels, outputs, *geometry))


def norm(b: Builder) -> bool:
    return b.module(nn.BatchNorm2d(b.shape[0], affine=b.flag()))


def activation(b: Builder) -> bool:
    inplace = b.flag() and len(b.values) > 1
    kinds = [
        nn.ReLU(inplace),
        nn.ReLU6(inplace),
        nn.Hardtanh(-1, 2, inplace=inplace),
        nn.LeakyReLU(0.25, inplace),
        nn.Threshold(0.5, -1, inplace),
        nn.PReLU(b.shape[0]),
    ]
    if b.integer(0, 4):
        return b.module(b.choose(*kinds[:1], *kinds))
    function = b.choose(F.relu, torch.relu, lambda x: x.clamp(-0.5, 1), lambda x: x.clamp(min=0), torch.abs)
    return b.add(function, "functional activation")


def pool(b: Builder) -> bool:
    kernel, ceil = (b.integer(1, 3), b.integer(1, 3)), b.flag()
    stride, padding = b.integer(1, 2), tuple(b.integer(0, k // 2) for k in kernel)
    kinds = [
        nn.MaxPool2d(kernel, stride, padding, b.integer(1, 2), ceil_mode=ceil),
        nn.AvgPool2d(kernel, stride, padding, ceil, b.flag()),
        nn.AdaptiveAvgPool2d((b.integer(1, 3), b.integer(1, 3))),
        nn.AdaptiveMaxPool2d((b.integer(1, 3), None)),
    ]
    return b.module(b.choose(kinds[0], *kinds))


def residual(b: Builder) -> bool:
    partners = [i for i, value in enumerate(b.values) if value.shape[1:] == b.shape]
    function = b.choose(torch.add, torch.sub, lambda a, c: c - a, lambda a, c: a.add_(c), lambda a, c: a + 2 * c)
    if len(b.values) == 1:
        return False
    return b.add(function, "sum", b.choose(*partners))


def concatenation(b: Builder) -> bool:
    partners = [i for i, value in enumerate(b.values) if value.shape[2:] == b.shape[1:]]
    return b.add(lambda *parts: torch.cat(parts, 1), "cat", *[b.choose(*partners) for _ in range(b.integer(1, 2))])


def constant(b: Builder) -> bool:
    number = b.choose(-1.5, 0.5, 2.0)
    position = torch.arange(b.shape[-1], dtype=torch.float64)
    function = b.choose(
        lambda x: x * number, lambda x: number - x, lambda x: x / 2 + number, lambda x: x + position, lambda x: -x
    )
    return b.add(function, "constant")


def movement(b: Builder) -> bool:
    channels = b.shape[0]
    first = b.integer(0, channels - 1)
    functions = [
        lambda x: F.pad(x, (1, 0, 2, 1)),
        lambda x: F.pad(x, (0, 1, 1, 0), value=-0.5),
        lambda x: F.pad(x, (1, 0, 0, 1), mode="replicate"),
        lambda x: x[:, first:],
        lambda x: x[:, :, ::2],
        lambda x: x[..., 1:],
        lambda x: x[:, first].unsqueeze(1),
        lambda x: x.chunk(2, 1)[-1],
        lambda x: x.permute(0, 1, 3, 2),
        lambda x: x.transpose(1, 2),
        lambda x: x.flip(3),
        lambda x: x.roll((1, -1), (2, 3)),
        lambda x: F.interpolate(x, scale_factor=2),
        lambda x: F.interpolate(x, size=(3, 4), mode="bilinear", align_corners=True),
        lambda x: F.interpolate(x, size=(4, 3), mode="bilinear"),
        lambda x: F.interpolate(x, size=(3, 3), mode="bicubic"),
        lambda x: F.dropout(x, 0.3, training=False),
        lambda x: x.reshape(x.shape[0], -1, x.shape[3]).unsqueeze(2),
        lambda x: x.mean(1, keepdim=True),
        lambda x: x.sum((2,), keepdim=True),
        lambda x: x.contiguous().view(x.shape[0], x.shape[3], x.shape[1], x.shape[2]),
        lambda x: F.channel_shuffle(x, 2) if x.shape[1] % 2 == 0 else x.expand(-1, -1, -1, -1).clone(),
    ]
    index = b.integer(0, len(functions) - 1)
    return b.add(functions[index], f"movement {index}")


def head(b: Builder) -> None:
    b.choose(
        lambda: b.module(nn.Flatten()), lambda: b.add(lambda x: x.mean([2, 3]), "mean"), lambda: b.module(nn.Flatten())
    )()
    for last in (False, True):
        b.module(nn.Linear(b.shape[0], b.integer(1, 4), bias=b.flag()))
        if not last:
            if b.flag():
                b.module(nn.BatchNorm1d(b.shape[0]))
            b.module(nn.ReLU(b.flag()))


OPERATORS = [convolution, convolution, convolution, transposed, norm, activation, activation, pool]
OPERATORS += [residual, residual, concatenation, constant, movement, movement]


@st.composite
def networks(draw: st.DrawFn) -> tuple[Program, Tensor]:
    """A network in evaluation mode, float64, and images for it [B, C, H, W]."""
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 6)), draw(st.integers(1, 6)))
    exact = draw(st.booleans())
    b = Builder(draw, shape, exact)
    for operator in [convolution, *draw(st.lists(st.sampled_from(OPERATORS), max_size=7))]:
        operator(b)
    if draw(st.booleans()):
        head(b)
    # Shifts of a single pixel alone would vanish at capture, and leave no layer.
    if not b.program.modules_used and len(b.shape) == 3:
        b.module(nn.Conv2d(b.shape[0], 2, 1))
    x = torch.randn(draw(st.integers(1, 3)), *shape, generator=b.random, dtype=torch.float64)
    x = (2 * x).round() if exact else x
    return b.program.eval(), LAYOUTS[draw(st.sampled_from(list(LAYOUTS)))](x)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(0, 3).contiguous().transpose(0, 3),
    "sliced": lambda x: torch.stack([x, x + 1], -1)[..., 0],
    "expanded batch": lambda x: x[:1].expand_as(x),
    "expanded channels": lambda x: x[:, :1].expand_as(x),
}
