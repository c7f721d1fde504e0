"""How the model's confidence changes when it sees only what the map shows, as in Grad-CAM++.

Chattopadhay et al. 2018, https://arxiv.org/abs/1710.11063. Y is the score of the target on the image, O on the image
masked by the map; see ``masked_scores`` for the mask.
"""

from torch import Tensor

from fwdkern.errors import InputError
from fwdkern.metrics.metric import Metric, first_reason, reasons_where
from fwdkern.metrics.scores import MaskedScores, Score, check_score, target_score

SCORE_NOT_FINITE = "score is not finite"
SCORE_NOT_POSITIVE = "score is not positive"
# Two passes over the same image may differ by this share of the score, by the order of their sums in float32.
_ROUNDING = 1e-5


class AverageDrop(Metric):
    """Mean of max(0, Y - O) / Y in per cent; lower is better.

    A raw score Y of zero or less has no share that could be lost: the example is left out as "score is not positive".
    A raw O may be negative, so that a single drop may exceed 100.

    Args:
        score: ``"logit"``, the model's output, or ``"softmax"`` of it.
    """

    def __init__(self, score: Score = "logit") -> None:
        super().__init__()
        self.score = check_score(score)

    def update(self, scores: MaskedScores) -> None:
        before, after, reasons = _before_and_after(scores, self.score)
        no_share = reasons_where(before <= 0, SCORE_NOT_POSITIVE)
        self._add((before - after).clamp_min(0) / before * 100, first_reason(reasons, no_share))


class AverageIncrease(Metric):
    """Share of examples with Y < O, by more than rounding, in per cent; higher is better. Raw scores may be negative.

    Args:
        score: ``"logit"``, the model's output, or ``"softmax"`` of it.
    """

    def __init__(self, score: Score = "logit") -> None:
        super().__init__()
        self.score = check_score(score)

    def update(self, scores: MaskedScores) -> None:
        before, after, reasons = _before_and_after(scores, self.score)
        self._add((after - before > _ROUNDING * before.abs()).double() * 100, reasons)


class WinRate(Metric):
    """Share of examples in per cent where the score falls less under one method's map than under another's.

    The falls Y - O are compared without the drop's limit at 0, so that of two maps which both raise the score the one
    that raises it more wins. Equal falls count half; the rates of A over B and of B over A add up to 100.

    Args:
        score: ``"logit"``, the model's output, or ``"softmax"`` of it.
    """

    def __init__(self, score: Score = "logit") -> None:
        super().__init__()
        self.score = check_score(score)

    def update(self, scores: MaskedScores, other: MaskedScores) -> None:
        """scores: of the method that may win; other: of its rival, on the same images and classes."""
        before, after, reasons = _before_and_after(scores, self.score)
        other_before, other_after, other_reasons = _before_and_after(other, self.score)
        if len(before) != len(other_before) or not scores.target.cpu().equal(other.target.cpu()):
            raise InputError(
                f"the two methods must be scored on the same images and classes, got {len(before)} and "
                f"{len(other_before)} examples" + (" of other classes" if len(before) == len(other_before) else "")
            )
        fall, other_fall = before - after, other_before - other_after
        wins = (fall < other_fall).double() + (fall == other_fall).double() / 2
        self._add(wins * 100, first_reason(reasons, other_reasons))


def _before_and_after(scores: MaskedScores, kind: Score) -> tuple[Tensor, Tensor, list[str]]:
    """Y and O, float64 ``[B]``, and which examples have none."""
    before, after = (target_score(outputs, scores.target, kind) for outputs in (scores.image, scores.masked))
    broken = reasons_where(~(before.isfinite() & after.isfinite()), SCORE_NOT_FINITE)
    return before, after, first_reason(scores.reasons, broken)
