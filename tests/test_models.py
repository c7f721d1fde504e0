"""Models by name: strict weights, helpful errors, nothing unpickled."""

import importlib
import json
import sys
import types
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fwdkern.errors import InputError
from fwdkern.models import find_class, input_channels, load_classes, load_model
from fwdkern.weights import load_weights


def _small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))


@pytest.fixture
def factories(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """An importable module of factory functions."""
    module = types.ModuleType("made_up_nets")
    module.good = lambda: nn.Conv2d(1, 2, 3)  # type: ignore[attr-defined]
    module.needs_argument = lambda width: nn.Conv2d(1, width, 3)  # type: ignore[attr-defined]
    module.broken = lambda: nn.Conv2d(1, 2, 3)(torch.zeros(3))  # type: ignore[attr-defined]
    module.not_a_model = lambda: 7  # type: ignore[attr-defined]
    module.constant = 3  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "made_up_nets", module)
    return module


def test_digits_is_ready_to_use() -> None:
    named = load_model()
    assert named.trained and not named.model.training
    assert named.preprocessing.channels == 1 and named.preprocessing.output_size == (64, 64)
    assert named.classes == [str(digit) for digit in range(10)]


def test_factory_gives_a_model_in_eval_mode(factories: types.ModuleType) -> None:
    named = load_model("made_up_nets:good")
    assert isinstance(named.model, nn.Conv2d) and not named.model.training
    assert named.preprocessing.channels == 1 and named.classes is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet", "There is no model 'resnet'"),
        ("no_such_module:build", "no module no_such_module"),
        ("made_up_nets:god", "no 'god'; close: good"),
        ("made_up_nets:needs_argument", "cannot be called without arguments"),
        ("made_up_nets:broken", r"made_up_nets:broken\(\) failed with RuntimeError: .*--debug"),
        ("made_up_nets:not_a_model", "returned a int"),
        ("made_up_nets:constant", "must be a function"),
    ],
)
def test_wrong_names_get_a_helpful_error(factories: types.ModuleType, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_model(name)


@pytest.mark.parametrize("package", ["torchvision", "timm"])
def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    for loaded in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=f"pip install {package}"):
        load_model(f"{package}:resnet18")


def test_a_package_that_does_not_fit_torch_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for loaded in [name for name in sys.modules if name.split(".")[0] == "timm"]:
        monkeypatch.delitem(sys.modules, loaded)
    (tmp_path / "timm.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match=r"timm cannot be imported: RuntimeError: operator .*version for torch"):
        load_model("timm:resnet18")


def _need(package: str) -> None:
    try:
        importlib.import_module(package)
    except Exception as error:
        pytest.skip(f"{package} cannot be imported: {error}")


def test_torchvision_model_brings_its_preprocessing() -> None:
    _need("torchvision")
    named = load_model("torchvision:squeezenet1_1")
    assert named.preprocessing.output_size == (224, 224) and named.preprocessing.resize == 256
    assert named.classes is not None and len(named.classes) == 1000 and not named.trained
    with pytest.raises(InputError, match=r"close: .*squeezenet1_1"):
        load_model("torchvision:squeezenet11")


def test_torchvision_backbones_are_not_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    _need("torchvision")

    def fail(*args: object, **kwargs: object) -> None:
        raise AssertionError("a download")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    assert not load_model("torchvision:lraspp_mobilenet_v3_large").trained


def test_timm_model_brings_its_preprocessing() -> None:
    _need("timm")
    named = load_model("timm:resnet18")
    assert named.preprocessing.output_size is not None and named.preprocessing.channels == 3
    assert not named.trained


def test_weights_are_loaded_exactly(tmp_path: Path) -> None:
    source, target = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    load_weights(target, tmp_path / "w.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), target.parameters(), strict=True))


def test_half_precision_weights_become_float32(tmp_path: Path) -> None:
    source, target = nn.Conv2d(3, 4, 3).half(), nn.Conv2d(3, 4, 3)
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    load_weights(target, tmp_path / "w.safetensors")
    assert target.weight.dtype == torch.float32 and torch.equal(target.weight, source.weight.float())


def test_weights_without_counters_of_batches(tmp_path: Path) -> None:
    source, target = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
    nn.init.uniform_(source.weight)
    state = {name: tensor for name, tensor in source.state_dict().items() if name != "num_batches_tracked"}
    save_file(state, tmp_path / "w.safetensors")
    load_weights(target, tmp_path / "w.safetensors")
    assert torch.equal(target.weight, source.weight)


def test_unfitting_weights_list_every_kind_of_mismatch(tmp_path: Path) -> None:
    model = nn.Conv2d(3, 4, 3)
    before = model.weight.detach().clone()
    save_file({"weight": torch.zeros(4, 3, 5, 5), "scale": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(InputError) as caught:
        load_weights(model, tmp_path / "w.safetensors")
    text = str(caught.value)
    assert "1 missing: bias" in text and "1 unexpected: scale" in text
    assert "weight is [4, 3, 5, 5], expected [4, 3, 3, 3]" in text
    assert torch.equal(model.weight, before)


def test_a_common_prefix_is_pointed_out(tmp_path: Path) -> None:
    model = nn.Conv2d(3, 4, 3)
    save_file({f"module.{key}": value for key, value in model.state_dict().items()}, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="begins with 'module': remove that prefix"):
        load_weights(model, tmp_path / "w.safetensors")


def test_broken_weight_files_are_named(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    save_file({"weight": torch.zeros(400)}, whole)
    cut.write_bytes(whole.read_bytes()[:-100])
    pickled = tmp_path / "model.pt"
    torch.save({"weight": torch.zeros(4)}, pickled)
    for path, message in [
        (cut, "cut.safetensors cannot be read .*complete"),
        (pickled, "model.pt is not a .safetensors file.*unpickling runs code"),
        (tmp_path / "absent.safetensors", "no weights file .*absent"),
    ]:
        with pytest.raises(InputError, match=message):
            load_weights(nn.Linear(4, 1), path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "cat\ndog\n\n"),
        ("b.json", json.dumps(["cat", "dog"])),
        ("c.json", json.dumps({"1": "dog", "0": "cat"})),
        ("d.json", json.dumps([{"index": 1, "name": "dog"}, {"index": 0, "name": "cat"}])),
    ],
)
def test_class_names_are_read(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert load_classes(tmp_path / name) == ["cat", "dog"]


@pytest.mark.parametrize("text", ["{", "7", '{"0": "cat", "2": "dog"}', '[{"name": "cat"}]', '{"a": "cat"}'])
def test_wrong_class_files_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "names.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"names.json is not a list of class names"):
        load_classes(path)
    with pytest.raises(InputError, match=r"absent.json cannot be read"):
        load_classes(tmp_path / "absent.json")


def test_classes_are_found_by_index_and_name() -> None:
    names = ["tench, Tinca tinca", "goldfish", "great white shark, white shark", "tiger shark"]
    assert find_class("3", names) == 3 and find_class("3", None) == 3
    assert find_class("Goldfish", names) == 1
    assert find_class("tench", names) == 0
    assert find_class("white shark", names) == 2
    assert find_class("tiger", names) == 3
    with pytest.raises(InputError, match=r"fits 2 classes: .*great white"):
        find_class("shark", names)
    with pytest.raises(InputError, match="close: goldfish"):
        find_class("goldfisch", names)
    with pytest.raises(InputError, match="--classes"):
        find_class("cat", None)


def test_input_channels_of_the_first_convolution() -> None:
    assert input_channels(_small()) == 3
    with pytest.raises(InputError, match="no convolution"):
        input_channels(nn.Linear(3, 2))
