"""Class maps as sums of unit maps, against autograd."""

import functools

import pytest
import torch
from torch import Tensor, nn

import fwdkern
from fwdkern import FusedModel
from fwdkern.errors import InputError, LayerError, UnsupportedOperatorError
from tests.networks.families import randomise
from tests.oracle import assert_close, autograd

pytestmark = pytest.mark.usefixtures("native_library")


class Bypassed(nn.Module):
    """A layer ``hidden`` with paths to the classes around it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.hidden = nn.Conv2d(4, 4, 3, padding=1)
        self.skip = nn.Conv2d(2, 4, 1)
        self.head = nn.Linear(4 * 3 * 3, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.stem(x))
        y = torch.relu(self.hidden(y) + y + self.skip(x))
        return self.head(nn.functional.max_pool2d(y, 2).flatten(1))


@functools.cache
def setting(dtype: torch.dtype) -> tuple[nn.Module, FusedModel, Tensor]:
    network = randomise(Bypassed()).eval().to(dtype)
    x = torch.randn(3, 2, 6, 7, generator=torch.Generator().manual_seed(1)).to(dtype)
    return network, fwdkern.fuse(network, x), x


class Gated(nn.Module):
    """A layer ``gate`` whose value is frozen into a factor, so that no part of the classes is its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.gate = nn.Conv2d(2, 4, 1), nn.Conv2d(2, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return (self.stem(x) * torch.sigmoid(self.gate(x))).mean((2, 3))


def tolerance(dtype: torch.dtype) -> float:
    return 1e-10 if dtype is torch.float64 else 1e-5


DTYPES = [torch.float32, torch.float64]


@functools.cache
def gains(layer: str) -> tuple[Tensor, Tensor]:
    """g_u [B, units] of the top class with respect to a layer, and the layer's values, by autograd in float64."""
    network, _, x = setting(torch.float64)
    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_())
        return kept[0]

    with torch.no_grad():
        top = network(x).argmax(1, keepdim=True)
    hook = network.get_submodule(layer).register_forward_hook(keep)
    try:
        (gradient,) = torch.autograd.grad(network(x).gather(1, top).sum(), kept[0])
    finally:
        hook.remove()
    return gradient.flatten(1), kept[0].detach().flatten(1)


@pytest.mark.parametrize("top", [1, 7, 168, 10_000])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layer", ["hidden", "stem"])
def test_rows_are_unit_maps_and_an_exact_rest(layer: str, dtype: torch.dtype, top: int) -> None:
    _, net, x = setting(dtype)
    found = net.decompose(x, None, layer, top=top)
    gain, value = gains(layer)
    share = gain * value
    count = min(top, share.shape[1])
    assert found.scores.shape == (3, count + 1, 6, 7) and found.units.shape == (3, count, 3)
    flat = (found.units[..., 0] * 6 + found.units[..., 1]) * 7 + found.units[..., 2]
    assert all(len(row.unique()) == count for row in flat)
    # Biggest first, and none that was left out is bigger.
    strength = found.outputs[:, :-1].abs()
    slack = tolerance(dtype) * strength.max()
    assert (strength[:, 1:] <= strength[:, :-1] + slack).all()
    assert_close(strength, share.abs().sort(1, descending=True).values[:, :count].to(dtype), tolerance(dtype))
    assert_close(found.outputs[:, :-1], share.gather(1, flat).to(dtype), tolerance(dtype))
    # Each row is the unit's own map times its weight; the rest is what remains of the class map.
    exact, _, same = setting(torch.float64)
    flat = flat[:, :30]
    own = autograd(exact, same, flat, layer).uniform * gain.gather(1, flat)[:, :, None, None]
    assert_close(found.scores[:, : flat.shape[1]].to(own.dtype), own, tolerance(dtype))
    with torch.no_grad():
        classes = exact(same).argmax(1, keepdim=True)
    whole = autograd(exact, same, classes)
    assert_close(found.scores.sum(1), whole.uniform[:, 0].to(dtype), 3 * tolerance(dtype))
    assert_close(found.outputs.sum(1), whole.outputs[:, 0].to(dtype), tolerance(dtype))
    assert_close(found.bias.sum(1), whole.bias[:, 0].to(dtype), 3 * tolerance(dtype))
    assert_close(found.delta, torch.zeros_like(found.delta), 3 * tolerance(dtype))
    rest = found.scores[:, -1]
    if layer == "hidden" and top >= 168:
        # With every unit taken the rest is what went around the layer: not nothing here.
        assert rest.abs().max() > 0.01


