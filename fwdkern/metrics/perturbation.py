"""How the score moves while pixels appear or vanish in the map's order, as in RISE.

Petsiuk et al. 2018, https://arxiv.org/abs/1806.07421.
"""

import torch
from torch import Tensor

from fwdkern.engine.units import parse_class
from fwdkern.errors import InputError
from fwdkern.metrics.confidence import SCORE_NOT_FINITE
from fwdkern.metrics.maps import check_images, check_maps
from fwdkern.metrics.masking import Fill, canvas, rank
from fwdkern.metrics.metric import Metric, first_reason, reasons_where
from fwdkern.metrics.scores import Score, Transform, check_score, run, target_score


class _Perturbation(Metric):
    """The area under the curve of the target's score over the share of pixels that have had their turn."""

    def __init__(self, model: Transform, normalise: Transform | None, fill: Fill, steps: int, score: Score) -> None:
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise InputError(f"steps={steps!r} must be a whole number of at least 1")
        super().__init__()
        self.model, self.normalise, self.fill, self.steps = model, normalise, fill, steps
        self.score = check_score(score)

    def update(self, images: Tensor, maps: Tensor, target: int | list[int] | Tensor | None = None) -> None:
        """Add a batch; the model runs ``steps`` + 2 times on it.

        Args:
            images: raw images ``[B, C, H, W]`` in [0, 1].
            maps: saliency maps ``[B, H, W]``, moved to the images' device.
            target: the class that each map is of: None for the top class of each image, one number, or ``[B]``.
        """
        maps, reasons = check_maps(maps)
        images = check_images(images, maps)
        ranked = rank(maps.to(images.device))  # [B, H W]
        pixels = ranked.shape[1]
        if self.steps > pixels:
            raise InputError(f"steps={self.steps} is more than the {pixels} pixels of a map: give fewer")
        before, after = self._ends(images, canvas(images, self.fill))
        classes = parse_class(target, run(self.model, images, self.normalise))
        turn = ranked.argsort(1).view(len(maps), 1, *maps.shape[1:])
        counts = [step * pixels // self.steps for step in range(self.steps + 1)]
        scores = []
        for count in counts:
            shown = torch.where(turn < count, after, before)
            scores.append(target_score(run(self.model, shown, self.normalise), classes, self.score))
        curves = torch.stack(scores, 1)  # [B, steps + 1]
        broken = reasons_where(~curves.isfinite().all(1), SCORE_NOT_FINITE)
        shares = torch.tensor(counts, dtype=torch.float64) / pixels
        self._add(torch.trapezoid(curves, shares), first_reason(reasons, broken))

    def _ends(self, images: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """What a pixel looks like before and after its turn, both ``[B, C, H, W]``."""
        raise NotImplementedError


class Insertion(_Perturbation):
    """Mean area under the score's curve while pixels appear, the largest of the map first; higher is better.

    Equal values go row by row from the top left. Scores are taken at ``steps`` + 1 shares of the pixels, as even as
    whole pixels allow.

    Args:
        model: from normalised images to raw class scores ``[B, classes]``, in evaluation mode.
        normalise: from raw images to the model's inputs; None where the model takes them raw.
        fill: what hidden pixels look like: ``"blur"`` (RISE), ``"black"``, ``"mean"`` (each image's mean colour) or a
            colour in [0, 1].
        steps: 224, as RISE takes one row's worth of pixels of a 224 x 224 image at a time.
        score: ``"softmax"``, areas in [0, 1], or ``"logit"``.
    """

    def __init__(
        self,
        model: Transform,
        normalise: Transform | None = None,
        fill: Fill = "blur",
        steps: int = 224,
        score: Score = "softmax",
    ) -> None:
        super().__init__(model, normalise, fill, steps, score)

    def _ends(self, images: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return hidden, images


class Deletion(_Perturbation):
    """Mean area under the score's curve while pixels vanish, the largest of the map first; lower is better.

    Arguments as for ``Insertion``. RISE sets pixels to the data set's mean colour: ``fill=preprocessing.mean`` does so;
    the default, each image's own mean colour, needs no data set.
    """

    def __init__(
        self,
        model: Transform,
        normalise: Transform | None = None,
        fill: Fill = "mean",
        steps: int = 224,
        score: Score = "softmax",
    ) -> None:
        super().__init__(model, normalise, fill, steps, score)

    def _ends(self, images: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return images, hidden
