"""Smooth functions: complete everywhere, the derivative near 0, one line for a user's own."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import fwdkern
from fwdkern.rules import NoRule, register, register_smooth, registry
from fwdkern.rules.frozen import Constant, Diagonal
from tests.oracle import assert_close
from tests.rules.jacobian import freeze, image, live

aten = torch.ops.aten

SMOOTH: dict[str, tuple[Any, ...]] = {
    "tanh": (aten.tanh.default,),
    "sigmoid": (aten.sigmoid.default,),
    "gelu": (aten.gelu.default,),
    "gelu, tanh": (aten.gelu.default, {"approximate": "tanh"}),
    "silu": (aten.silu.default,),
    "hardswish": (aten.hardswish.default,),
    "hardsigmoid": (aten.hardsigmoid.default,),
    "mish": (aten.mish.default,),
    "erf": (aten.erf.default,),
    "celu": (aten.celu.default, 0.7),
    "elu": (aten.elu.default, 0.7),
    "selu": (aten.selu.default,),
    "softplus": (aten.softplus.default,),
    "softplus, beta": (aten.softplus.default, 3, 5),
    "log_sigmoid": (aten.log_sigmoid.default,),
    "sin": (aten.sin.default,),
    "cos": (aten.cos.default,),
    "sinh": (aten.sinh.default,),
    "cosh": (aten.cosh.default,),
    "asinh": (aten.asinh.default,),
    "atan": (aten.atan.default,),
    "exp": (aten.exp.default,),
    "exp2": (aten.exp2.default,),
    "expm1": (aten.expm1.default,),
    "erfc": (aten.erfc.default,),
    "square": (aten.pow.Tensor_Scalar, 2),
    "cube": (aten.pow.Tensor_Scalar, 3.0),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", SMOOTH)
def test_ratio(name: str, dtype: torch.dtype) -> None:
    target, *arguments = SMOOTH[name]
    keywords = arguments.pop() if arguments and isinstance(arguments[-1], dict) else {}
    z = torch.cat([image(200) * 4, torch.logspace(-12, 1.5, 40), -torch.logspace(-12, 1.5, 40), torch.zeros(1)])
    z = z.to(dtype)[None]
    frozen, output = freeze(target, *live(z), *arguments, **keywords)
    offset = torch.zeros(()) if frozen.offset is None else frozen.offset
    epsilon = torch.finfo(dtype).eps
    carried = frozen.forward(z[None])[0]
    # An exponential and f(0) together round like the larger of them.
    magnitude = carried.abs() + torch.as_tensor(offset).abs()
    assert ((carried + offset - output).abs() <= 8 * epsilon * (magnitude + 1)).all()
    # Near 0 the ratio is the derivative there, though f(z) and f(0) agree in nearly all digits.
    leaf = torch.zeros((), dtype=torch.float64, requires_grad=True)
    value = target(leaf, *arguments, **keywords)
    (slope,) = torch.autograd.grad(value, leaf)
    # An ELU has a kink at 0, where torch takes the derivative from the left.
    tiny = (z[0].abs() < 1e-6) & ((z[0] <= 0) | (name not in ("elu", "selu")))
    near = frozen.forward(torch.ones_like(z)[None])[0, 0][tiny].double()
    torch.testing.assert_close(near, slope.expand_as(near), rtol=1e-5, atol=2e-6)
    assert frozen.reverse(z[None])[0].equal(frozen.forward(z[None]))


# Functions that are only defined on a part of the line: operator, lower and upper end of the part that is tested.
PARTIAL: dict[str, tuple[Any, float, float]] = {
    "tan": (aten.tan.default, -1.5, 1.5),
    "asin": (aten.asin.default, -1, 1),
    "acos": (aten.acos.default, -1, 1),
    "atanh": (aten.atanh.default, -0.99, 0.99),
    "log1p": (aten.log1p.default, -0.99, 50),
    "sqrt": (aten.sqrt.default, 0, 50),
    "log": (aten.log.default, 1e-6, 50),
    "log2": (aten.log2.default, 1e-6, 50),
    "log10": (aten.log10.default, 1e-6, 50),
}


@pytest.mark.parametrize("name", PARTIAL)
def test_partial_functions(name: str) -> None:
    target, low, high = PARTIAL[name]
    z = torch.cat([torch.linspace(low, high, 301, dtype=torch.float64), torch.ones(1), torch.zeros(1)])
    z = z.clamp(low, high)[None]
    frozen, output = freeze(target, *live(z))
    offset = torch.zeros(()) if frozen.offset is None else frozen.offset
    assert frozen.forward(torch.ones_like(z)[None]).isfinite().all()
    assert_close(frozen.forward(z[None])[0] + offset, output, 1e-14)


def test_a_logarithm_has_its_derivative_at_1() -> None:
    z = 1 + torch.logspace(-12, -7, 20, dtype=torch.float64)
    for base, target in ((math.e, aten.log.default), (2, aten.log2.default), (10, aten.log10.default)):
        frozen, _ = freeze(target, *live(z[None]))
        torch.testing.assert_close(frozen.forward(torch.ones(1, 1, 20))[0, 0], torch.full_like(z, 1 / math.log(base)))


@pytest.mark.parametrize("exponent", [2, 3.0, 1, 0.5, 1.7, torch.tensor([1.0, 0.3, 2.5]).double()])
def test_powers(exponent: Any) -> None:
    z = image(4, 3).abs()
    z[0] = 0
    target = aten.pow.Tensor_Tensor if isinstance(exponent, Tensor) else aten.pow.Tensor_Scalar
    frozen, output = freeze(target, *live(z), exponent)
    assert frozen.forward(torch.ones_like(z)[None]).isfinite().all()
    assert_close(frozen.forward(z[None])[0], output)


@pytest.mark.parametrize("exponent", [0, -1, -0.5])
def test_a_power_that_divides_is_a_constant(exponent: float) -> None:
    frozen, output = freeze(aten.pow.Tensor_Scalar, *live(image(2, 3).abs()), exponent)
    assert isinstance(frozen, Constant) and frozen.offset is output


def test_exponentials_of_other_bases() -> None:
    z = image(2, 40)
    for base in (2, 0.3, 1):
        frozen, output = freeze(aten.pow.Scalar, base, *live(z))
        assert_close(frozen.forward(z[None])[0] + frozen.offset, output)
    with pytest.raises(NoRule, match="base"):
        freeze(aten.pow.Scalar, -2, *live(z))


def test_exponents_that_depend_on_the_input_have_no_rule() -> None:
    a, b = live(image(2, 3).abs(), image(2, 3))
    for base in (a, image(2, 3).abs()):
        with pytest.raises(NoRule, match="exponent"):
            freeze(aten.pow.Tensor_Tensor, base, b)
    with pytest.raises(NoRule, match="all above 0"):
        freeze(aten.pow.Tensor_Tensor, a, torch.tensor([1.0, -1.0, 2.0]).double())


@torch.library.custom_op("fwdkern_tests::snake", mutates_args=())
def snake(x: Tensor, frequency: float) -> Tensor:
    return x + (frequency * x).sin().square() / frequency


@torch.library.custom_op("fwdkern_tests::bump", mutates_args=())
def bump(x: Tensor) -> Tensor:
    return 2 + x.tanh()


@torch.library.custom_op("fwdkern_tests::mirror", mutates_args=())
def mirror(x: Tensor) -> Tensor:
    return x.flip(-1) * 2


for _operator in (bump, mirror):
    _operator.register_fake(torch.empty_like)
snake.register_fake(lambda x, frequency: torch.empty_like(x))


class Own(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = torch.nn.Conv2d(2, 3, 3), torch.nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.ops.fwdkern_tests.snake(self.conv(x), 0.8)
        x = torch.ops.fwdkern_tests.bump(torch.ops.fwdkern_tests.mirror(x))
        return self.head(x.mean((2, 3)))


def test_own_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_RULES", dict(registry._RULES))
    model, x = Own().double().eval(), image(2, 2, 5, 5)
    net = fwdkern.fuse(model, x)
    assert [layer.operator for layer in net.layers if layer.rule is None] == ["snake", "mirror", "bump"]
    with pytest.raises(fwdkern.errors.UnsupportedOperatorError, match=r"fwdkern\.rules\.register"):
        net.attribute(x)

    register_smooth(torch.ops.fwdkern_tests.snake.default, slope=1.0)
    register_smooth(torch.ops.fwdkern_tests.bump.default, slope=1.0, at_zero=2.0)

    class Mirror(Diagonal):
        def forward(self, *maps: Tensor) -> Tensor:
            return maps[0].flip(-1) * 2

        def reverse(self, maps: Tensor) -> tuple[Tensor, ...]:
            return (maps.flip(-1) * 2,)

        def reach(self, *boxes: Tensor) -> Tensor:
            return boxes[0].flip(-1)

    @register("mirror", torch.ops.fwdkern_tests.mirror.default)
    def freeze_mirror(call: fwdkern.rules.Call) -> fwdkern.rules.Frozen:
        return Mirror(torch.ones(()), None, call.output.shape)

    net = fwdkern.fuse(model, x)
    assert not [layer.name for layer in net.layers if layer.rule is None]
    forward, reverse = (net.attribute(x, "all", mode=mode, strict=True) for mode in ("forward", "reverse"))
    assert_close(forward.scores, reverse.scores)
    z = torch.full((1, 8), 1e-12).double()
    frozen, output = freeze(torch.ops.fwdkern_tests.bump.default, *live(z))
    assert_close(frozen.forward(torch.ones_like(z)[None])[0], torch.ones_like(z))
    assert_close(frozen.forward(z[None])[0] + frozen.offset, output)
