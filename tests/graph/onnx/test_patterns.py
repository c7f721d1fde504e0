"""Functions that a file spells out have the maps of the function."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fwdkern
from fwdkern.graph.onnx import read_onnx
from tests.graph.onnx.files import Node, model, save

NUMBERS = {
    "half": 0.5, "one": 1.0, "three": 3.0, "zero": 0.0, "six": 6.0, "sixth": 1 / 6, "fifth": 0.2, "eps": 1e-3,
    "two": 2.0, "root": math.sqrt(2), "kappa": 0.044715, "tau": math.sqrt(2 / math.pi),
}  # fmt: skip
SCALE, SHIFT = (np.random.default_rng(i).standard_normal(5).astype(np.float32) for i in range(2))
MATRIX = np.random.default_rng(2).standard_normal((5, 3)).astype(np.float32)
WEIGHTS = {**{name: np.float32(value) for name, value in NUMBERS.items()}, "w": SCALE, "b": SHIFT, "m": MATRIX,
           "c": SHIFT[:3]}  # fmt: skip


def nodes(*lines: str) -> list[Node]:
    """Nodes from lines such as "y = Mul x half"."""
    made: list[Node] = []
    for line in lines:
        result, _, kind, *inputs = line.split()
        attributes = {"axes": [-1]} if kind == "ReduceMean" else {}
        made.append((kind, inputs, [result], attributes))
    return made


TANH = [
    "x2 = Mul x x",
    "x3 = Mul x x2",
    "k = Mul kappa x3",
    "s = Add x k",
    "u = Mul tau s",
    "t = Tanh u",
    "p = Add t one",
]
ERF = ["d = Div x root", "e = Erf d", "p = Add e one"]
NORM = ["mean = ReduceMean x", "d = Sub x mean", "q = Pow d two", "v = ReduceMean q", "e = Add v eps", "r = Sqrt e"]
RMS = ["q = Mul x x", "v = ReduceMean q", "e = Add v eps", "r = Sqrt e"]
CASES: dict[str, tuple[str, list[str], Callable[[Tensor], Tensor]]] = {
    "gelu, half last": ("gelu", [*ERF, "a = Mul x p", "y = Mul a half"], F.gelu),
    "gelu, half first": ("gelu", [*ERF, "a = Mul half x", "y = Mul a p"], F.gelu),
    "gelu, half inside": ("gelu", [*ERF, "a = Mul p half", "y = Mul x a"], F.gelu),
    "gelu by tanh": ("gelu", [*TANH, "a = Mul half x", "y = Mul a p"], lambda x: F.gelu(x, approximate="tanh")),
    "silu": ("silu", ["a = Sigmoid x", "y = Mul x a"], F.silu),
    "softplus": ("softplus", ["a = Exp x", "p = Add one a", "y = Log p"], F.softplus),
    "mish": ("mish", ["a = Exp x", "p = Add a one", "l = Log p", "t = Tanh l", "y = Mul x t"], F.mish),
    "hardswish, divided last": (
        "hardswish", ["p = Add x three", "a = Clip p zero six", "m2 = Mul x a", "y = Div m2 six"], F.hardswish),
    "hardswish, divided first": (
        "hardswish", ["p = Add x three", "a = Clip p zero six", "m2 = Mul a sixth", "y = Mul m2 x"], F.hardswish),
    "hardsigmoid": ("hardsigmoid", ["p = Add x three", "a = Clip p zero six", "y = Div a six"], F.hardsigmoid),
    "hardsigmoid of a fifth": (
        "hardsigmoid", ["a = Mul x fifth", "p = Add a half", "y = Clip p zero one"], lambda x: F.hardsigmoid(x * 1.2)),
    "layer norm": ("layer_norm", [*NORM, "n = Div d r", "s = Mul n w", "y = Add s b"],
                   lambda x: F.layer_norm(x, (5,), torch.tensor(SCALE), torch.tensor(SHIFT), 1e-3)),
    "layer norm without scale": ("layer_norm", [*NORM, "i = Reciprocal r", "y = Mul d i"],
                                 lambda x: F.layer_norm(x, (5,), eps=1e-3)),
    "rms norm": ("rms_norm", [*RMS, "i = Div one r", "n = Mul x i", "y = Mul w n"],
                 lambda x: F.rms_norm(x, (5,), torch.tensor(SCALE), 1e-3)),
    "linear": ("linear", ["p = MatMul x m", "y = Add c p"],
               lambda x: F.linear(x, torch.tensor(MATRIX).T, torch.tensor(SHIFT[:3]))),
}  # fmt: skip


class Twin(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@pytest.mark.parametrize("case", CASES)
def test_maps_are_those_of_the_function(case: str, tmp_path: Path) -> None:
    operator, lines, function = CASES[case]
    read = read_onnx(save(model(nodes(*lines), ["batch", 4, 5], WEIGHTS), tmp_path))
    x = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(3))
    net, twin = fwdkern.fuse(read, x), fwdkern.fuse(Twin(function).eval(), x)
    assert net.layers[-1].operator.startswith(operator)
    units = torch.tensor([[0, 1], [3, 2]])
    last = (net.layers[-1].name, twin.layers[-1].name)
    got, expected = (
        n.attribute_units(x, name, units, bias="separate") for n, name in zip((net, twin), last, strict=True)
    )
    # Some ten operations on numbers around 1, in float32.
    torch.testing.assert_close(got.scores, expected.scores, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got.bias, expected.bias, rtol=1e-5, atol=1e-5)
    assert got.delta.abs().max() < 1e-5


def test_what_is_no_such_function_stays(tmp_path: Path) -> None:
    """Of another value, with another number."""
    others = [
        ["a = Sigmoid x", "s = Mul a a", "y = Add s x"],
        ["d = Mul x root", "e = Erf d", "p = Add e one", "a = Mul x p", "y = Mul a half"],
        ["p = Add x three", "a = Clip p zero six", "y = Div a three"],
        ["q = Mul x x", "v = ReduceMean q", "e = Add v eps", "r = Sqrt e", "y = Div b r"],
    ]
    for lines in others:
        made = {
            layer.operator for layer in fwdkern.fuse(save(model(nodes(*lines), [1, 4, 5], WEIGHTS), tmp_path)).layers
        }
        assert not made & {"silu", "gelu", "hardsigmoid", "layer_norm", "rms_norm"}
