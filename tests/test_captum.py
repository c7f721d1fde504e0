"""fwdkern.captum beside captum itself: the same arguments give the same numbers on networks of ReLUs."""

import functools
import importlib.util
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fwdkern
from fwdkern.captum import ForwardRelevance, LayerForwardRelevance, NeuronForwardRelevance
from fwdkern.errors import InputError, LayerError
from tests.networks.families import FAMILIES, randomise
from tests.oracle import assert_close

attr = pytest.importorskip("captum.attr")


class Net(nn.Module):
    """Two blocks and a head; ``dense`` returns maps [B, 3, H, W] instead of classes, ``single`` one number [B]."""

    def __init__(self, output: str = "classes") -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.body = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 3, 1))
        self.head = nn.Linear(3 * 9, 5)
        self.output = output

    def forward(self, x: Tensor) -> Tensor:
        maps = self.body(self.stem(x))
        if self.output == "dense":
            return maps
        scores = self.head(maps.flatten(1))
        return scores[:, 0] if self.output == "single" else scores


def net(output: str = "classes") -> Net:
    return _networks(output)[0]


def fused(output: str = "classes") -> fwdkern.FusedModel:
    return _networks(output)[1]


@functools.cache
def _networks(output: str) -> tuple[Net, fwdkern.FusedModel]:
    model = randomise(Net(output)).double().eval()
    return model, fwdkern.fuse(model, images())


def images(count: int = 3) -> Tensor:
    return torch.randn(count, 2, 6, 6, dtype=torch.float64)


TARGETS = {
    "classes": [1, torch.tensor(4), torch.tensor([2]), torch.tensor([0, 3, 1]), [4, 4, 2], (2,), [(1,), (0,), (3,)]],
    "dense": [(2, 1, 0), [(0, 0, 0), (1, 2, 2), (2, 0, 1)]],
    "single": [None],
}
CASES = [(output, target) for output, targets in TARGETS.items() for target in targets]


@pytest.mark.parametrize(("output", "target"), CASES, ids=repr)
def test_input_x_gradient(output: str, target: Any) -> None:
    x = images()
    expected = attr.InputXGradient(net(output)).attribute(x, target=target)
    ours = ForwardRelevance(fused(output))
    found, delta = ours.attribute(x, target=target, return_convergence_delta=True)
    assert_close(found, expected.detach())
    assert delta.shape == (3,) and delta.abs().max() < 1e-10
    for size in (1, 2, 5):
        parts = ours.attribute((x,), target, internal_batch_size=size)
        assert isinstance(parts, tuple) and len(parts) == 1
        assert_close(parts[0], found)
    assert_close(ours.compute_convergence_delta(found, None, x, target), delta)
    moved = ours.compute_convergence_delta((found + 0.5,), torch.zeros_like(x), (x,), target)
    assert_close(moved, torch.full((3,), 0.5 * x[0].numel(), dtype=x.dtype))


@pytest.mark.parametrize(("output", "target"), CASES, ids=repr)
@pytest.mark.parametrize("of_input", [False, True])
def test_layer_gradient_x_activation(output: str, target: Any, of_input: bool) -> None:
    x, model = images(), net(output)
    for layer in (model.stem, model.stem[0], model.stem[2], model.body, model.body[1], model.body[2], model.head):
        if output == "dense" and layer is model.head:
            continue
        expected = attr.LayerGradientXActivation(model, layer).attribute(x, target, attribute_to_layer_input=of_input)
        ours = LayerForwardRelevance(fused(output), layer)
        found, delta = ours.attribute(
            x, target, attribute_to_layer_input=of_input, return_convergence_delta=True, internal_batch_size=2
        )
        assert_close(found, expected.detach())
        assert delta.shape == (3,) and delta.abs().max() < 1e-10
        if not of_input:
            moved = ours.compute_convergence_delta(found - 1, 0, x, target)
            assert_close(moved, torch.full((3,), -float(found[0].numel()), dtype=x.dtype))


SELECTORS: list[Any] = [
    (1, 2, 0),
    (slice(None), 1, 1),
    (0, slice(0, 2), slice(1, None)),
    lambda value: value[:, 1].sum((1, 2)) - 3 * value[:, 0, 0, 0],
    lambda value: value.flatten(1).max(1).values,
]


@pytest.mark.parametrize("selector", SELECTORS, ids=[*map(str, SELECTORS[:3]), "linear", "largest"])
@pytest.mark.parametrize("of_input", [False, True])
def test_neuron_gradient(selector: Any, of_input: bool) -> None:
    x, model = images(), net()
    for layer in (model.stem, model.stem[0], model.stem[1], model.body[1], model.body[2]):
        leaf = x.clone().requires_grad_()
        gradient = attr.NeuronGradient(model, layer).attribute(leaf, selector, attribute_to_neuron_input=of_input)
        ours = NeuronForwardRelevance(fused(), layer)
        found, delta = ours.attribute(
            x, selector, attribute_to_neuron_input=of_input, return_convergence_delta=True, internal_batch_size=2
        )
        assert_close(found, gradient * x)
        assert delta.shape == (3,) and delta.abs().max() < 1e-10


