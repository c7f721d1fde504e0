"""The front door: forms of targets and layouts, image sizes, changed weights, compilation."""

import pytest
import torch
from torch import Tensor, nn

import fwdkern
from fwdkern import FusedModel
from fwdkern.errors import InputError, LayerError
from tests.networks.random_networks import LAYOUTS
from tests.oracle import assert_close, autograd


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 5),
    )
    layers[1].running_mean.add_(0.1)
    return layers.double().eval()


def image(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture(scope="module")
def model() -> nn.Sequential:
    return network()


@pytest.fixture(scope="module")
def net(model: nn.Sequential) -> FusedModel:
    return fwdkern.fuse(model, image(2, 3, 8, 8))


X = image(2, 3, 8, 8)

TARGETS: dict[str, tuple[object, list[list[int]]]] = {
    "a class": (3, [[3], [3]]),
    "one each": ([1, 4], [[1], [4]]),
    "one each, tensor": (torch.tensor([1, 4]), [[1], [4]]),
    "several each": ([[0, 1, 2], [2, 3, 4]], [[0, 1, 2], [2, 3, 4]]),
    "several each, int32": (torch.tensor([[0, 1], [2, 3]], dtype=torch.int32), [[0, 1], [2, 3]]),
    "all": ("all", [[0, 1, 2, 3, 4]] * 2),
}


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
@pytest.mark.parametrize("name", TARGETS)
def test_targets(net: FusedModel, model: nn.Module, name: str, mode: str) -> None:
    target, classes = TARGETS[name]
    found = net.attribute(X, target, mode=mode, strict=True)
    assert found.units.tolist() == classes
    expected = autograd(model, X, torch.tensor(classes))
    assert_close(found.scores, expected.uniform)
    assert_close(found.outputs, expected.outputs)
    assert found.delta.abs().max() < 1e-12


def test_default_target_is_each_inputs_top_class(net: FusedModel, model: nn.Module) -> None:
    assert net.attribute(X).units[:, 0].equal(model(X).argmax(1))


def test_several_targets_of_a_single_input(net: FusedModel) -> None:
    assert net.attribute(X[:1], [4, 0, 4]).units.tolist() == [[4, 0, 4]]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(net: FusedModel, layout: str) -> None:
    x = LAYOUTS[layout](X)
    for mode in ("forward", "reverse"):
        expected = net.attribute(x.clone(memory_format=torch.contiguous_format), 0, mode=mode)
        assert_close(net.attribute(x, 0, mode=mode, strict=True).scores, expected.scores)


def test_one_pixel_and_dead_layers() -> None:
    layers = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 2, 1), nn.Flatten()).double().eval()
    nn.init.constant_(layers[0].bias, -1e3)
    x = image(2, 2, 1, 1)
    net = fwdkern.fuse(layers, x)
    for mode in ("forward", "reverse"):
        found = net.attribute(x, "all", mode=mode, strict=True)
        assert_close(found.scores, layers[2].bias.detach().expand(2, 2)[..., None, None])
        apart = net.attribute(x, "all", bias="separate", mode=mode, strict=True)
        assert not apart.scores.any() and apart.bias.equal(found.outputs)


def test_vectors() -> None:
    layers = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)).double().eval()
    x = image(3, 6)
    net = fwdkern.fuse(layers, x)
    expected = autograd(layers, x)
    for mode in ("forward", "reverse"):
        assert_close(net.attribute(x, "all", mode=mode, strict=True).scores, expected.uniform)


def test_inputs_with_a_history_give_results_without(net: FusedModel) -> None:
    for mode in ("forward", "reverse"):
        assert not net.attribute(X.clone().requires_grad_(), mode=mode).scores.requires_grad
    with torch.inference_mode():
        assert_close(net.attribute(X, 0).scores, net.attribute(X, 0).scores)


def test_another_image_size_is_captured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).double().eval()
    net = fwdkern.fuse(layers, X)
    for size in (9, 12):
        x = image(2, 3, size, size)
        assert_close(net(x), layers(x).detach())
        assert_close(net.attribute(x, "all", strict=True).scores, autograd(layers, x).uniform)
    monkeypatch.setattr(fwdkern.model, "build_network", lambda *_: pytest.fail("captured a second time"))
    net.attribute(image(1, 3, 9, 9))
    net(image(5, 3, 12, 12))


