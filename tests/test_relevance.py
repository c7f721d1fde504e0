"""The result object."""

import pytest
import torch

from fwdkern import Relevance
from fwdkern.errors import InputError


def _result(scores: torch.Tensor, **more: object) -> Relevance:
    shape = scores.shape[:2]
    return Relevance(
        scores,
        bias=torch.zeros(shape),
        outputs=scores.flatten(2).sum(2),
        units=torch.zeros(shape[1], 1, dtype=torch.long),
        layer="layer",
        features="pixels",
        mode="forward",
        **more,  # type: ignore[arg-type]
    )


def test_saliency_is_scaled_map_by_map() -> None:
    scores = torch.tensor([[[[2.0, -4.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]], [[-1.0, -2.0], [-3.0, -4.0]]]])
    result = _result(scores)
    assert result.saliency()[0, 0].tolist() == [[1.0, 0.0], [0.5, 0.0]]
    assert result.saliency("absolute")[0, 0].tolist() == [[0.5, 1.0], [0.25, 0.0]]
    assert result.saliency("signed")[0, 0].tolist() == [[0.5, -1.0], [0.25, 0.0]]
    assert not result.saliency()[0, 1:].any()
    assert result.saliency("signed")[0, 2].min() == -1


def test_saliency_sums_channels_and_refuses_other_signs() -> None:
    scores = torch.randn(2, 3, 4, 5, 5)
    result = _result(scores)
    result.features = "channels"
    assert result.saliency().shape == (2, 3, 5, 5)
    with pytest.raises(InputError, match="negative"):
        result.saliency("negative")  # type: ignore[arg-type]


def test_delta_counts_what_the_scores_leave_out() -> None:
    scores = torch.ones(1, 2, 2, 2)
    result = _result(scores, outside=torch.tensor([[0.5, 0.0]]))
    assert result.delta.tolist() == [[-0.5, 0.0]]
    separate = _result(scores, bias_in_scores=False)
    separate.bias = torch.tensor([[0.0, 1.0]])
    assert separate.delta.tolist() == [[0.0, -1.0]]


def test_delta_is_summed_in_double() -> None:
    scores = torch.cat([torch.full((1, 1, 1, 4096), 1e4), torch.full((1, 1, 1, 4096), -1e4)], 2)
    scores[0, 0, 0, 0] += 1
    result = _result(scores)
    result.outputs = torch.ones(1, 1)
    assert result.delta.item() == 0


def test_saliency_of_segments() -> None:
    result = _result(torch.tensor([[[2.0, -1.0, 4.0]]]))
    result.features = "segments"
    assert result.saliency().tolist() == [[[0.5, 0, 1]]]