def test_without_a_way_around_the_rest_is_the_bias_behind() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(18, 3)).eval()
    x = torch.randn(2, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    net = fwdkern.fuse(network, x)
    found = net.decompose(x, 1, "1", top=18, bias="separate")
    assert not found.scores[:, -1].any()
    assert_close(found.bias[:, -1], network[3].bias[1].detach().expand(2), 1e-6)
    assert_close(found.outputs[:, -1], network[3].bias[1].detach().expand(2), 1e-5)


@pytest.mark.parametrize("backend", ["torch", "cpu"])
@pytest.mark.parametrize("bias", ["uniform", "separate"])
@pytest.mark.parametrize("features", ["pixels", "channels", "segments", "segments for each"])
def test_features_and_bias_forms(features: str, bias: str, backend: str) -> None:
    _, net, x = setting(torch.float32)
    labels = torch.randint(5, (3, 6, 7), generator=torch.Generator().manual_seed(0))
    chosen = {"segments": labels[0], "segments for each": labels}.get(features, features)
    found = net.decompose(x, 3, "hidden", 6, chosen, bias, backend)
    whole = net.attribute(x, 3, chosen, bias, backend=backend)
    assert_close(found.scores.sum(1), whole.scores[:, 0], 1e-5)
    assert_close(found.bias.sum(1), whole.bias[:, 0], 1e-5)
    assert_close(found.delta, torch.zeros_like(found.delta), 1e-5)
    assert (found.features, found.layer) == (whole.features, "hidden")
    assert "hidden" in found.note and "rest" in found.note


@pytest.mark.parametrize("target", [None, 2, [1, 0, 4], torch.tensor([3, 3, 0]), torch.tensor([[1], [2], [3]])])
def test_target_forms(target: object) -> None:
    _, net, x = setting(torch.float32)
    found, whole = net.decompose(x, target, "hidden"), net.attribute(x, target)  # type: ignore[arg-type]
    assert found.scores.shape[1] == 17
    assert_close(found.scores.sum(1), whole.scores[:, 0], 1e-5)


@pytest.mark.parametrize("target", ["all", torch.tensor([[0, 1], [1, 2], [2, 3]])])
def test_one_class_an_input(target: object) -> None:
    _, net, x = setting(torch.float32)
    with pytest.raises(InputError, match="one class per input can be split, not"):
        net.decompose(x, target, "hidden")  # type: ignore[arg-type]


@pytest.mark.parametrize("top", [0, -1, 2.0, "3", None])
def test_bad_top(top: object) -> None:
    _, net, x = setting(torch.float32)
    with pytest.raises(InputError, match="not a positive number of units"):
        net.decompose(x, 0, "hidden", top=top)  # type: ignore[arg-type]


def test_bad_arguments() -> None:
    _, net, x = setting(torch.float32)
    with pytest.raises(LayerError, match="no layer is called 'hiden'"):
        net.decompose(x, 0, "hiden")
    with pytest.raises(InputError, match="no meaning for the rest row"):
        net.decompose(x, 0, "hidden", bias="receptive_field")
    with pytest.raises(InputError, match="out of range"):
        net.decompose(x, 5, "hidden")
    with pytest.raises(InputError, match="does not lead to the network's output"):
        fwdkern.fuse(Gated().eval(), x).decompose(x, 0, "gate")


def test_a_strong_unit_comes_first() -> None:
    network = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False)).eval()
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[1.0, 0, 0], [0, 2, 0], [0, 0, -9], [1, 1, 1]]))
        network[1].weight.copy_(torch.tensor([[1.0, 1, 1, 0], [0, 0, 0, 1]]))
    x = torch.ones(1, 3)
    net = fwdkern.fuse(network, x)
    found = net.decompose(x, 0, "0", top=2)
    assert found.units.tolist() == [[[2], [1]]]
    assert found.outputs.tolist() == [[-9, 2, 1]]
    assert found.scores.tolist() == [[[0, 0, -9], [0, 2, 0], [1, 0, 0]]]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layer", ["hidden", "stem"])
def test_contributions_are_values_times_weights(layer: str, dtype: torch.dtype) -> None:
    network, net, x = setting(dtype)
    found = net.contributions(x, None, layer)
    gain, value = gains(layer)
    assert_close(found.shares.flatten(1), (gain * value).to(dtype), tolerance(dtype))
    with torch.no_grad():
        scores, classes = network(x).max(1)
    assert torch.equal(found.target, classes)
    assert_close(found.outputs, scores, tolerance(dtype))
    assert found.layer == layer and found.shares.shape[1:] == net.layer(layer).shape
    assert_close(found.delta, torch.zeros_like(found.delta), 3 * tolerance(dtype))
    assert found.rest.abs().min() > 1e-3  # paths around the layer, and biases behind it


def test_contributions_of_chosen_classes() -> None:
    _, net, x = setting(torch.float32)
    found, whole = net.contributions(x, [4, 0, 2], "stem"), net.decompose(x, [4, 0, 2], "stem", top=168)
    assert found.target.tolist() == [4, 0, 2]
    assert_close(found.outputs, whole.outputs.sum(1), 1e-5)
    with pytest.raises(InputError, match="one class per input"):
        net.contributions(x, torch.tensor([[0, 1]] * 3), "stem")
    with pytest.raises(LayerError, match="no layer is called"):
        net.contributions(x, 0, "stern")
    with pytest.raises(InputError, match="does not lead"):
        fwdkern.fuse(Gated().eval(), x).contributions(x, 0, "gate")
    own = net.contributions(x, 1, net.layers[-1].name)
    assert not own.rest.any() and own.shares[:, 1].equal(own.outputs)


class _Unruled(nn.Module):
    """An operator without a rule below the layer ``hidden``, and on demand a path that leads around it."""

    def __init__(self, around: bool) -> None:
        super().__init__()
        self.hidden, self.head, self.around = nn.Linear(4, 5), nn.Linear(5, 3), around

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        below = x.cumprod(1)
        scores = self.head(self.hidden(below).relu())
        return scores + below[:, :3] if self.around else scores


def test_contributions_need_no_rule_below_the_layer_unless_a_path_leads_around_it() -> None:
    model, x = _Unruled(around=False).eval(), torch.randn(2, 4)
    found = fwdkern.fuse(model, x).contributions(x, [2, 0], "hidden")
    value = model.hidden(x.cumprod(1))
    assert_close(found.shares, value.relu() * model.head.weight[[2, 0]], 1e-6)
    assert_close(found.rest, model.head.bias[[2, 0]], 1e-6)
    with pytest.raises(UnsupportedOperatorError, match="cumprod"):
        fwdkern.fuse(_Unruled(around=True).eval(), x).contributions(x, 0, "hidden")
