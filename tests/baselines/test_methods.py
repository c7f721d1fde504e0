"""What holds for every method: the shape of maps, independence from the batch, an untouched model, clear errors."""

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fwdkern.baselines import CONTROLS, METHODS, Mask, Method, Random, SmoothGrad
from fwdkern.errors import InputError
from tests.oracle import assert_close

METHOD = {
    **METHODS,
    "mask": functools.partial(Mask, iterations=4, jitter=40),
    "smoothgrad": functools.partial(SmoothGrad, nt_samples=3),
}
EXPLAINING = [name for name in METHODS if name not in CONTROLS]
X = torch.randn(3, 2, 20, 24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    body = [nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3)]
    head = [nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(8, 5)]
    return nn.Sequential(*body, *head).double().eval()


@pytest.fixture(params=METHOD)
def make(request: pytest.FixtureRequest) -> Callable[[nn.Module], Method]:
    return METHOD[request.param]


@pytest.fixture(params=EXPLAINING)
def explaining(request: pytest.FixtureRequest) -> Callable[[nn.Module], Method]:
    return METHOD[request.param]


def test_maps_are_of_the_inputs_size_dtype_and_free_of_history(make: Callable[..., Method]) -> None:
    for dtype in (torch.float64, torch.float32):
        found = make(network().to(dtype)).attribute(X.to(dtype), 2)
        assert found.shape == (3, 20, 24) and found.dtype == dtype and found.is_contiguous()
        assert not found.requires_grad and found.isfinite().all()


def test_images_do_not_influence_each_other(make: Callable[..., Method]) -> None:
    """Alone, in another order and among others, an image has the same map."""
    method = make(network())
    together = method.attribute(X, [1, 4, 2])
    assert not torch.equal(together[0], together[1]) or method.__class__.__name__ in ("AllOnes", "CentreGaussian")
    assert_close(method.attribute(X[1:2], [4]), together[1:2], 1e-9)
    assert_close(method.attribute(X.flip(0), [2, 4, 1]), together.flip(0), 1e-9)


def test_a_second_run_and_any_layout_give_the_same(make: Callable[..., Method]) -> None:
    method = make(network())
    once = method.attribute(X, 3)
    assert torch.equal(make(network()).attribute(X, 3), once)
    stretched = torch.stack([X, X], 4)[..., 0]
    for x in (X.contiguous(memory_format=torch.channels_last), X.mT.contiguous().mT, stretched):
        assert_close(method.attribute(x, 3), once, 1e-9)


def test_targets(explaining: Callable[..., Method]) -> None:
    model = network()
    method = explaining(model)
    top = model(X).argmax(1)
    assert torch.equal(method.attribute(X), method.attribute(X, top))
    assert torch.equal(method.attribute(X, 3), method.attribute(X, [3, 3, 3]))
    assert not torch.equal(method.attribute(X, 3), method.attribute(X, 1))


def test_the_model_and_the_input_stay_as_they_were(make: Callable[..., Method]) -> None:
    model = network()
    model[0].weight.requires_grad_(False)
    model[4].weight.grad = torch.ones_like(model[4].weight)
    before = {name: (value.clone(), value._version) for name, value in model.state_dict().items()}
    flags = [p.requires_grad for p in model.parameters()]
    x = X.clone().requires_grad_()
    make(model).attribute(x, 1)
    assert x.grad is None and x._version == 0 and torch.equal(x, X)
    assert all(
        torch.equal(value, before[n][0]) and value._version == before[n][1] for n, value in model.state_dict().items()
    )
    assert [p.requires_grad for p in model.parameters()] == flags
    assert [p.grad is None for p in model.parameters()] == [p is not model[4].weight for p in model.parameters()]
    assert torch.equal(model[4].weight.grad, torch.ones_like(model[4].weight))
    assert not any(module.training or module._forward_hooks for module in model.modules())


def test_no_hook_stays_after_an_error(explaining: Callable[..., Method]) -> None:
    model = network()
    with pytest.raises(InputError, match=r"the model does not run on inputs of shape \[\d, 1, 20, 24\]"):
        explaining(model).attribute(X[:, :1])
    with pytest.raises(InputError, match="target 5 is out of range: the network has classes 0 to 4"):
        explaining(model).attribute(X, 5)
    assert not any(module._forward_hooks for module in model.modules())


