"""Which networks fwdkern explains, completely and in which ways, beside captum's LRP and DeepLift on the same networks.

    python examples/coverage.py [NAMES] [--torchvision] [--transformers] > docs/coverage.md

Runs in a source tree, since the families of networks are those of tests/networks. Weights are random: what is asked is
whether a network is covered, not what its maps show. It needs captum; `--torchvision` and `--transformers` add models
of these packages.
"""

import copy
import importlib
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import typer
from torch import Tensor, nn

import fwdkern
from fwdkern.cli import console
from fwdkern.errors import FwdkernError

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

# Smaller than the size they were made for, where the model takes it.
_SIZES = {"inception_v3": 96, "maxvit_t": 224, "vit_h_14": 28}
# Networks of tests/networks, what they are made with, and the shape of an input, of tokens where it is one number.
_TRANSFORMERS: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "convnext": ("convnext:ConvNeXt", {}, (3, 16, 24)),
    "vit": ("vit:ViT", {}, (3, 12, 16)),
    "swin": ("swin:Swin", {}, (3, 16, 20)),
    "swin_v2": ("swin:Swin", {"version": 2}, (3, 16, 20)),
    "maxvit": ("maxvit:MaxViT", {}, (3, 16, 16)),
    "text encoder": ("text:Encoder", {}, (7,)),
    "text decoder": ("text:Decoder", {}, (7,)),
}
_COLUMNS = ("network", "captured", "complete", "delta", "plain", "forward", "rows", "LRP", "DeepLift")
_TEXT = """# Coverage

Made by `python examples/coverage.py{how}` with torch {torch}, captum {captum}{packages}, on a CPU, in float32, with
random weights and one random input a network; the explained output is its largest.

- **captured**: `fuse` takes the model, and the fused network returns what the model does. An error is the first line.
- **complete**: the map and the bias mass sum to the output within 1e-4 of the larger of the output and the sum of the
  map's magnitudes; **delta** is what is missing, by that measure.
- **plain**: largest difference of the fused network's outputs from the model's, in parts of the model's largest.
- **forward**: largest difference of the maps of 16 segments by forward mode from those by reverse mode, in parts of the
  largest entry. **rows**: the same of the active rows of `backend="cpu"` from the dense maps.
- **LRP**, **DeepLift**: captum's methods on the same model and input. A number is their own convergence delta, in
  parts of the output they explain (of DeepLift: of its difference from a baseline of zeros). Of LRP it includes what
  biases absorb. Otherwise it is the error's first words.

"""


class Network(NamedTuple):
    """A network to cover: its name, and how to make it with one input."""

    name: str
    make: Callable[[], tuple[nn.Module, Tensor]]


def families() -> Iterator[Network]:
    """The families of tests/networks: convolutional ones, then transformers."""
    table = importlib.import_module("tests.networks.families").FAMILIES
    for name, (factory, shape) in table.items():
        yield Network(name, lambda factory=factory, shape=shape: (factory(), torch.randn(1, *shape)))
    for name, (path, keywords, shape) in _TRANSFORMERS.items():

        def make(path: str = path, keywords: dict[str, Any] = keywords, shape: Any = shape) -> tuple[nn.Module, Tensor]:
            module, _, factory = path.partition(":")
            model = getattr(importlib.import_module(f"tests.networks.{module}"), factory)(**keywords).eval()
            return model, torch.randn(1, *shape) if len(shape) > 1 else torch.randint(1, 9, (1, *shape))

        yield Network(name, make)


def torchvision_models() -> Iterator[Network]:
    """The classifiers of torchvision."""
    models = importlib.import_module("torchvision.models")
    for name in models.list_models(module=models):

        def make(name: str = name) -> tuple[nn.Module, Tensor]:
            size = _SIZES.get(name, 64)
            keywords: dict[str, Any] = {"image_size": size} if name.startswith("vit") else {}
            if name in ("googlenet", "inception_v3"):
                keywords["init_weights"] = True
            model = models.get_model(name, weights=None, **keywords).eval()
            for module in model.modules():
                if isinstance(module, nn.Linear) and not module.weight.any():
                    nn.init.trunc_normal_(module.weight, std=0.02)  # vit begins with a head of zeros
            return model, torch.randn(1, 3, size, size)

        yield Network(name, make)


def transformers_models() -> Iterator[Network]:
    """Classifiers of the transformers package, from small configurations."""
    importlib.import_module("transformers").logging.set_verbosity_error()
    zoo = importlib.import_module("tests.networks.hugging_face")
    for name in zoo.MODELS:
        yield Network(name, lambda name=name: zoo.make(name))