def test_an_empty_batch_runs_but_explains_nothing(net: FusedModel) -> None:
    assert net(X[:0]).shape == (0, 5)
    with pytest.raises(InputError, match=r"hold no example: shape \[0, 3, 8, 8\]"):
        net.attribute(X[:0])


def test_changed_weights_are_noticed() -> None:
    layers = network()
    net = fwdkern.fuse(layers, X)
    before = net(X)
    layers(X)  # running it changes nothing
    net(X)
    with torch.no_grad():
        layers[0].weight.mul_(2)
    for call in (lambda: net(X), lambda: net.attribute(X), lambda: net.attribute_units(X, "2")):
        with pytest.raises(InputError, match=r"first: '0.weight'.*call fwdkern\.fuse again"):
            call()
    assert not fwdkern.fuse(layers, X)(X).equal(before)


def test_changed_statistics_are_noticed() -> None:
    layers = network()
    net = fwdkern.fuse(layers, X)
    layers.train()(X.clone())
    with pytest.raises(InputError, match=r"'1\.num_batches_tracked'"):
        net(X)


def test_compile_and_export(net: FusedModel, model: nn.Module) -> None:
    expected = model(X).detach()
    assert_close(torch.compile(net, fullgraph=True, backend="aot_eager")(X).detach(), expected)
    for strict in (False, True):
        exported = torch.export.export(net, (X,), strict=strict)
        assert_close(exported.module()(X).detach(), expected)


def test_a_fused_network_can_be_fused(net: FusedModel) -> None:
    again = fwdkern.fuse(net, X)
    assert_close(again.attribute(X, 1, strict=True).scores, net.attribute(X, 1).scores)


def test_a_tuple_of_one_is_one(model: nn.Module, net: FusedModel) -> None:
    assert_close(fwdkern.fuse(model, (X,)).attribute([X], 0).scores, net.attribute(X, 0).scores)  # type: ignore[arg-type]


def test_report_says_what_was_done(net: FusedModel) -> None:
    report = net.report()
    assert "5 layers: 4 run in drop-in modules, 1 as plain operators; 1 layers folded" in report
    assert "batch size: any" in report and "layers without a rule: none" in report


def test_receptive_fields_of_a_network_whose_only_weights_are_not_parameters() -> None:
    """A PReLU's slope is kept as a constant, in its own dtype."""
    net = fwdkern.fuse(nn.Sequential(nn.PReLU()).double().eval(), image(1, 1, 2, 2))
    assert net.receptive_field(net.layers[-1].name, torch.tensor([[0, 1, 0]])).tolist() == [[1, 0, 2, 1]]


class _OneNumber(nn.Module):
    """A layer that is one number for each example."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3), nn.Linear(1, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).relu().mean((1, 2, 3))[:, None])


def test_a_layer_of_one_number_has_one_unit() -> None:
    model, x = _OneNumber().double().eval(), torch.randn(2, 1, 6, 6, dtype=torch.float64)
    net = fwdkern.fuse(model, x)
    (name,) = (layer.name for layer in net.layers if layer.shape == ())
    for mode in ("forward", "reverse"):
        found = net.attribute_units(x, name, mode=mode)
        assert found.units.shape == (1, 0) and found.scores.shape == (2, 1, 6, 6)
        assert torch.allclose(found.outputs[:, 0], model.conv(x).relu().mean((1, 2, 3)))
        assert found.delta.abs().max() < 1e-14
    assert net.contributions(x, 0, name).shares.shape == (2,)
    assert net.decompose(x, 0, name, top=1).delta.abs().max() < 1e-14
    with pytest.raises(InputError, match="without channels"):
        net.attribute_units(x, name, units="channels")


def test_layers_before_a_batch_norm_keep_their_values_at_every_size_unless_folded() -> None:
    body = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = nn.Sequential(body, nn.Linear(3, 2)).double().eval()
    x, other = torch.randn(2, 2, 6, 5).double(), torch.randn(2, 2, 8, 7).double()
    net, folded = fwdkern.fuse(model, x, fold=False), fwdkern.fuse(model, x)
    for images in (x, other):
        sums = net.attribute_units(images, "0.0", "channels")
        assert_close(sums.outputs, body[0](images).detach().sum((2, 3)))
        assert_close(net.attribute(images, 1).scores, folded.attribute(images, 1).scores)
    with pytest.raises(LayerError, match="fuse with fold=False"):
        folded.attribute_units(other, "0.0", "channels")