def test_gradients_are_recorded_whatever_the_caller_has_switched_off(make: Callable[..., Method]) -> None:
    model = network()
    expected = make(model).attribute(X, 1)
    for p in model.parameters():
        p.requires_grad_(False)
    with torch.no_grad():
        assert torch.equal(make(model).attribute(X, 1), expected)
    with torch.inference_mode():
        assert torch.equal(make(model).attribute(X.clone(), 1), expected)


class WritesIntoItsInput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = network()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.mul_(2))


def test_a_model_that_writes_into_its_input(make: Callable[..., Method]) -> None:
    x = X.clone()
    make(WritesIntoItsInput().eval()).attribute(x, 1)
    assert torch.equal(x, X)


BAD_INPUTS: dict[str, tuple[object, str]] = {
    "no batch": (X[0], r"must be images \[B, C, H, W\], got \[2, 20, 24\]; add the batch dimension"),
    "vectors": (X[:, 0, 0], r"must be images \[B, C, H, W\], got \[3, 24\]"),
    "no tensor": (X.numpy(), "must be images .*, got ndarray"),
    "no image": (X[:0], "hold no example"),
    "no pixel": (X[..., :0], "are empty"),
    "not finite": (torch.where(X > 3, torch.nan, X), r"inputs hold \d+ NaN values"),
    "bytes": (X.byte(), "torch.uint8"),
    "dtype": (X.float(), "torch.float32, the network's weights torch.float64"),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_inputs(make: Callable[..., Method], name: str) -> None:
    x, words = BAD_INPUTS[name]
    with pytest.raises(InputError, match=words):
        make(network()).attribute(x)


def test_bad_models(make: Callable[..., Method]) -> None:
    with pytest.raises(InputError, match=r"training mode \(Sequential and others\): call model\.eval"):
        make(network().train()).attribute(X)
    with pytest.raises(InputError, match=r"must be a torch\.nn\.Module, got function"):
        make(lambda x: x).attribute(X)


class Around(nn.Module):
    """Something done to a network's scores or its input."""

    def __init__(self, before: Callable[[Tensor], Tensor], after: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.before, self.after, self.body = before, after, network()

    def forward(self, x: Tensor) -> object:
        return self.after(self.body(self.before(x)))


BAD_MODELS: dict[str, tuple[Callable[[Tensor], object], str]] = {
    "cut off": (Tensor.detach, "the scores have no gradient by .*: the model cuts it off"),
    "a structure": (lambda scores: {"scores": scores}, r"must return scores \[\d, classes\], got dict"),
    "one number": (lambda scores: scores[:, 0], r"must return scores \[(\d), classes\], got \[\1\]"),
    "summed": (lambda scores: scores.sum(0, keepdim=True), r"must return scores \[3, classes\], got \[1, 5\]"),
    "not finite": (lambda scores: scores / 0, "5 scores that are NaN or infinite"),
    "overwritten": (lambda scores: scores.sigmoid().mul_(2), "the model cannot be differentiated: .*inplace operation"),
}


@pytest.mark.parametrize("name", BAD_MODELS)
def test_bad_scores(explaining: Callable[..., Method], name: str) -> None:
    after, words = BAD_MODELS[name]
    model = Around(lambda x: x, after).eval()
    with pytest.raises(InputError, match=words):
        explaining(model).attribute(X, 1)


@pytest.mark.parametrize("name", ["mask", "input-x-gradient", "smoothgrad"])
def test_a_model_that_cuts_its_input_off(name: str) -> None:
    with pytest.raises(InputError, match="the scores have no gradient by the input"):
        METHOD[name](Around(Tensor.detach, lambda scores: scores).eval()).attribute(X, 1)


def test_bad_targets(explaining: Callable[..., Method]) -> None:
    for target, words in (
        (-1, "out of range"),
        ("all", "one class for each example"),
        ([1, 2], "does not fit a batch of 3"),
    ):
        with pytest.raises(InputError, match=words):
            explaining(network()).attribute(X, target)  # type: ignore[arg-type]


def test_random_maps_follow_from_seed_and_image() -> None:
    model = network()
    maps = Random(model).attribute(X)
    assert torch.equal(Random(model).attribute(X), maps)
    assert not torch.equal(Random(model, seed=1).attribute(X), maps)
    assert 0 <= maps.min() and maps.max() < 1 and maps.mean().item() == pytest.approx(0.5, abs=0.05)
