"""What is measured of each map, and under which names."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fwdkern.metrics import AverageDrop, AverageIncrease, EnergyPointingGame, PointingGame, masked_scores
from fwdkern.metrics.masking import Keep
from fwdkern.metrics.metric import Metric
from fwdkern.metrics.scores import Score

# How a map masks its image: the names in tables, and the argument of masked_scores.
PROTOCOLS: dict[str, Keep] = {"half": 0.5, "whole": "whole"}
SCORES: tuple[Score, ...] = ("logit", "softmax")


@dataclass(frozen=True)
class Batch:
    """Images of one batch.

    Attributes:
        pixels: raw ``[B, C, H, W]`` in [0, 1]; outputs: the model's ``[B, classes]``; target: ``[B]``.
        boxes: of each image, in pixels of the input, ``[n, 4]``; empty where there are none.
    """

    pixels: Tensor
    outputs: Tensor
    target: Tensor
    boxes: list[Tensor]


def measure(
    model: Callable[[Tensor], Tensor], normalise: Callable[[Tensor], Tensor], batch: Batch, maps: Tensor
) -> tuple[dict[str, list[float]], list[str]]:
    """One number for each measure and image, NaN where there is none, and for each image the reasons why."""
    found: dict[str, Metric] = {}
    for protocol, keep in PROTOCOLS.items():
        scores = masked_scores(model, batch.pixels, maps, batch.target, normalise, keep, batch.outputs)
        for kind in SCORES:
            for name, metric in (("drop", AverageDrop(kind)), ("increase", AverageIncrease(kind))):
                metric.update(scores)
                found[f"{name}-{kind}-{protocol}"] = metric
    for name, game in (("energy", EnergyPointingGame()), ("pointing", PointingGame())):
        game.update(maps, batch.boxes)
        found[name] = game
    values = {name: metric.values().tolist() for name, metric in found.items()}
    return values, _reasons(found, len(batch.pixels))


def _reasons(found: dict[str, Metric], count: int) -> list[str]:
    """For each image "reason (measures)"; one reason often hits several measures."""
    of_each: list[str] = []
    for image in range(count):
        hit: dict[str, list[str]] = {}
        for name, metric in found.items():
            if reason := metric.reasons()[image]:
                hit.setdefault(reason, []).append(name)
        of_each.append("; ".join(f"{reason} ({' '.join(names)})" for reason, names in hit.items()))
    return of_each


def no_measures() -> dict[str, list[float]]:
    """The same names with one NaN each: a row for an image that could not be read."""
    names = [f"{name}-{kind}-{protocol}" for protocol in PROTOCOLS for kind in SCORES for name in ("drop", "increase")]
    return {name: [torch.nan] for name in (*names, "energy", "pointing")}
