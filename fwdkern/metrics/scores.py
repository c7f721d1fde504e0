"""A model's scores on images as they are and as a map masks them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fwdkern.engine.units import parse_class
from fwdkern.errors import InputError
from fwdkern.metrics.maps import check_images, check_maps
from fwdkern.metrics.masking import Keep, mask

Score = Literal["logit", "softmax"]
Transform = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class MaskedScores:
    """Scores of B images before and after masking.

    Attributes:
        image: the model's output on the images, ``[B, classes]``.
        masked: on the masked images, ``[B, classes]``.
        target: the class that each map is of, int64 ``[B]``.
        reasons: why a map could not mask its image; "" where it could.
    """

    image: Tensor
    masked: Tensor
    target: Tensor
    reasons: list[str]


def masked_scores(
    model: Transform,
    images: Tensor,
    maps: Tensor,
    target: int | list[int] | Tensor | None = None,
    normalise: Transform | None = None,
    keep: Keep = 0.5,
    outputs: Tensor | None = None,
) -> MaskedScores:
    """Run the model on images and on what the maps leave of them.

    Args:
        model: from normalised images ``[B, C, H, W]`` to raw class scores ``[B, classes]``, in evaluation mode.
        images: raw images ``[B, C, H, W]`` in [0, 1].
        maps: saliency maps ``[B, H, W]``, moved to the images' device.
        target: the class that each map is of: None for the top class of each image, one number, or ``[B]``.
        normalise: from raw images to the model's inputs; None where the model takes them raw.
        keep: how a map masks. A share: this share of the pixels, those with the largest values, stays, the others
            become black. The default is the upper half, as in Score-CAM (Wang et al. 2020). ``"whole"``: the image is
            multiplied by the map's positive part over its maximum, as in Grad-CAM++ (Chattopadhay et al. 2018).
        outputs: the model's output on the normalised images, if it is known already.

    Raises:
        InputError: says which argument does not fit and how.
    """
    checked, reasons = check_maps(maps)
    images = check_images(images, checked)
    factors = mask(checked.to(images.device), keep).to(images.dtype)[:, None]
    image = run(model, images, normalise) if outputs is None else check_outputs(outputs, len(images))
    masked = run(model, images * factors, normalise)
    if masked.shape != image.shape:
        raise InputError(f"the model returns {list(masked.shape)}, but outputs has shape {list(image.shape)}")
    return MaskedScores(image, masked, parse_class(target, image), reasons)


def run(model: Transform, images: Tensor, normalise: Transform | None) -> Tensor:
    """The model's scores of raw images, ``[B, classes]``."""
    with torch.no_grad():
        return check_outputs(model(images if normalise is None else normalise(images)), len(images))


def check_outputs(outputs: object, batch: int) -> Tensor:
    """Class scores ``[batch, classes]``, without their history."""
    if not isinstance(outputs, Tensor) or outputs.dim() != 2 or len(outputs) != batch or not outputs.shape[1]:
        given = list(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise InputError(f"the model must return class scores [{batch}, classes], got {given}")
    return outputs.detach()


def target_score(outputs: Tensor, target: Tensor, score: Score) -> Tensor:
    """The target's raw or softmax score, float64 ``[B]`` on the CPU, from outputs ``[B, classes]``."""
    outputs = outputs.cpu().double()
    values = outputs.softmax(1) if score == "softmax" else outputs
    return values.gather(1, target.cpu()[:, None])[:, 0]


def check_score(score: object) -> Score:
    if score not in ("logit", "softmax"):
        raise InputError(f'score={score!r} is not one of "logit", "softmax"')
    return score
