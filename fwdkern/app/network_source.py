"""Where a visitor's network comes from, and which sources are refused."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from fwdkern.errors import FwdkernError, InputError
from fwdkern.models import DEFAULT_MODEL, DEFAULT_READER, load_classes, load_model, load_text_model
from fwdkern.preprocessing import Preprocessing
from fwdkern.sentiment import Reader

UPLOADS = (".onnx", ".safetensors")
_PICKLES = (".pt", ".pth", ".pt2", ".pkl", ".pickle", ".bin", ".ckpt", ".joblib")


@dataclass(frozen=True)
class NetworkSource:
    """What a worker needs to open a network.

    Attributes:
        identity: the same for the same network, so that links and saved views find it; label: what the page calls it.
        name: what `fwdkern.models.load_model` takes; weights, classes: files, or None.
    """

    identity: str
    label: str
    name: str
    weights: str | None = None
    classes: str | None = None


@dataclass(frozen=True)
class Opened:
    """A network in evaluation mode with what turns images or sentences into its inputs.

    Exactly one of preprocessing and reader is given.
    """

    model: nn.Module
    preprocessing: Preprocessing | None
    reader: Reader | None
    classes: list[str] | None
    trained: bool

    def example(self) -> torch.Tensor:
        """An input to capture the network at."""
        if self.preprocessing is None:
            return torch.zeros(1, 8, dtype=torch.long)
        height, width = self.preprocessing.output_size or (224, 224)
        return torch.zeros(1, self.preprocessing.channels, height, width)


def named(name: str) -> NetworkSource:
    """A network that a visitor may ask for by name; never a function of some module, which would run code."""
    if name not in (DEFAULT_MODEL, DEFAULT_READER) and name.partition(":")[0] not in ("torchvision", "timm"):
        raise InputError(
            f"There is no network {name!r}; give {DEFAULT_MODEL}, {DEFAULT_READER}, torchvision:NAME or timm:NAME, or "
            "upload an ONNX file."
        )
    return NetworkSource(name, name, name)


def upload_suffix(label: str) -> str:
    """The kind of an uploaded network file by its name; raises InputError for what is never opened."""
    suffix = Path(label).suffix.lower()
    if suffix in UPLOADS:
        return suffix
    if suffix in _PICKLES:
        raise InputError(
            f"{label} is a pickled file: opening one runs whatever code it holds, so none is opened. Export the "
            "network to ONNX (torch.onnx.export), or save its weights with safetensors.torch.save_file and name the "
            "architecture."
        )
    raise InputError(f"{label} is not a network that can be opened; give an .onnx or a .safetensors file.")


def open_network(source: NetworkSource) -> Opened:
    """Load a network; raises FwdkernError where that is impossible, which names files as the visitor does."""
    try:
        return _open(source)
    except FwdkernError as error:
        told = str(error)
        for path in filter(None, (source.name if source.name.endswith(".onnx") else None, source.weights)):
            told = told.replace(path, source.label)
        raise type(error)(told) from None


def _open(source: NetworkSource) -> Opened:
    weights = None if source.weights is None else Path(source.weights)
    if source.name == DEFAULT_READER:
        reader = load_text_model(source.name, weights)
        return Opened(reader.model, None, reader, reader.classes, True)
    known = load_model(source.name, weights)
    classes = known.classes if source.classes is None else load_classes(Path(source.classes))
    return Opened(known.model, known.preprocessing, None, classes, known.trained)
