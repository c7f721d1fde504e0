"""Models by name, for the command line: the embedded ones, torchvision, timm or a factory function."""

import difflib
import importlib
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fwdkern.errors import InputError
from fwdkern.graph.onnx import is_onnx, read_onnx
from fwdkern.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from fwdkern.sentiment import Reader, Vocabulary, load_reader, sentiment_reader
from fwdkern.weights import load_weights

DEFAULT_MODEL = "digits"
DEFAULT_READER = "sentiment"


@dataclass(frozen=True)
class NamedModel:
    """A model in eval mode with what is known about its inputs and outputs.

    trained: False where the weights are random because no file was given.
    """

    name: str
    model: nn.Module
    preprocessing: Preprocessing
    classes: list[str] | None
    trained: bool


def load_model(name: str = DEFAULT_MODEL, weights: Path | None = None) -> NamedModel:
    """Build the model called `name` and load `weights` (safetensors, strict) where given.

    name: "digits" (embedded, trained), "torchvision:NAME", "timm:NAME", "package.module:factory", where
    the factory takes no arguments and returns an nn.Module, or an ONNX file, "path/to/model.onnx". Nothing is
    downloaded and nothing is unpickled.
    Raises InputError for unknown names, missing packages and unfitting weights; for ONNX files also what
    ``fwdkern.graph.onnx.read_onnx`` raises.
    """
    source, _, rest = name.partition(":")
    if name == DEFAULT_MODEL:
        loaded = _digits()
    elif is_onnx(name):
        if weights is not None:
            raise InputError(f"{name} holds its own weights; leave --weights out.")
        loaded = _onnx(name)
    elif source == "torchvision" and rest:
        loaded = _torchvision(rest)
    elif source == "timm" and rest:
        loaded = _timm(rest)
    elif source and rest:
        loaded = _factory(source, rest)
    else:
        raise InputError(
            f"There is no model {name!r}; give {DEFAULT_MODEL}, torchvision:NAME, timm:NAME, package.module:factory "
            "or FILE.onnx."
        )
    trained = loaded.trained
    if weights is not None:
        load_weights(loaded.model, weights)
        trained = True
    return NamedModel(loaded.name, loaded.model.eval(), loaded.preprocessing, loaded.classes, trained)


def load_text_model(name: str = DEFAULT_READER, weights: Path | None = None, vocabulary: Path | None = None) -> Reader:
    """Build the text model called `name` with its vocabulary and load `weights` (safetensors, strict) where given.

    name: "sentiment" (embedded, trained), "sentiment:FOLDER", what examples/train_sentiment.py wrote, or
    "package.module:factory" of a model of tokens [B, T], for which the vocabulary must be given.
    Raises InputError for unknown names, missing or damaged files, and parts that do not fit each other.
    """
    source, _, rest = name.partition(":")
    if name == DEFAULT_READER:
        reader = sentiment_reader(vocabulary)
    elif source == DEFAULT_READER:
        reader = load_reader(Path(rest), name, vocabulary)
    elif is_onnx(name):
        if weights is not None or vocabulary is None:
            raise InputError(f"{name} holds its own weights and no vocabulary; give --vocabulary FILE.json alone.")
        reader = Reader(name, read_onnx(name), Vocabulary.load(vocabulary), None)
    elif source in ("torchvision", "timm") or not rest:
        raise InputError(
            f"{name!r} reads no text; give {DEFAULT_READER}, {DEFAULT_READER}:FOLDER or package.module:factory."
        )
    else:
        model = _built(source, rest)
        if vocabulary is None:
            raise InputError(f"{name} needs the vocabulary it was trained with; give --vocabulary FILE.json.")
        reader = Reader(name, model.eval(), Vocabulary.load(vocabulary), None)
    if weights is not None:
        load_weights(reader.model, weights)
    return reader


def load_classes(path: Path) -> list[str]:
    """Read class names, in the order of the model's outputs.

    A .json file holds a list of names, a list of {"index": i, "name": n} or an object {"0": name, ...};
    any other file holds one name a line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix != ".json":
            return [line.strip() for line in text.splitlines() if line.strip()]
        return _names_from_json(json.loads(text))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The class names in {path} cannot be read ({error}).") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is not a list of class names; expected a JSON list of names, a list of "
            '{"index": 0, "name": "cat"}, or an object {"0": "cat"}.'
        ) from error


def find_class(wanted: str, classes: list[str] | None) -> int:
    """Return the index of a class given as a number or as its name, in any case; a unique part is enough."""
    if wanted.strip().lstrip("-").isdigit():
        return int(wanted)
    if classes is None:
        raise InputError(
            f"The class {wanted!r} is a name, but the class names are unknown; give --classes or an index."
        )
    key = wanted.strip().casefold()
    names = [name.casefold() for name in classes]
    exact = [i for i, name in enumerate(names) if key == name or key in name.split(", ")]
    found = exact or [i for i, name in enumerate(names) if key in name]
    if len(found) == 1:
        return found[0]
    if found:
        some = ", ".join(f"{classes[i]} ({i})" for i in found[:5])
        raise InputError(f"The class name {wanted!r} fits {len(found)} classes: {some}; give the index.")
    close = difflib.get_close_matches(key, names, n=3)
    hint = f"; close: {', '.join(classes[names.index(c)] for c in close)}" if close else ""
    raise InputError(f"No class is called {wanted!r}{hint}.")


def input_channels(model: nn.Module) -> int:
    """Return the number of input channels of the model's first convolution."""
    for module in model.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            return module.in_channels
    raise InputError("The model has no convolution, so its number of input channels is unknown.")


