"""Wrong requests end in errors that say what was given, what was expected and what to do."""

import pytest
import torch
from torch import Tensor, nn

import fwdkern
from fwdkern.errors import CaptureError, InputError, LayerError, UnsupportedOperatorError
from tests.networks.families import FAMILIES


class _WithErf(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, 4, 3)
        self.odd = nn.Sequential(nn.Conv2d(4, 4, 1))
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.erf(self.odd(self.before(x).relu()))
        return self.head(y.mean([2, 3]))


class _Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x


@pytest.fixture(scope="module")
def net() -> fwdkern.FusedModel:
    factory, shape = FAMILIES["vgg"]
    return fwdkern.fuse(factory(), torch.randn(1, *shape))


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.randn(2, *FAMILIES["vgg"][1])


def test_inputs(net: fwdkern.FusedModel, x: Tensor) -> None:
    channels = x.shape[1]
    wrong: list[tuple[object, str]] = [
        (x[0], "unsqueeze"),
        (x.movedim(1, -1), "movedim"),
        (x[:, :1].expand(-1, channels + 1, -1, -1), f"{channels} channels"),
        ((x * 10).int(), "torch.int32"),
        (x.double(), "torch.float64"),
        (x[:0], "no example"),
        (x[:, :, :0], "empty"),
        (x.numpy(), "ndarray"),
        ([x, x], "list"),
        (x.to("meta"), "meta"),
    ]
    for value, words in wrong:
        with pytest.raises(InputError, match=words):
            net.attribute(value)  # type: ignore[arg-type]


def test_not_finite_inputs_are_counted_and_placed(net: fwdkern.FusedModel, x: Tensor) -> None:
    broken = x.clone()
    broken[1, 0, 2, 3], broken[1, 1, 0, 0], broken[1, 1, 0, 1] = torch.nan, torch.inf, -torch.inf
    with pytest.raises(InputError, match=r"1 NaN and 2 infinite.*\[1, 0, 2, 3\]"):
        net.attribute(broken)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"target": 10**6}, "out of range"),
        ({"target": -1}, "out of range"),
        ({"target": [0, 1, 2]}, "batch of 2"),
        ({"target": torch.tensor([0.5, 1.0])}, "integers"),
        ({"target": "every"}, '"all"'),
        ({"target": []}, "no class"),
        ({"features": "pixel"}, "pixels"),
        ({"features": torch.zeros(3, 3, dtype=torch.long)}, "shape"),
        ({"features": torch.zeros(32, 32)}, "integer"),
        ({"bias": "none"}, "uniform"),
        ({"mode": "fast"}, "forward"),
        ({"backend": "tpu"}, "torch"),
        ({"memory": "much"}, "2GiB"),
        ({"memory": -1}, "2GiB"),
    ],
)
def test_class_requests(net: fwdkern.FusedModel, x: Tensor, arguments: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        net.attribute(x, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("units", "words"),
    [
        ("some", "channels"),
        (torch.tensor([[0, 0]]), r"\[K, 3\]"),
        (torch.tensor([[0, 0, 10**5]]), "outside"),
        (torch.tensor([[-1, 0, 0]]), "outside"),
        (torch.zeros(0, 3, dtype=torch.long), "no unit"),
        (torch.tensor([[0.0, 0.0, 0.0]]), "integers"),
    ],
)
def test_units(net: fwdkern.FusedModel, x: Tensor, units: str | Tensor, words: str) -> None:
    layer = next(layer.name for layer in net.layers if len(layer.shape) == 3)
    with pytest.raises(InputError, match=words):
        net.attribute_units(x, layer, units)


def test_unknown_layers_come_with_close_names(net: fwdkern.FusedModel, x: Tensor) -> None:
    name = net.layers[0].name
    with pytest.raises(LayerError, match=name):
        net.attribute_units(x, name + "x")


def test_a_folded_layer_is_named_with_what_holds_it() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    folded = fwdkern.fuse(model, torch.randn(1, 3, 8, 8))
    with pytest.raises(LayerError, match="'1'"):
        folded.layer("0")


def test_models_that_cannot_be_fused() -> None:
    x = torch.randn(1, 3, 8, 8)
    with pytest.raises(InputError, match=r"model\.eval"):
        fwdkern.fuse(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), x)
    with pytest.raises(CaptureError, match="_Branching"):
        fwdkern.fuse(_Branching().eval(), x)
    with pytest.raises(InputError, match="Module"):
        fwdkern.fuse(lambda y: y, x)  # type: ignore[arg-type]
    for example in (x[0, 0, 0], x.int(), (x, x), "image"):
        with pytest.raises(InputError, match="example_inputs"):
            fwdkern.fuse(nn.Conv2d(3, 4, 3).eval(), example)  # type: ignore[arg-type]


def test_an_operator_without_a_rule_is_named_and_what_lies_before_it_explained() -> None:
    x = torch.randn(1, 3, 8, 8)
    net = fwdkern.fuse(_WithErf().eval(), x)
    assert [layer.name for layer in net.layers if layer.rule is None] == ["erf"]
    with pytest.raises(UnsupportedOperatorError, match=r"erf.*aten\.erf.*convolution"):
        net.attribute(x)
    assert net.attribute_units(x, "odd", strict=True).delta.abs().max() < 1e-5
    assert "erf" in net.report()


def test_weights_changed_after_fusing_are_refused() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2)).eval()
    x = torch.randn(1, 3, 8, 8)
    net = fwdkern.fuse(model, x)
    with torch.no_grad():
        model[0].weight.add_(1)
    with pytest.raises(InputError, match="fuse again"):
        net.attribute(x)
