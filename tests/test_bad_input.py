"""Wrong requests end in errors that say what was given, what was expected and what to do."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import fwdkern
from fwdkern import FusedModel
from fwdkern.errors import CaptureError, InputError, LayerError
from tests.test_model import X, image, network


@pytest.fixture(scope="module")
def model() -> nn.Sequential:
    return network()


@pytest.fixture(scope="module")
def net(model: nn.Sequential) -> FusedModel:
    return fwdkern.fuse(model, X)


def nan_image() -> Tensor:
    x = X.clone()
    x[1, 2, 3, 4] = x[0, 1, 0, 7] = torch.nan
    x[1, 2, 3, 5] = torch.inf
    return x


INPUTS: dict[str, tuple[object, str]] = {
    "rank": (X[0], r"must be \[B, 3, 8, 8\], got \[3, 8, 8\]; add the batch dimension"),
    "rank 5": (X[None], r"got \[1, 2, 3, 8, 8\]"),
    "channels": (image(2, 4, 8, 8), r"3 channels in dimension 1, got \[2, 4, 8, 8\]"),
    "channels last": (image(2, 8, 8, 3), r"channels come first here: inputs.movedim"),
    "bytes": (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), r"torch.uint8.*/ 255 and normalise"),
    "dtype": (X.float(), r"torch.float32, the network's weights torch.float64: use inputs.to\(torch.float64\)"),
    "device": (torch.empty(2, 3, 8, 8, dtype=torch.float64, device="meta"), r"on meta, the network on cpu"),
    "not finite": (nan_image(), r"2 NaN and 1 infinite values among 384, the first at \[0, 1, 0, 7\]"),
    "no tensor": (X.numpy(), "one tensor .*, got ndarray"),
    "nothing": (None, "got NoneType"),
    "two": ((X, X), "got tuple"),
    "no pixel": (X[..., :0], r"empty: shape \[2, 3, 8, 0\]"),
}


@pytest.mark.parametrize("name", INPUTS)
def test_bad_inputs(net: FusedModel, name: str) -> None:
    x, words = INPUTS[name]
    with pytest.raises(InputError, match=words):
        net.attribute(x)  # type: ignore[arg-type]


def test_an_image_too_small_for_the_network(net: FusedModel) -> None:
    with pytest.raises(CaptureError, match=r"input of shape \[2, 3, 1, 1\].*too small"):
        net.attribute(X[..., :1, :1])


BAD_TARGETS: dict[str, tuple[object, str]] = {
    "too large": (5, "target 5 is out of range: the network has classes 0 to 4"),
    "negative": (-1, "target -1 is out of range"),
    "count": ([0, 1, 2], r"shape \[3\] does not fit a batch of 2"),
    "fraction": (1.5, "must be integers, got torch.float32"),
    "boolean": (True, "must be integers, got torch.bool"),
    "word": ("best", "'best' is not None"),
    "ragged": ([[0], [1, 2]], "cannot be read as class numbers"),
    "none": ([], "no class was asked for"),
}


@pytest.mark.parametrize("name", BAD_TARGETS)
def test_bad_targets(net: FusedModel, name: str) -> None:
    target, words = BAD_TARGETS[name]
    with pytest.raises(InputError, match=words):
        net.attribute(X, target)  # type: ignore[arg-type]


BAD_UNITS: dict[str, tuple[object, str]] = {
    "outside": ([[0, 0, 8]], r"\[0, 0, 8\] is outside layer '2' of shape \[4, 8, 8\]"),
    "two outside": ([[4, 0, 0], [0, 0, 0], [0, -1, 0]], r"\[4, 0, 0\] is outside.*2 units are"),
    "rank": ([[0, 0]], r"coordinates must be \[K, 3\], got \[1, 2\]"),
    "flat": ([0, 0, 0], r"coordinates must be \[K, 3\], got \[3\]"),
    "fraction": ([[0.0, 0.0, 0.0]], "must be integers, got torch.float32"),
    "word": ("every", "'every' is not one of"),
    "nothing": (None, "cannot be read as coordinates"),
    "none": ([], "no unit was asked for"),
    "none, shaped": (torch.zeros(0, 3, dtype=torch.int64), "no unit was asked for"),
}


@pytest.mark.parametrize("name", BAD_UNITS)
def test_bad_units(net: FusedModel, name: str) -> None:
    units, words = BAD_UNITS[name]
    with pytest.raises(InputError, match=words):
        net.attribute_units(X, "2", units)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=words):
        net.receptive_field("2", units)  # type: ignore[arg-type]


BAD_FEATURES: dict[str, tuple[object, str]] = {
    "word": ("pixel", "'pixel' is not one of"),
    "float map": (torch.rand(8, 8), "must be an integer tensor, got torch.float32"),
    "shape": (torch.zeros(4, 4, dtype=torch.int64), r"shape \[8, 8\] or \[2, 8, 8\], got \[4, 4\]"),
    "negative": (torch.full((8, 8), -1), "must not be negative, got -1"),
    "gaps": (torch.full((8, 8), 1000), "number the segments from 0; the largest is 1000"),
    "nothing": (None, "got NoneType"),
}


@pytest.mark.parametrize("name", BAD_FEATURES)
def test_bad_features(net: FusedModel, name: str) -> None:
    features, words = BAD_FEATURES[name]
    with pytest.raises(InputError, match=words):
        net.attribute(X, features=features)  # type: ignore[arg-type]


@pytest.mark.parametrize("keyword", ["bias", "mode", "backend", "layout"])
def test_bad_words(net: FusedModel, keyword: str) -> None:
    with pytest.raises(InputError, match=f"{keyword}='back' is not one of"):
        net.attribute_units(X, "2", **{keyword: "back"})  # type: ignore[arg-type]


@pytest.mark.parametrize("memory", ["2 frogs", "", 0, -5, "0GiB"])
def test_bad_memory(net: FusedModel, memory: object) -> None:
    with pytest.raises(InputError, match=r"memory=.* is not a size such as"):
        net.attribute(X, memory=memory)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"memory=.* is not a size such as"):
        list(net.iter_units(X, "2", memory=memory))  # type: ignore[arg-type]


def test_unknown_layers(net: FusedModel) -> None:
    calls: list[Callable[[str], object]] = [
        net.layer,
        lambda name: net.attribute_units(X, name),
        lambda name: net.attribute_layers(X, ["2", name]),
        lambda name: net.receptive_field(name, "all"),
        lambda name: list(net.iter_units(X, name)),
    ]
    for call in calls:
        with pytest.raises(LayerError, match=r"no layer is called '33'; close: '3'\. net\.layers lists all 5"):
            call("33")
        with pytest.raises(LayerError, match="layer '0' was folded into '1'"):
            call("0")
    with pytest.raises(InputError, match=r"several names, got '2'"):
        net.attribute_layers(X, "2")


EXAMPLES: dict[str, tuple[object, type[Exception], str]] = {
    "integers": (X.long(), InputError, "must be floating point, or tokens"),
    "two": ((X, X), InputError, r"one tensor .*, got \(Tensor, Tensor\)"),
    "word": ("image", InputError, r"got \(str\)"),
    "dictionary": ({"x": X}, InputError, r"got \(dict\)"),
    "vector": (X[0, 0, 0], InputError, "must be a batch"),
    "no example": (X[:0], InputError, "not empty, got shape"),
    "channels": (image(1, 2, 8, 8), CaptureError, "expected input.* to have 3 channels"),
    "dtype": (X.float(), CaptureError, "the example is torch.float32, the model's weights are torch.float64"),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_bad_examples(model: nn.Module, name: str) -> None:
    example, error, words = EXAMPLES[name]
    with pytest.raises(error, match=words):
        fwdkern.fuse(model, example)  # type: ignore[arg-type]


def test_bad_models(model: nn.Module) -> None:
    with pytest.raises(InputError, match=r"training mode \(Sequential and others\): call model\.eval"):
        fwdkern.fuse(network().train(), X)
    with pytest.raises(InputError, match=r"training mode \(1\)"):
        broken = network()
        broken[1].train()
        fwdkern.fuse(broken, X)
    with pytest.raises(InputError, match=r"must be a torch\.nn\.Module, got function"):
        fwdkern.fuse(lambda x: x, X)  # type: ignore[arg-type]
