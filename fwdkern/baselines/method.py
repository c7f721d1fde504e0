"""What the methods share: checked arguments, one score for each image, and its gradient."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn

from fwdkern.engine.checks import check_input
from fwdkern.engine.units import parse_class
from fwdkern.errors import FwdkernError, InputError
from fwdkern.graph.capture import check_evaluation_mode

Target = int | list[int] | Tensor | None


class Method(Protocol):
    """A way to make saliency maps."""

    def attribute(self, inputs: Tensor, target: Target = None) -> Tensor:
        """Maps ``[B, H, W]`` of one class each for images ``[B, C, H, W]``.

        Raises:
            InputError: an argument cannot be used, or the model cannot be differentiated.
        """


def check_arguments(model: object, inputs: object) -> Tensor:
    """The inputs without their history, if they are finite images that the model can take."""
    if not isinstance(model, nn.Module):
        raise InputError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    check_evaluation_mode(model)
    if not isinstance(inputs, Tensor) or inputs.dim() != 4:
        given = list(inputs.shape) if isinstance(inputs, Tensor) else type(inputs).__name__
        hint = (
            "; add the batch dimension with inputs.unsqueeze(0)" if isinstance(given, list) and len(given) == 3 else ""
        )
        raise InputError(f"inputs must be images [B, C, H, W], got {given}{hint}")
    weight = next((p for p in model.parameters() if p.is_floating_point()), inputs)
    return check_input(inputs, tuple(inputs.shape[1:]), weight.dtype, weight.device)


@contextmanager
def recording() -> Iterator[None]:
    """Let autograd record, whatever the caller has switched off."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def run(model: nn.Module, x: Tensor) -> Tensor:
    """The model's scores ``[B, classes]``. It gets a copy of ``x``, which its first layer may write into."""
    try:
        scores = model(x.clone())
    except FwdkernError:
        raise
    except RuntimeError as error:
        raise InputError(f"the model does not run on inputs of shape {list(x.shape)}: {_first_line(error)}") from error
    if not isinstance(scores, Tensor) or scores.dim() != 2 or len(scores) != len(x):
        given = list(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise InputError(
            f"the model must return scores [{len(x)}, classes], got {given}: wrap it in a module that returns them"
        )
    if not scores.isfinite().all():
        raise InputError(f"the model returns {int((~scores.isfinite()).sum())} scores that are NaN or infinite")
    return scores


def gradient(scores: Tensor, classes: Tensor, of: Tensor, name: str) -> Tensor:
    """The gradient of each image's class score, in the shape of ``of`` ``[B, ...]``; no ``.grad`` is written.

    ``name`` is what errors call ``of``.
    """
    found = None
    if scores.requires_grad:
        try:
            (found,) = torch.autograd.grad(scores.gather(1, classes[:, None]).sum(), of, allow_unused=True)
        except RuntimeError as error:
            raise InputError(f"the model cannot be differentiated: {_first_line(error)}") from error
    if found is None:
        raise InputError(
            f"the scores have no gradient by {name}: the model cuts it off, for example with detach(), no_grad() or "
            "integers, and needs a differentiable way from there to its scores"
        )
    return found


def input_gradient(model: nn.Module, x: Tensor, target: Target) -> Tensor:
    """The gradient of each image's class score by its pixels, ``[B, C, H, W]``."""
    with recording():
        x = x.clone().requires_grad_()
        scores = run(model, x)
        return gradient(scores, parse_class(target, scores.detach()), x, "the input")


def generators(x: Tensor, seed: int) -> list[torch.Generator]:
    """A source of random numbers for each image ``[B, ...]``, on the CPU.

    It depends on the seed and the image's values: not on the batch, on its place in it, or on a device.
    """
    made = []
    for image in x.detach().to("cpu", torch.float64):
        digest = hashlib.sha256(str(seed).encode() + image.contiguous().numpy().tobytes()).digest()
        made.append(torch.Generator().manual_seed(int.from_bytes(digest[:8], "little")))
    return made


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