def _digits() -> NamedModel:
    from fwdkern.digits import digits_net

    return NamedModel(
        name=DEFAULT_MODEL,
        model=digits_net(),
        preprocessing=Preprocessing(channels=1, resize=64, crop=(64, 64)),
        classes=[str(digit) for digit in range(10)],
        trained=True,
    )


def _torchvision(name: str) -> NamedModel:
    models = _import_or_explain("torchvision.models", "torchvision")
    known = models.list_models()
    if name not in known:
        raise InputError(f"torchvision has no model {name!r}{_close(name, known)}.")
    released = models.get_model_weights(name)
    meta = released.DEFAULT.meta if len(released) else {}
    # Some builders download a trained backbone unless told not to.
    takes = inspect.signature(models.get_model_builder(name)).parameters
    model = models.get_model(name, weights=None, **({"weights_backbone": None} if "weights_backbone" in takes else {}))
    transform = released.DEFAULT.transforms() if len(released) else None
    resize, crop = _first(transform, "resize_size", 256), _first(transform, "crop_size", 224)
    preprocessing = Preprocessing(
        channels=3,
        resize=resize,
        crop=(crop, crop),
        mean=tuple(getattr(transform, "mean", IMAGENET_MEAN)),
        std=tuple(getattr(transform, "std", IMAGENET_STD)),
    )
    return NamedModel(f"torchvision:{name}", model, preprocessing, meta.get("categories"), trained=False)


def _timm(name: str) -> NamedModel:
    timm = _import_or_explain("timm", "timm")
    if not timm.is_model(name):
        raise InputError(f"timm has no model {name!r}{_close(name, timm.list_models())}.")
    model = timm.create_model(name, pretrained=False)
    config: Mapping[str, Any] = timm.data.resolve_data_config(model.pretrained_cfg)
    channels, height, width = config["input_size"]
    preprocessing = Preprocessing(
        channels=channels,
        resize=int(min(height, width) / config["crop_pct"]),
        crop=(height, width),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )
    return NamedModel(f"timm:{name}", model, preprocessing, None, trained=False)


def _factory(module_name: str, attribute: str) -> NamedModel:
    model = _built(module_name, attribute)
    # A factory may well load its own weights, so nothing is claimed about them.
    preprocessing = Preprocessing(channels=input_channels(model), resize=224, crop=(224, 224))
    return NamedModel(f"{module_name}:{attribute}", model, preprocessing, None, trained=True)


def _onnx(name: str) -> NamedModel:
    model = read_onnx(name)
    shape = model.spec.shape
    if len(shape) != 4 or shape[1] not in (1, 3):
        raise InputError(
            f"The input of {name} is {model.shape_text()}; pictures go in as [batch, 1 or 3 channels, height, width]. "
            "Use fwdkern.fuse in Python for other inputs."
        )
    height, width = shape[2] or 224, shape[3] or 224
    # The file does not say how its pictures were prepared: they are cropped to its size, with values in 0..1.
    preprocessing = Preprocessing(channels=shape[1], resize=max(height, width), crop=(height, width))
    return NamedModel(name, model, preprocessing, None, trained=True)


def _built(module_name: str, attribute: str) -> nn.Module:
    """What the user's factory function returns."""
    # Python puts the script's folder on the path, not the folder the user stands in.
    if "" not in sys.path:
        sys.path.insert(0, "")
    module = _import_or_explain(module_name)
    factory: Callable[[], Any] | None = getattr(module, attribute, None)
    if factory is None:
        raise InputError(f"The module {module_name} has no {attribute!r}{_close(attribute, dir(module))}.")
    if not callable(factory):
        raise InputError(f"{module_name}:{attribute} is a {type(factory).__name__}; it must be a function.")
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise InputError(f"{module_name}:{attribute} cannot be called without arguments ({error}).") from error
    try:
        model = factory()
    except Exception as error:
        raise InputError(f"{module_name}:{attribute}() failed with {_what(error)}; --debug shows where.") from error
    if not isinstance(model, nn.Module):
        raise InputError(f"{module_name}:{attribute}() returned a {type(model).__name__}; it must return an nn.Module.")
    return model


def _import_or_explain(module_name: str, install: str | None = None) -> Any:
    """Import a module; `install` is the package that brings it, None for a module of the user's own."""
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if install == missing.split(".")[0]:
            raise InputError(f"The package {install} is not installed; run: pip install {install}") from error
        if module_name == missing or module_name.startswith(missing + "."):
            raise InputError(
                f"There is no module {module_name}; run fwdkern in the folder that holds it, or install it."
            ) from error
        raise InputError(f"The module {module_name} needs {missing}, which is not installed.") from error
    except Exception as error:
        hint = f"; is it the version for torch {torch.__version__}?" if install else "; --debug shows where."
        raise InputError(f"The module {module_name} cannot be imported: {_what(error)}{hint}") from error


def _what(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _names_from_json(content: Any) -> list[str]:
    if isinstance(content, Mapping):
        pairs = [(int(index), str(name)) for index, name in content.items()]
    elif content and isinstance(content[0], Mapping):
        pairs = [(int(entry["index"]), str(entry["name"])) for entry in content]
    elif isinstance(content, list):
        pairs = [(index, str(name)) for index, name in enumerate(content)]
    else:
        raise ValueError("neither a list nor an object")
    if sorted(index for index, _ in pairs) != list(range(len(pairs))):
        raise ValueError("the indices are not 0, 1, 2, ...")
    return [name for _, name in sorted(pairs)]


def _first(transform: Any, field: str, default: int) -> int:
    value = getattr(transform, field, None)
    return int(value[0]) if value else default


def _close(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=4)
    return f"; close: {', '.join(close)}" if close else ""
