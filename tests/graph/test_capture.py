"""Capture, folding, swapping and naming: what the parsed network says, and models that are easily got wrong."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fwdkern
from fwdkern.errors import CaptureError, UnsupportedOperatorError
from tests.networks.families import randomise
from tests.oracle import assert_close, autograd


def image(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Model(nn.Module):
    """A convolution [B, 3, ...] -> [B, 4, ...], a batch norm, a linear layer [B, 4] -> [B, 3], and a given forward."""

    def __init__(self, run: Callable[["Model", Tensor], object]) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Linear(4, 3)
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.run = run
        randomise(self)
        self.double().eval()

    def forward(self, x: Tensor) -> object:
        return self.run(self, x)


def shifted(m: Model, x: Tensor) -> Tensor:
    """A temporal shift as video networks write it: slices assigned to."""
    y = m.conv(x)
    out = torch.zeros_like(y)
    out[:, :2, :-1] = y[:, :2, 1:]
    out[:, 2] = y[:, 2]
    out[:, 3] = 0.5
    out[:, 1:].relu_()
    return m.head(out.mean((2, 3)))


def counted(m: Model, x: Tensor) -> Tensor:
    m.count += 1
    return m.head(m.conv(x).mean((2, 3)))


def even_kernel(m: Model, x: Tensor) -> Tensor:
    y = F.conv2d(x, m.conv.weight[:, :, :2, 1:], m.conv.bias, padding="same")
    return m.head(y.mean((2, 3)))


def unpacked(m: Model, x: Tensor) -> Tensor:
    a, b = m.conv(x).split([1, 3], 1)
    c, d = b[:, :2].unbind(1)
    parts = torch.cat([a.squeeze(1).unsqueeze(1), c.unsqueeze(1), d[:, None], b[:, -1:]], 1)
    return m.head(parts.mean((2, 3)))


MODELS: dict[str, Callable[[Model, Tensor], object]] = {
    "one module twice": lambda m, x: m.head(m.conv(m.conv(x)[:, :3].relu()).mean((2, 3))),
    "in place on the input": lambda m, x: m.head(m.conv(x.relu_()).mean((2, 3))),
    "in place after a branch": lambda m, x: m.head((lambda y: y + y.relu_())(m.conv(x)).mean((2, 3))),
    "convolution read twice": lambda m, x: m.head((lambda y: m.norm(y) + y)(m.conv(x)).mean((2, 3))),
    "constant folded": lambda m, x: m.head((m.conv(x) * m.head.weight.sum().exp() + torch.arange(5.0)).mean((2, 3))),
    "slices assigned": shifted,
    "a counter": counted,
    "even kernel, same padding": even_kernel,
    "split and unbind": unpacked,
    "hard-coded batch": lambda m, x: m.head(m.conv(x).view(2, 4, 25).mean(2)),
    "zeros concatenated": lambda m, x: m.head(
        torch.cat([m.conv(x)[:, :2], x.new_ones(len(x), 2, 5, 5)], 1).mean((2, 3))
    ),
    "dropped values": lambda m, x: (m.conv(x), m.head(m.conv(x).mean((2, 3))))[1],
    "dictionary": lambda m, x: {"out": m.head(m.conv(x).mean((2, 3)))},
}


@pytest.mark.parametrize("name", MODELS)
def test_models_that_are_easily_got_wrong(name: str) -> None:
    model, x = Model(MODELS[name]), image(2, 3, 5, 5)
    net = fwdkern.fuse(model, x.clone())
    out, expected = net(x.clone()), model(x.clone())
    if isinstance(expected, dict):
        assert isinstance(out, dict) and list(out) == ["out"]
        out, expected, model = out["out"], expected["out"], Model(lambda m, y: MODELS[name](m, y)["out"])
    assert_close(out, expected.detach())
    oracle = autograd(model, x)
    for mode in ("forward", "reverse"):
        assert_close(net.attribute(x, "all", mode=mode, strict=True).scores, oracle.uniform)


def test_names_follow_the_modules() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.drop = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Dropout()

        def forward(self, x: Tensor) -> Tensor:
            return self.drop(F.relu(self.norm(self.conv(x)) + x))

    net = fwdkern.fuse(nn.Sequential(Block(), nn.Sequential(Block())).eval(), torch.randn(1, 3, 4, 4))
    names = [layer.name for layer in net.layers]
    assert names == ["0.norm", "0.add", "0.relu", "1.0.norm", "1.0.add", "1.0.relu"]
    assert net.layer("0").name == "0.relu" and net.layer("1").name == net.layer("1.0.drop").name == "1.0.relu"
    first, add = net.layer("0.norm"), net.layer("0.add")
    assert (first.operator, first.shape, first.parents) == ("conv2d+batch_norm", (3, 4, 4), ("input",))
    assert (first.module, first.rule, add.module) == ("RelevanceConv2d", "convolution", "")
    assert set(add.parents) == {"0.norm", "input"}


def test_a_module_called_twice_has_two_layers() -> None:
    net = fwdkern.fuse(Model(MODELS["one module twice"]), image(2, 3, 5, 5))
    assert [layer.name for layer in net.layers if layer.operator == "conv2d"] == ["conv", "conv@1"]


def test_names_that_differ_in_a_dot_stay_apart() -> None:
    model = nn.Module()
    model.add_module("a_b", nn.Conv2d(3, 3, 1))
    model.add_module("a", nn.Sequential())
    model.a.add_module("b", nn.Conv2d(3, 2, 1))
    model.forward = lambda x: model.a.b(model.a_b(x))
    x = torch.randn(2, 3, 4, 4)
    net = fwdkern.fuse(model.eval(), x)
    assert [layer.name for layer in net.layers] == ["a_b", "a.b"]
    assert_close(net(x), model(x).detach(), 1e-6)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("affine", [False, True])
def test_batch_norm_is_folded(transposed: bool, groups: int, affine: bool) -> None:
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    model = nn.Sequential(kind(4, 6, 3, groups=groups), nn.BatchNorm2d(6, affine=affine), nn.ReLU())
    if not affine:
        model[1].running_mean.add_(0.5)
        model[1].running_var.mul_(3)
    else:
        randomise(model)
    x = image(2, 4, 6, 5)
    net = fwdkern.fuse(model.double().eval(), x)
    assert [layer.operator.partition("+")[2] for layer in net.layers] == ["batch_norm", ""]
    assert_close(net(x), model(x).detach())


def test_weights_are_shared_where_nothing_is_folded() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(4, 2)
    )
    model.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    net = fwdkern.fuse(model, torch.randn(1, 3, 5, 5))
    net.attribute(torch.randn(2, 3, 5, 5))
    pointers = {value.data_ptr() for value in net.state_dict().values()}
    for name in ("3.weight", "3.bias", "5.weight", "5.bias"):
        assert model.state_dict()[name].data_ptr() in pointers
    assert model[0].weight.data_ptr() not in pointers
    assert sum(v.numel() for v in net.state_dict().values()) <= sum(v.numel() for v in model.state_dict().values())
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert not model.training and not any(module._forward_hooks for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_an_operator_without_a_rule_stops_only_what_lies_behind_it() -> None:
    def run(m: Model, x: Tensor) -> Tensor:
        return m.head(torch.erfinv(m.norm(m.conv(x)).clamp(-0.9, 0.9)).mean((2, 3)))

    x = image(2, 3, 5, 5)
    net = fwdkern.fuse(Model(run), x)
    assert [layer.name for layer in net.layers if layer.rule is None] == ["erfinv"]
    assert "NO RULE" in net.report()
    assert net.attribute_units(x, "clamp", "channels", strict=True).scores.shape == (2, 4, 5, 5)
    with pytest.raises(
        UnsupportedOperatorError, match=r"node erfinv \(aten\.erfinv\.default\) in the model itself"
    ) as raised:
        net.attribute(x)
    assert "Operators with a rule: " in str(raised.value) and "conv2d" in str(raised.value)


def test_an_error_lists_all_operators_without_a_rule() -> None:
    def run(m: Model, x: Tensor) -> Tensor:
        low, high = m.conv(x), m.norm(m.conv(x))
        switch = torch.digamma(high) > 0  # frozen, so that it is not on the way
        return m.head((torch.erfinv(low) + torch.lgamma(high).cumprod(2) * switch).mean((2, 3)))

    x = image(2, 3, 5, 5)
    net = fwdkern.fuse(Model(run), x)
    with pytest.raises(UnsupportedOperatorError) as raised:
        net.attribute(x)
    lines = str(raised.value).splitlines()
    assert lines[0] == "3 operators on the way cannot be explained:"
    assert [line.split()[1] for line in lines[1:4]] == ["erfinv", "lgamma", "cumprod"]
    assert all("in the model itself, output [4, 5, 5], has no relevance rule" in line for line in lines[1:4])
    free = lines[4].removesuffix(".").split(": ")[1].split(", ")
    assert "conv" in free and "head" not in free
    for name in free:
        net.attribute_units(x, name, "channels", strict=True)
    obstacles = net.obstacles(x)
    assert obstacles["cumprod"] == ("lgamma", "cumprod") and obstacles["head"] == ("erfinv", "lgamma", "cumprod")
    assert not set(obstacles).intersection(free)


def test_complex_numbers_and_open_shapes_are_refused() -> None:
    x = image(2, 3, 5, 5)
    net = fwdkern.fuse(Model(lambda m, y: m.head(torch.fft.rfft(m.conv(y)).abs().mean((2, 3)))), x)
    with pytest.raises(UnsupportedOperatorError, match=r"fft_rfft.*\n.*complex numbers have no rules"):
        net.attribute(x)
    mask = torch.tensor([True, False, True])
    with pytest.raises(CaptureError, match="depends on values"):
        fwdkern.fuse(Model(lambda m, y: m.conv(y[:, mask].repeat(1, 3, 1, 1)[:, :3])), x)


# What an operator is made of has rules: function of [B, 4, 5, 5].
MADE_OF_OTHERS: dict[str, Callable[[Tensor], Tensor]] = {
    "glu": lambda y: torch.nn.functional.glu(y, 1),
    "square": torch.square,
    "addcmul": lambda y: torch.addcmul(y, y, torch.ones(5, dtype=y.dtype), value=2),
    "addcdiv": lambda y: torch.addcdiv(y, y.exp(), 1 + y**2, value=0.5),
    "lerp": lambda y: torch.lerp(y, y.flip(1), 0.3),
    "fliplr": lambda y: y[:, :, 0].fliplr(),
    "var": lambda y: y.var(1),
    "std": lambda y: y.std((2, 3), unbiased=False, keepdim=True),
    "split": lambda y: torch.cat(list(y.tensor_split(3, 2))[::-1], 2),
    "max": lambda y: y.max(1).values,
    "topk": lambda y: y.topk(2, 1).values,
    "three-dimensional": lambda y: torch.nn.functional.adaptive_max_pool3d(y.unsqueeze(2), (1, 2, 3)),
    "local response norm": lambda y: torch.nn.functional.local_response_norm(y, 3),
    "norm by a power": lambda y: torch.nn.functional.lp_pool2d(y, 2, 2),
}


@pytest.mark.parametrize("name", MADE_OF_OTHERS)
def test_operators_made_of_others(name: str) -> None:
    x = image(2, 3, 5, 5)
    net = fwdkern.fuse(Model(lambda m, y: MADE_OF_OTHERS[name](m.conv(y)).flatten(1)), x)
    forward, reverse = (net.attribute(x, "all", mode=mode, strict=True) for mode in ("forward", "reverse"))
    assert_close(forward.scores, reverse.scores)
    with torch.no_grad():
        assert_close(net(x), Model(lambda m, y: MADE_OF_OTHERS[name](m.conv(y)).flatten(1))(x))


@pytest.mark.parametrize("take", [lambda y: y.mode(2, keepdim=True)[0], lambda y: y.cummax(2).values[:, :, :1]])
def test_operators_with_several_outputs_are_no_constants(take: Callable[[Tensor], Tensor]) -> None:
    net = fwdkern.fuse(Model(lambda m, x: m.head((m.conv(x) + take(m.conv(x))).mean((2, 3)))), image(2, 3, 5, 5))
    with pytest.raises(UnsupportedOperatorError, match="has no relevance rule"):
        net.attribute(image(2, 3, 5, 5))


def test_a_softmax_at_the_end_is_explained_below() -> None:
    x = image(2, 3, 5, 5)
    logits = Model(lambda m, y: m.head(m.conv(y).mean((2, 3))))
    for softmax in (lambda y: y.softmax(1), lambda y: y.log_softmax(1)):
        net = fwdkern.fuse(Model(lambda m, y, end=softmax: end(m.head(m.conv(y).mean((2, 3))))), x)
        assert net.layers[-1].rule == "explained below, at head" and "NO RULE" not in net.report()
        found = net.attribute(x, 1, strict=True)
        assert found.layer == "head" and "logits below" in found.note
        assert_close(found.scores, autograd(logits, x, torch.tensor([[1], [1]])).uniform)


def test_several_outputs_keep_their_structure() -> None:
    x = image(2, 3, 5, 5)
    model = Model(lambda m, y: {"features": m.conv(y), "all": [m.head(m.conv(y).mean((2, 3))), None]})
    net = fwdkern.fuse(model, x)
    out = net(x)
    assert list(out) == ["features", "all"] and out["all"][1] is None
    assert_close(out["all"][0], model(x)["all"][0].detach())
    with pytest.raises(fwdkern.errors.InputError, match="does not return one tensor"):
        net.attribute(x)
    assert net.attribute_units(x, "conv", "channels", strict=True).scores.shape == (2, 4, 5, 5)


def test_a_batch_that_the_model_fixes() -> None:
    net = fwdkern.fuse(Model(MODELS["hard-coded batch"]), image(2, 3, 5, 5))
    assert "2 only" in net.report()
    with pytest.raises(CaptureError, match=r"\[3, 3, 5, 5\].*invalid for input"):
        net.attribute(image(3, 3, 5, 5))


def test_the_example_is_not_marked() -> None:
    x = image(2, 3, 5, 5)
    fwdkern.fuse(Model(MODELS["hard-coded batch"]), x)
    assert not [name for name in vars(x) if "dynamo" in name]


def test_control_flow_on_values_cannot_be_captured(capfd: pytest.CaptureFixture) -> None:
    with pytest.raises(CaptureError, match="could not capture Model for an input of shape"):
        fwdkern.fuse(Model(lambda m, x: m.head(x.mean((2, 3))) if x.sum() > 0 else x), image(2, 3, 5, 5))
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_number_taken_from_the_input_is_no_constant() -> None:
    x = image(2, 3, 5, 5)
    net = fwdkern.fuse(Model(lambda m, y: m.head(m.conv(y).mean((2, 3))) * y.sum().item()), x)
    with pytest.raises(UnsupportedOperatorError, match=r"aten\.(item|_local_scalar_dense)"):
        net.attribute(x)


def test_copies_and_dtypes() -> None:
    x = torch.randn(2, 3, 6, 6)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    net = fwdkern.fuse(model, x)
    twin = copy.deepcopy(net).double()
    for size in (6, 8):  # 8 is captured again
        pixels = torch.randn(2, 3, size, size)
        exact = twin.attribute(pixels.double(), 0, strict=True)
        assert exact.scores.dtype is torch.float64 and exact.delta.abs().max() < 1e-14
        assert_close(net.attribute(pixels, 0, strict=True).scores.double(), exact.scores, 1e-5)
        coarse = copy.deepcopy(net).bfloat16().attribute(pixels.bfloat16(), 0, strict=True)
        assert coarse.scores.dtype is torch.bfloat16
        assert_close(coarse.scores.double(), exact.scores, 0.05)
    net.double()  # moves what was captured at 8 too
    assert net.attribute(torch.randn(1, 3, 8, 8).double(), strict=True).scores.dtype is torch.float64
    assert model[0].weight.dtype is torch.float32