def test_a_neuron_of_a_layer_of_one_dimension_and_what_a_function_leaves_out() -> None:
    x, model = images(), net()
    expected = attr.NeuronGradient(model, model.head).attribute(x.clone().requires_grad_(), 3) * x
    ours = NeuronForwardRelevance(fused(), "head")
    assert_close(ours.attribute(x, neuron_selector=3), expected)
    assert_close(ours.attribute(x, (3,)), expected)
    moved = ours.compute_convergence_delta(expected + 0.25, None, x, 3)
    assert_close(moved, torch.full((3,), 0.25 * x[0].numel(), dtype=x.dtype))
    _, delta = ours.attribute(x, lambda scores: scores[:, 3] ** 2, return_convergence_delta=True)
    assert_close(delta, model(x)[:, 3].detach() ** 2)  # the derivative 2 s, times s, is s² too much


def test_several_layers_and_names() -> None:
    x, model = images(), net()
    layers = [model.stem, "body.1"]
    found = LayerForwardRelevance(fused(), layers).attribute(x, 1)
    expected = attr.LayerGradientXActivation(model, [model.stem, model.body[1]]).attribute(x, 1)
    for own, other in zip(found, expected, strict=True):
        assert_close(own, other.detach())
    with pytest.raises(InputError, match="this method has 2 layers"):
        LayerForwardRelevance(fused(), layers).compute_convergence_delta(found[0], None, x, 1)


@pytest.mark.parametrize("name", ["mlp", "vgg_bn", "resnext"])
def test_families(name: str) -> None:
    factory, shape = FAMILIES[name]
    model, x = factory().double(), torch.randn(2, *shape, dtype=torch.float64)
    target = torch.tensor([1, 7])
    expected = attr.InputXGradient(model).attribute(x, target).detach()
    assert_close(ForwardRelevance(model).attribute(x, target), expected)


def test_other_shapes_weights_and_dtypes_are_followed() -> None:
    model = randomise(nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())).eval()
    ours, theirs = ForwardRelevance(model), attr.InputXGradient(model)

    def agree(x: Tensor, tolerance: float) -> None:
        assert_close(ours.attribute(x, 1), theirs.attribute(x, 1).detach(), tolerance)

    agree(torch.randn(2, 2, 8, 8), 1e-5)
    agree(torch.randn(1, 2, 11, 5), 1e-5)
    with torch.no_grad():
        model[0].weight.mul_(-2)
    agree(torch.randn(2, 2, 8, 8), 1e-5)
    model.double()
    agree(torch.randn(2, 2, 8, 8).double(), 1e-12)
    model.train()
    with pytest.raises(InputError, match="training mode"):
        ours.attribute(torch.randn(2, 2, 8, 8).double(), 1)


def test_modules_around_a_batch_norm() -> None:
    model = randomise(nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2)))
    model, x = model.double().eval(), images()
    folded = fwdkern.fuse(model, x)
    for layer in model[:3]:
        for of_input in (False, True):
            expected = attr.LayerGradientXActivation(model, layer).attribute(x, 1, attribute_to_layer_input=of_input)
            found = LayerForwardRelevance(model, layer).attribute(x, 1, attribute_to_layer_input=of_input)
            assert_close(found, expected.detach())
            if (layer, of_input) not in ((model[0], False), (model[1], True)):
                own = LayerForwardRelevance(folded, layer).attribute(x, 1, attribute_to_layer_input=of_input)
                assert_close(own, expected.detach())
    neuron = NeuronForwardRelevance(model, model[0]).attribute(x, (1, 2, 3))
    assert_close(neuron, attr.NeuronGradient(model, model[0]).attribute(x, (1, 2, 3)) * x)
    with pytest.raises(LayerError, match=r"folded into '1'.*fuse with fold=False"):
        LayerForwardRelevance(folded, model[0]).attribute(x, 1)
    with pytest.raises(LayerError, match="folded into it with '0'"):
        LayerForwardRelevance(folded, model[1]).attribute(x, 1, attribute_to_layer_input=True)
    apart = fwdkern.fuse(model, x, fold=False)
    assert_close(apart.attribute(x).scores, folded.attribute(x).scores)
    assert [layer.name for layer in apart.layers][:2] == ["0", "1"]


