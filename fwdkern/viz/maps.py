"""From tensors to what is drawn: pictures, maps of H x W values, and what they are called."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fwdkern.errors import InputError
from fwdkern.relevance import Relevance
from fwdkern.viz.sheet import SMALL, Box


def pictures(images: Tensor) -> np.ndarray:
    """Turn images [B, C, H, W] or [C, H, W] into RGB pictures [B, H, W, 3] in [0, 1].

    One channel is grey, three are RGB. Values outside [0, 1] (normalised inputs) are stretched image by
    image.
    """
    if images.dim() == 3:
        images = images[None]
    if images.dim() != 4 or images.shape[1] not in (1, 3):
        raise InputError(
            f"The images have shape {list(images.shape)}; expected [B, C, H, W] or [C, H, W] with 1 or 3 channels."
        )
    values = images.detach().to("cpu", torch.float64)
    if not torch.isfinite(values).all():
        raise InputError("The images hold NaN or infinite values; they cannot be drawn.")
    low, high = values.amin((1, 2, 3), keepdim=True), values.amax((1, 2, 3), keepdim=True)
    outside = (low < 0) | (high > 1)
    stretched = (values - low) / (high - low).clamp_min(1e-12)
    values = torch.where(outside, stretched, values)
    return values.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()


def score_maps(relevance: Relevance, shape: tuple[int, int], segments: Tensor | None = None) -> np.ndarray:
    """Return the scores as maps [B, K, M, H, W]; M is 1, or the number of input channels if kept apart.

    segments: label map [H, W] for scores [B, K, segments]; every pixel shows the whole score of its segment.
    """
    scores = relevance.scores.detach().to("cpu", torch.float64)
    if scores.dim() == 3:
        if segments is None:
            raise InputError("These scores belong to segments; give the label map [H, W] as segments=.")
        scores = scores[:, :, segments.cpu()]  # [B, K, H, W]
    if scores.dim() == 4:
        scores = scores[:, :, None]
    if scores.dim() != 5 or tuple(scores.shape[-2:]) != shape:
        raise InputError(
            f"The scores have shape {list(relevance.scores.shape)}; the images are {shape[0]} x {shape[1]} pixels."
        )
    return scores.numpy()


def check_batch(images: np.ndarray, relevance: Relevance) -> None:
    """Raise InputError unless there is one image for every row of the relevance."""
    if len(images) != len(relevance.scores):
        raise InputError(f"There are {len(images)} images and maps of {len(relevance.scores)}; expected as many.")


def class_name(relevance: Relevance, example: int, row: int, classes: Sequence[str] | None) -> str:
    """Name what one map explains: `class 3 (three)`, or `features.3.relu [12]` if no classes were asked for."""
    if relevance.units.shape == relevance.outputs.shape:
        index = int(relevance.units[example, row])
        known = classes is not None and 0 <= index < len(classes) and classes[index] != str(index)
        # ImageNet's names are lists of synonyms; the first is enough for a title.
        return f"class {index} ({classes[index].split(', ')[0]})" if known and classes else f"class {index}"
    return unit_title(relevance, row)


def unit_title(relevance: Relevance, row: int) -> str:
    """Name a unit with its layer: `features.3.relu [c=12, y=7, x=9]`."""
    return f"{relevance.layer} [{unit_name(relevance, row)}]"


def unit_name(relevance: Relevance, row: int) -> str:
    """Name a unit by its index in its layer: `c=12, y=7, x=9` in a convolution."""
    index = [int(i) for i in relevance.units[row]]
    if len(index) != 3:
        return ", ".join(str(i) for i in index)
    return ", ".join(f"{name}={i}" for name, i in zip("cyx", index, strict=True))


def completeness(delta: float) -> str:
    """The error of one map: how far the sum of all scores is from the unit's value."""
    return f"completeness error {abs(delta):.1e}" if delta else "completeness error 0"


def worst_error(relevance: Relevance, example: int) -> str:
    """The largest completeness error of one example's maps, as text."""
    deltas = relevance.delta[example].abs()
    return completeness(float(deltas.max()) if deltas.numel() else 0.0)


def channel_of(relevance: Relevance, row: int) -> int:
    """Index of the channel whose sum a row is."""
    return int(relevance.units[row].reshape(-1)[0])


def boxes_of(relevance: Relevance, receptive_fields: Tensor | None) -> list[list[int]]:
    """Check receptive fields [K, 4] against the K maps and return their rows; none if there are none."""
    if receptive_fields is None:
        return []
    units = relevance.scores.shape[1]
    if tuple(receptive_fields.shape) != (units, 4):
        raise InputError(f"The receptive fields have shape {list(receptive_fields.shape)}; expected [{units}, 4].")
    return receptive_fields.tolist()


def seen(maps: np.ndarray, frames: Sequence[Box]) -> np.ndarray:
    """The part of maps [..., H, W] inside the frame, or all of it without one.

    Colour limits are taken from it: the evenly spread bias outside would outnumber the pixels of a small
    field.
    """
    return maps[(..., *frames[0].slices)] if frames else maps


def grid_sigma(shape: tuple[int, int]) -> float:
    """Smoothing for small cells: where pixels are smaller than the screen's, signs would mix to mud."""
    return max(shape) / 112 if max(shape) > SMALL else 0.0


def smooth_note(sigma: float) -> str:
    """What a caption says about smoothing."""
    return f" Maps wider than {SMALL} pixels are smoothed (Gaussian, {sigma:.2g} pixels)." if sigma else ""


def result_note(relevance: Relevance) -> str:
    """What a caption says about this result: bias left out of the maps, logits in place of a softmax."""
    bias = "" if relevance.bias_in_scores else " The bias is not part of the maps."
    return bias + (f" Note: {relevance.note}." if relevance.note else "")