def measure(network: Network) -> dict[str, str]:
    """One line of the table."""
    torch.manual_seed(0)
    model, x = network.make()
    line = dict.fromkeys(_COLUMNS, "–") | {"network": network.name}
    with torch.no_grad():
        output = model(x)
    target = int(output.flatten().argmax())
    try:
        net = fwdkern.fuse(model, x)
        line["captured"] = "yes"
        plain = net(x)
        line["plain"] = number((plain - output).abs().max() / output.abs().max())
        found = net.attribute(x, target, bias="separate")
    except FwdkernError as error:
        line["captured" if line["captured"] == "–" else "complete"] = first(error)
    else:
        scale = torch.maximum(found.outputs.abs().max(), found.scores.abs().sum())
        missing = float(found.delta.abs().max() / scale)
        line["complete"], line["delta"] = "yes" if missing <= 1e-4 else "no", number(missing)
        line["forward"] = compared(net, x, target, "torch", "forward")
        line["rows"] = compared(net, x, target, "cpu", "auto")
    line["LRP"], line["DeepLift"] = captum_delta("LRP", model, x, target), captum_delta("DeepLift", model, x, target)
    return line


def compared(net: fwdkern.FusedModel, x: Tensor, target: int, backend: str, mode: str) -> str:
    """Maps of segments by one backend and mode beside dense reverse mode's."""
    positions = x.shape[2:] if x.is_floating_point() and x.dim() > 2 else x.shape[1:]
    count = positions.numel()
    labels = (torch.arange(count) * min(16, count) // count).view(positions)
    try:
        dense = net.attribute(x, target, labels, "separate", "reverse", "torch").scores
        other = net.attribute(x, target, labels, "separate", mode, backend).scores
    except FwdkernError as error:
        return first(error)
    return number((other - dense).abs().max() / dense.abs().max())


def captum_delta(method: str, model: nn.Module, x: Tensor, target: int) -> str:
    """Captum's own convergence delta on a copy of the model, which its hooks may change."""
    attr = importlib.import_module("captum.attr")
    model = copy.deepcopy(model)
    try:
        explain = getattr(attr, method)(model)
        _, delta = explain.attribute(x, target=target, return_convergence_delta=True)
        with torch.no_grad():
            value = model(x)[0, target]
            if method == "DeepLift":
                value = value - model(torch.zeros_like(x))[0, target]
    except Exception as error:  # captum raises whatever the model's operators do
        return first(error)
    return number(delta.detach().abs().max() / value.abs())


def number(value: Tensor | float) -> str:
    return f"{float(value):.1e}"


def first(error: Exception) -> str:
    """An error's type and first words, in one cell of a table."""
    line = (str(error).strip() or "no message").splitlines()[0].replace("|", "/")
    line = line.rpartition("cannot serve this request: rows: ")[2]
    return f"{type(error).__name__}: {line[:70]}{'…' if len(line) > 70 else ''}"


def row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Networks by name; all unless given.")] = None,
    torchvision: Annotated[bool, typer.Option(help="Models of torchvision too, which must be importable.")] = False,
    transformers: Annotated[bool, typer.Option(help="Models of transformers too, which must be importable.")] = False,
) -> None:
    sources = {"Small networks of every family": list(families())}
    packages = {"torchvision": (torchvision, torchvision_models), "transformers": (transformers, transformers_models)}
    asked = {name: models for name, (wanted, models) in packages.items() if wanted}
    given = ""
    for name, models in asked.items():
        try:
            sources[f"Models of {name}"] = list(models())
            given += f", {name} {version(name)}"
        except (ImportError, RuntimeError, PackageNotFoundError) as error:
            raise typer.BadParameter(f"{name} cannot be imported here: {error}") from error
    chosen = {title: [n for n in source if not names or n.name in names] for title, source in sources.items()}
    warnings.simplefilter("ignore")
    print(
        _TEXT.format(
            how="".join(f" --{name}" for name in asked),
            torch=torch.__version__,
            captum=version("captum"),
            packages=given,
        ),
        end="",
    )
    for title, networks in chosen.items():
        if not networks:
            continue
        print(f"## {title}\n\n{row(_COLUMNS)}\n{row('---' for _ in _COLUMNS)}", flush=True)
        with console.progress(len(networks)) as steps:
            for network in networks:
                steps.start(network.name)
                print(row(measure(network).values()), flush=True)
                steps.done()
        print()
    for name, (wanted, _) in packages.items():
        if not wanted:
            print(f"Models of {name} were left out: add `--{name}`.")


if __name__ == "__main__":
    typer.run(main)
