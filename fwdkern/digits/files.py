"""The trained weights and the example canvases that ship with the package."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fwdkern.digits.drawing import Canvases
from fwdkern.digits.network import DigitsNet
from fwdkern.errors import FwdkernError
from fwdkern.files import make_folder, replacing

WEIGHTS = Path(__file__).with_name("digits.safetensors")
EXAMPLES = Path(__file__).with_name("examples.safetensors")


def digits_net(weights: Path | str | None = None) -> DigitsNet:
    """The trained digit reader, in eval mode.

    weights: a file written by examples/train_digits.py, to be used instead of the shipped one.
    Raises FwdkernError when the file is missing, damaged or made for another architecture.
    """
    path = WEIGHTS if weights is None else Path(weights)
    net = DigitsNet()
    tensors = _read(path)
    try:
        net.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise FwdkernError(
            f"The tensors in {path} are not those of DigitsNet; expected a file written by "
            f"examples/train_digits.py of this version. {error}"
        ) from error
    return net.eval()


def examples() -> Canvases:
    """24 canvases with held-out digits that ship with the package, so that scikit-learn is not needed."""
    tensors = _read(EXAMPLES)
    missing = {"images", "labels", "boxes"} - tensors.keys()
    if missing:
        raise FwdkernError(f"{EXAMPLES} lacks {', '.join(sorted(missing))}; reinstall fwdkern.")
    return Canvases(tensors["images"].float() / 255, tensors["labels"].long(), tensors["boxes"].long())


def pack(canvases: Canvases) -> dict[str, Tensor]:
    """The tensors of an examples file, in bytes; `examples` is the inverse up to half a grey level of 255."""
    return {
        "images": (canvases.images * 255).round().to(torch.uint8),
        "labels": canvases.labels.to(torch.uint8),
        "boxes": canvases.boxes.to(torch.uint8),
    }


def write(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write a safetensors file so that a reader sees either the old file or the whole new one."""
    make_folder(path.parent)
    with replacing(path) as part:
        save_file(dict(tensors), part, metadata=dict(metadata))


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FwdkernError(f"There is no file {path}; reinstall fwdkern or run examples/train_digits.py.")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise FwdkernError(
            f"{path} is not a whole safetensors file ({path.stat().st_size} bytes): {error}. "
            "It was probably cut off or changed; reinstall fwdkern or run examples/train_digits.py."
        ) from error
