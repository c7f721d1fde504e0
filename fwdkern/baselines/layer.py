"""A layer's output in the middle of a model, and the gradient by it."""

import difflib
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fwdkern.baselines.method import Target, check_arguments, gradient, recording, run
from fwdkern.engine.units import parse_class
from fwdkern.errors import InputError, LayerError

Layer = str | nn.Module | None


def default_layer(model: nn.Module, inputs: Tensor) -> str:
    """The layer that GradCAM takes unless told otherwise: the last whose output has a spatial extent.

    One with a channel for each class is passed over where there is another: at such a layer, SqueezeNet's last
    convolution for example, each map is the class's own channel, and GradCAM and GradCAM++ are the same.
    A block that returns its last layer's output goes by that layer's name. An activation that is a function and no
    module, such as F.relu, has no name here: the map is then the one below it.

    Args:
        model: in evaluation mode; inputs: images ``[B, C, H, W]``, of which the first is run.

    Raises:
        InputError: no module of the model returns a map ``[B, K, h, w]`` with h·w > 1.
    """
    x = check_arguments(model, inputs)[:1]
    calls: dict[str, int] = {}
    last: tuple[Tensor, int] | None = None
    maps: list[tuple[str, int]] = []  # names and channels, in order of execution

    def seen(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            nonlocal last
            calls[name] = calls.get(name, -1) + 1
            if not _is_map(output):
                return
            # A block or a dropout hands on the tensor it was given; a layer that writes in place makes a new version.
            if last is None or output is not last[0] or output._version != last[1]:
                maps.append((f"{name}@{calls[name]}" if calls[name] else name, output.shape[1]))
                last = output, output._version

        return hook

    with ExitStack() as hooks, recording(), torch.no_grad():
        for name, module in model.named_modules():
            if name:
                hooks.callback(module.register_forward_hook(seen(name)).remove)
        classes = run(model, x).shape[1]
    if not maps:
        raise InputError(
            f"no module of {type(model).__name__} returns a map [B, K, h, w] of more than one position, which GradCAM "
            "needs: use a method that needs no layer, such as InputXGradient"
        )
    return ([name for name, channels in maps if channels != classes] or [maps[-1][0]])[-1]


def layer_gradient(model: nn.Module, layer: Layer, x: Tensor, target: Target) -> tuple[Tensor, Tensor]:
    """A layer's output ``[B, K, h, w]`` and the gradient of each image's class score by it.

    ``layer`` is a module path; ``path@1`` is the second call of a module that is called several times.
    """
    name = layer_name(model, layer)
    path, _, repeat = name.partition("@")
    module = model.get_submodule(path)
    found: list[Any] = []
    calls = 0

    def hook(module: nn.Module, args: Any, output: Any) -> Tensor | None:
        nonlocal calls
        calls += 1
        if calls != int(repeat or 0) + 1:
            return None
        if not _is_map(output):
            found.append(output)
            return None
        # The graph starts here. What follows gets a copy, which it may write into: a ReLU in place, for example.
        value = output.detach().requires_grad_()
        found.append(value)
        return value.clone()

    with recording():
        handle = module.register_forward_hook(hook)
        try:
            scores = run(model, x)
        finally:
            handle.remove()
        if not found:
            raise LayerError(
                f"layer {name!r} is not reached: the model calls module {path!r} {calls} times"
                + (f"; {path}@{calls - 1} is the last" if calls > 1 else "")
            )
        (value,) = found
        if not _is_map(value):
            given = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise InputError(
                f"layer {name!r} must return a map [B, K, h, w] of more than one position, got {given}: choose a layer "
                f"before the pooling, such as {default_layer(model, x)!r}"
            )
        return value.detach(), gradient(scores, parse_class(target, scores.detach()), value, f"layer {name!r}")


def layer_name(model: nn.Module, layer: Layer) -> str:
    """The path of a module given by path or as itself.

    Raises:
        LayerError: it is none of the model's.
    """
    names = {name: module for name, module in model.named_modules() if name}
    if isinstance(layer, nn.Module):
        name = next((name for name, module in names.items() if module is layer), None)
        if name is None:
            raise LayerError(f"layer {type(layer).__name__} is not a module of this {type(model).__name__}")
        return name
    path, at, repeat = str(layer).partition("@")
    if path not in names or (at and not repeat.isdecimal()):
        close = difflib.get_close_matches(str(layer), names, 3, 0.5)
        raise LayerError(
            f"no module is called {layer!r}"
            + (f"; close: {', '.join(map(repr, close))}" if close else "")
            + f". model.named_modules() lists all {len(names)}"
        )
    return str(layer)


def upsample(maps: Tensor, like: Tensor) -> Tensor:
    """Maps ``[B, h, w]`` stretched to the height and width of images ``[B, C, H, W]``, bilinearly."""
    return F.interpolate(maps[:, None], like.shape[2:], mode="bilinear", align_corners=False)[:, 0]


def _is_map(output: object) -> bool:
    return (
        isinstance(output, Tensor) and output.is_floating_point() and output.dim() == 4 and output.shape[2:].numel() > 1
    )
