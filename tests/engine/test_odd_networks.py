"""Small networks that once went wrong: values of one number an example, infinite constants, counts, changed models."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fwdkern
from fwdkern.captum import ForwardRelevance
from fwdkern.errors import InputError, UnsupportedOperatorError
from tests.oracle import assert_close

INFINITE = -torch.inf
TABLE = torch.tensor([[0.5, -1.5, 2.5, 1.0, -0.25, 3.0]], dtype=torch.float64)


class _Odd(nn.Module):
    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.first, self.last, self.function = nn.Linear(6, 6), nn.Linear(6, 4), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.first(x), self.last)


ODD: dict[str, Callable[..., Tensor]] = {
    "offset of one number": lambda x, h, w: w(x) + (x.sum(1) + 1.0)[:, None],
    "sigmoid of one number": lambda x, h, w: w(x) + x.sum(1).sigmoid()[:, None],
    "relu6 of one number": lambda x, h, w: w(h) * F.relu6(x.sum(1))[:, None],
    "masked max": lambda x, h, w: w(x) + h.masked_fill(TABLE > 2, INFINITE).max(1, keepdim=True)[0],
    "masked amax": lambda x, h, w: w(x) + h.masked_fill(TABLE > 2, INFINITE).amax(1, keepdim=True),
    "choice of an infinity": lambda x, h, w: w(x) + torch.where(TABLE > 2, INFINITE, h).max(1, keepdim=True)[0],
    "padded max": lambda x, h, w: w(F.max_pool1d(F.pad(h[:, None], (1, 1), value=INFINITE), 3, 1)[:, 0]),
    "infinity beside": lambda x, h, w: w(torch.cat([h, torch.full_like(TABLE, INFINITE).expand_as(h)], 1).topk(6)[0]),
    "masked softmax as a value": lambda x, h, w: w(h.masked_fill(TABLE > 2, INFINITE).softmax(1)),
    "running maximum": lambda x, h, w: w(torch.maximum(torch.full_like(x, INFINITE), h)),
    "comparison times a half": lambda x, h, w: w(h + (x > 0) * 0.5),
    "comparison times two": lambda x, h, w: w(h + (x > 0) * 2.0),
    "count over six": lambda x, h, w: w(h * ((x > 0).sum(1, keepdim=True) / 6)),
    "count over six, added": lambda x, h, w: w(h + (x > 0).sum(1, keepdim=True) / 6),
    "two comparisons": lambda x, h, w: w(h + (x > 0) * (x < 1)),
    "table at live places": lambda x, h, w: w(h) + TABLE.expand(len(x), -1).gather(1, x.argmax(1, keepdim=True)),
    "rows of a table": lambda x, h, w: w(h) + torch.index_select(TABLE.view(6, 1), 0, (x.sum(1) > 0).long()),
    "two types": lambda x, h, w: w((h + x.float()).double()),
    "summed letters": lambda x, h, w: w(h) + torch.einsum("bi,bi->b", h, h)[:, None],
}


# A comparison times a number is float32, whatever the input.
SINGLE = {"two types", *(name for name in ODD if name.startswith(("comparison", "count")))}


@pytest.mark.filterwarnings("ignore::fwdkern.errors.CompletenessWarning")
@pytest.mark.parametrize("name", ODD)
def test_maps_are_complete_in_both_modes(name: str) -> None:
    model, x = _Odd(ODD[name]).double().eval(), torch.randn(3, 6, dtype=torch.float64)
    net = fwdkern.fuse(model, x)
    forward, reverse = (net.attribute(x, "all", mode=mode) for mode in ("forward", "reverse"))
    tolerance = 1e-6 if name in SINGLE else 1e-12
    for found in (forward, reverse):
        assert found.delta.abs().max() < tolerance
        assert torch.allclose(found.outputs, model(x), rtol=0, atol=tolerance)
    assert torch.allclose(forward.scores, reverse.scores, rtol=0, atol=tolerance)
    assert torch.allclose(forward.bias, reverse.bias, rtol=0, atol=tolerance)
    alone = torch.cat([net.attribute(example, "all", mode="reverse").scores for example in x.split(1)])
    assert torch.allclose(reverse.scores, alone, rtol=0, atol=tolerance)


@pytest.mark.parametrize("function", [lambda x, h, w: w(h.softmax(0)), lambda x, h, w: torch.einsum("bi->", h)[None]])
def test_what_mixes_examples_is_refused(function: Callable[..., Tensor]) -> None:
    x = torch.randn(3, 6)
    net = fwdkern.fuse(_Odd(function).eval(), x)
    with pytest.raises(UnsupportedOperatorError):
        net.attribute_units(x, net.layers[-1].name)


class _Products(nn.Module):
    def __init__(self, norm: bool) -> None:
        super().__init__()
        self.conv, self.last, self.norm = nn.Conv2d(2, 4, 3, padding=1), nn.Linear(4, 3), norm

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x).relu()
        if self.norm:
            return self.last(torch.linalg.vector_norm(y, dim=(2, 3)))
        return torch.bmm(y.flatten(2), y.flatten(2).transpose(1, 2))


@pytest.mark.parametrize("norm", [True, False])
def test_what_rows_cannot_hold_runs_dense(norm: bool) -> None:
    x = torch.randn(2, 2, 8, 8)
    net = fwdkern.fuse(_Products(norm).eval(), x)
    found = net.attribute_units(x, net.layers[-1].name, strict=True)
    assert found.mode in ("forward", "reverse")
    with pytest.raises(fwdkern.errors.BackendError, match=r"weighs what it sums|product of matrices"):
        net.attribute_units(x, net.layers[-1].name, backend="cpu")


CHANGES: dict[str, Callable[[nn.Sequential], object]] = {
    "a parameter": lambda m: setattr(m[2], "weight", nn.Parameter(torch.randn(3, 5))),
    "its data": lambda m: setattr(m[2].weight, "data", torch.randn(3, 5)),
    "assigned state": lambda m: m.load_state_dict({k: v + 1 for k, v in m.state_dict().items()}, assign=True),
    "a layer": lambda m: m.__setitem__(2, nn.Linear(5, 3).eval()),
    "an activation": lambda m: m.__setitem__(1, nn.Identity().eval()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_replaced_part_is_a_change(change: str) -> None:
    model, x = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).eval(), torch.randn(2, 4)
    relevance, net = ForwardRelevance(model), fwdkern.fuse(model, x)
    relevance.attribute(x, target=0)
    CHANGES[change](model)
    with pytest.raises(InputError, match="changed after fuse"):
        net.attribute(x)
    expected = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(expected)[:, 0].sum(), expected)
    assert torch.allclose(relevance.attribute(x, target=0), x * gradient, atol=1e-6)


def test_a_moved_model_is_no_change() -> None:
    model, x = nn.Sequential(nn.Linear(4, 3)).eval(), torch.randn(2, 4)
    net = fwdkern.fuse(model, x)
    model.double()
    assert net.attribute(x).delta.abs().max() < 1e-5


class Spread(nn.Module):
    """Three examples of three channels: the sum over channels, [3, 4], meets [3, 3, 4] channel by channel, although its
    first dimension counts examples."""

    def __init__(self, combine: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.combine = combine

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(3, 3, 4)
        return self.combine(x.sum(1), x).flatten(1)


@pytest.mark.parametrize("combine", [torch.add, torch.mul, torch.maximum, lambda a, b: torch.where(a > 0, b, a)])
def test_an_operand_whose_examples_meet_channels_is_refused(combine: Callable[[Tensor, Tensor], Tensor]) -> None:
    x = torch.randn(3, 3, 4)
    net = fwdkern.fuse(Spread(combine).eval(), x)
    with pytest.raises(UnsupportedOperatorError, match=r"fewer dimensions are spread along the batch"):
        net.attribute(x, 0)
    net = fwdkern.fuse(Spread(lambda a, b: combine(a[:, None], b)).eval(), x)
    assert_close(net.attribute(x, "all", strict=True).outputs, net(x), 1e-6)


@pytest.mark.parametrize("backend", ["torch", "cpu"])
@pytest.mark.parametrize("bias", ["uniform", "receptive_field", "separate"])
def test_a_bias_of_units_that_see_nothing_is_outside_of_their_windows(bias: str, backend: str) -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, (2, 1), (2, 3)), nn.ConvTranspose2d(4, 4, 2, 2, output_padding=1)).eval()
    x = torch.randn(2, 2, 9, 7)
    net = fwdkern.fuse(model, x)  # its last line and column are padding of the output
    request = {"bias": bias, "backend": backend, "strict": True}
    found = net.attribute_units(x, "1", "all", layout="window", **request)
    whole = net.attribute_units(x, "1", "all", **request)
    assert_close(found.delta, whole.delta, 1e-5)
    if bias == "receptive_field":
        blind = (found.units[:, 1] == 8) | (found.units[:, 2] == 6)
        assert found.outside is not None and (found.outside[:, blind] != 0).all() and not found.outside[:, ~blind].any()
