"""How good is a saliency map? Measures from the literature, gathered batch by batch.

    before_and_after = masked_scores(model, images, maps, target, preprocessing.normalise)
    drop, increase = AverageDrop("softmax"), AverageIncrease("softmax")
    drop.update(before_and_after)
    increase.update(before_and_after)
    drop.compute(), drop.skipped  # a mean in per cent, and how many examples it leaves out, by reason

Each measure is a mean over examples. ``update`` takes a batch, ``compute`` gives the mean, ``values`` and ``reasons``
one entry for every example, ``reset`` forgets them. Images are raw, ``[B, C, H, W]`` in [0, 1], and are masked before
they are normalised; maps are ``[B, H, W]`` on any device and of any floating dtype. No gradients are recorded.

A map is a saliency map of one class: the larger, the more a pixel speaks for the class. Only its positive part has
energy and can mask by multiplication; pixels are ranked by their values, negative ones too. A map with no positive
value points nowhere; every measure leaves that example out and counts it, by the same reason.

How other packages define the same measures differently:

- torch-cam's ``ClassificationMetric`` and pytorch-grad-cam's ``CamMultImageConfidenceChange`` multiply the normalised
  input by the whole map as it is given: what is masked becomes the data set's mean colour and not black. torch-cam
  divides by the score plus 1e-7, be it negative; pytorch-grad-cam's ``DropInConfidence`` does not divide at all. Both
  give fractions, not per cent.
- torch-cam's ``DeletionInsertionMetric`` hides pixels behind zeros after normalisation, in 20 steps.
- Quantus' ``RelevanceMassAccuracy`` sums negative values too; its ``PointingGame`` has no tolerance. Its
  ``PixelFlipping`` is a deletion curve without its first point, and hides pixels behind the image's smallest value.

Where the definitions agree, tests compare the results.
"""

from fwdkern.metrics.confidence import AverageDrop, AverageIncrease, WinRate
from fwdkern.metrics.interval import bootstrap
from fwdkern.metrics.perturbation import Deletion, Insertion
from fwdkern.metrics.pointing import EnergyPointingGame, PointingGame
from fwdkern.metrics.scores import MaskedScores, masked_scores

__all__ = [
    "AverageDrop",
    "AverageIncrease",
    "Deletion",
    "EnergyPointingGame",
    "Insertion",
    "MaskedScores",
    "PointingGame",
    "WinRate",
    "bootstrap",
    "masked_scores",
]