class Reader(nn.Module):
    """Classes of tokens [B, T], or of their vectors [B, T, D]."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.hidden, self.head = nn.Embedding(11, 4), nn.Linear(4, 8), nn.Linear(8, 3)

    def classes(self, vectors: Tensor) -> Tensor:
        return self.head(self.hidden(vectors).relu().mean(1))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.classes(self.embedding(tokens))


def test_tokens() -> None:
    model, tokens = Reader().double().eval(), torch.randint(11, (3, 6))
    vectors = model.embedding(tokens).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(model.classes(vectors)[:, 2].sum(), vectors)
    expected = (gradient * vectors).detach()  # [3, 6, 4]
    found, delta = ForwardRelevance(model).attribute(tokens, 2, return_convergence_delta=True)
    assert_close(found, expected.sum(2))
    assert delta.abs().max() < 1e-10
    assert_close(LayerForwardRelevance(model, model.embedding).attribute(tokens, 2), expected)
    layer = attr.LayerGradientXActivation(model, model.embedding).attribute(tokens, 2)
    assert_close(layer.detach(), expected)
    neuron = NeuronForwardRelevance(model, model.head).attribute(tokens, 2)
    assert_close(neuron, expected.sum(2))


def test_captums_noise_tunnel_and_metrics_take_them() -> None:
    from captum import metrics

    x, model = images(), net()
    ours, theirs = ForwardRelevance(model), attr.InputXGradient(model)
    found = [
        attr.NoiseTunnel(method).attribute(x, nt_type="smoothgrad", nt_samples=3, stdevs=0.0, target=1)
        for method in (ours, theirs)
    ]
    assert_close(found[0], found[1].detach())
    assert float(metrics.sensitivity_max(ours.attribute, x, target=1, perturb_radius=0.0).max()) < 1e-10


def test_quantus_takes_it() -> None:
    if importlib.util.find_spec("quantus") is None:
        pytest.skip("quantus is not installed")
    import quantus

    def explain(model: nn.Module, inputs: Any, targets: Any, **keywords: Any) -> Any:
        target = torch.as_tensor(targets).long()
        return ForwardRelevance(model).attribute(torch.as_tensor(inputs).float(), target).numpy()

    model, x = randomise(Net()).eval(), images().float()
    classes = model(x).argmax(1)
    arguments: dict[str, Any] = {"model": model, "x_batch": x.numpy(), "y_batch": classes.numpy(), "a_batch": None}
    flips = quantus.PixelFlipping(features_in_step=12, disable_warnings=True, display_progressbar=False)
    assert len(flips(**arguments, explain_func=explain)) == 3
    randomised = quantus.MPRT(disable_warnings=True, display_progressbar=False, return_average_correlation=True)
    assert len(randomised(**arguments, explain_func=explain)) == 3


WRONG: list[tuple[Callable[[Any, Tensor], object], str]] = [
    (lambda m, x: ForwardRelevance(m.forward), "model must be a torch.nn.Module"),
    (lambda m, x: ForwardRelevance(m).attribute((x, x), 1), "tuple of 2 tensors"),
    (lambda m, x: ForwardRelevance(m).attribute(x[:0], 1), "not empty"),
    (lambda m, x: ForwardRelevance(m).attribute(None, 1), "got NoneType"),
    (lambda m, x: ForwardRelevance(m).attribute(x, 1, 2), "additional_forward_args must be None"),
    (lambda m, x: ForwardRelevance(m).attribute(x), "target=None is for models that return one number"),
    (lambda m, x: ForwardRelevance(m).attribute(x, [1, 2]), "one entry for each of 3"),
    (lambda m, x: ForwardRelevance(m).attribute(x, 9), "out of range"),
    (lambda m, x: ForwardRelevance(m).attribute(x, (1, 2)), "2 coordinates"),
    (lambda m, x: ForwardRelevance(m).attribute(x, [(1,), (2, 3), (1,)]), "cannot be read"),
    (lambda m, x: ForwardRelevance(m).attribute(x, 1.5), "one entry for each|integers"),
    (lambda m, x: ForwardRelevance(m).attribute(x, 1, internal_batch_size=0), "internal_batch_size=0"),
    (lambda m, x: ForwardRelevance(m).compute_convergence_delta(x, x, x, 1), "start_point must be None"),
    (lambda m, x: NeuronForwardRelevance(m, "body").attribute(x, 1), "give 3 integers"),
    (lambda m, x: NeuronForwardRelevance(m, "body").attribute(x, (1, 1, 9)), "outside the layer's output"),
    (lambda m, x: NeuronForwardRelevance(m, "body").attribute(x, lambda v: v.sum()), "into .3. numbers"),
    (lambda m, x: NeuronForwardRelevance(m, "body").attribute(x, lambda v: 1.0), "returned float"),
]


@pytest.mark.parametrize(("call", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_cannot_be_served_is_refused(call: Callable[[Any, Tensor], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(fused(), images())


def test_unknown_layers_are_refused() -> None:
    x = images()
    with pytest.raises(LayerError, match=r"close: 'body\.2'"):
        LayerForwardRelevance(net(), "body.l").attribute(x, 1)
    with pytest.raises(LayerError, match="not a module of this Net"):
        LayerForwardRelevance(net(), nn.ReLU()).attribute(x, 1)
    relu = nn.ReLU()
    twice = nn.Sequential(nn.Conv2d(2, 2, 1), relu, nn.Conv2d(2, 2, 1), relu, nn.Flatten()).double().eval()
    with pytest.raises(LayerError, match="called several times"):
        LayerForwardRelevance(twice, relu).attribute(x, 1)
    assert LayerForwardRelevance(twice, "3").attribute(x, 1).shape == x.shape
