"""Norms: 1 / σ is frozen; batch norm in evaluation mode is affine."""

import pytest
import torch

from fwdkern.rules import NoRule
from tests.rules.jacobian import check_frozen_factor, check_rule, freeze, image, live

aten = torch.ops.aten


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 4), (2, 3)])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm(shape: tuple[int, ...], affine: bool) -> None:
    weight, bias = (image(3), image(3, seed=1)) if affine else (None, None)
    statistics = (image(3, seed=2), image(3, seed=3).abs() + 0.1)
    check_rule(
        aten.batch_norm.default, *live(image(*shape)), weight, bias, *statistics, False, 0.1, 1e-3, True, tight=True
    )


def test_statistics_of_the_batch_have_no_rule() -> None:
    with pytest.raises(NoRule, match="mixes examples"):
        freeze(aten.batch_norm.default, *live(image(2, 3, 4)), None, None, None, None, True, 0.1, 1e-3, True)


def _standard(x: torch.Tensor, groups: int, eps: float, centre: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Values less their mean, where ``centre``, and what they are divided by."""
    rows = x.reshape(len(x), groups, -1)
    rows = rows - rows.mean(-1, keepdim=True) if centre else rows
    return rows.view(x.shape), (rows.pow(2).mean(-1, keepdim=True) + eps).sqrt().expand_as(rows).reshape(x.shape)


@pytest.mark.parametrize(
    ("shape", "normalised"), [((2, 3, 4), [4]), ((2, 3, 2, 5), [2, 5]), ((2, 1), [1]), ((1, 7), [7])]
)
@pytest.mark.parametrize("affine", [True, False])
def test_layer_norm(shape: tuple[int, ...], normalised: list[int], affine: bool) -> None:
    x = image(*shape)
    weight, bias = (image(*normalised, seed=1), image(*normalised, seed=2)) if affine else (None, None)
    groups = x[0].numel() // torch.Size(normalised).numel()
    _, divisor = _standard(x, groups, 0.1)

    def frozen(own: torch.Tensor) -> torch.Tensor:
        out = _standard(own, groups, 0.1)[0] / divisor
        return out * weight if weight is not None else out

    check_frozen_factor(frozen, aten.layer_norm.default, *live(x), normalised, weight, bias, 0.1, own=0)


@pytest.mark.parametrize("shape", [(2, 6, 3, 5), (2, 6, 7), (1, 6)])
@pytest.mark.parametrize("groups", [1, 3, 6])
def test_group_norm(shape: tuple[int, ...], groups: int) -> None:
    x, weight, bias = image(*shape), image(6, seed=1), image(6, seed=2)
    _, divisor = _standard(x, groups, 0.1)
    per_channel = weight.view(6, *[1] * (len(shape) - 2))

    def frozen(own: torch.Tensor) -> torch.Tensor:
        return _standard(own, groups, 0.1)[0] / divisor * per_channel

    check_frozen_factor(frozen, aten.group_norm.default, *live(x), groups, weight, bias, 0.1, own=0)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 7), (1, 3, 2, 2, 2)])
def test_instance_norm(shape: tuple[int, ...]) -> None:
    x, weight, bias, mean = image(*shape), image(3, seed=1), image(3, seed=2), image(3, seed=3)
    _, divisor = _standard(x, 3, 0.1)
    per_channel = weight.view(3, *[1] * (len(shape) - 2))

    def frozen(own: torch.Tensor) -> torch.Tensor:
        return _standard(own, 3, 0.1)[0] / divisor * per_channel

    target = aten.instance_norm.default
    check_frozen_factor(frozen, target, *live(x), weight, bias, None, None, True, 0.1, 0.1, True, own=0)
    statistics = (mean, mean.abs() + 0.1)
    check_rule(target, *live(x), weight, bias, *statistics, False, 0.1, 0.1, True, tight=True)


@pytest.mark.parametrize("eps", [None, 0.1])
@pytest.mark.parametrize(("shape", "normalised"), [((2, 3, 4), [4]), ((2, 3, 2, 5), [2, 5])])
def test_rms_norm(shape: tuple[int, ...], normalised: list[int], eps: float | None) -> None:
    x, weight = image(*shape), image(*normalised, seed=1)
    epsilon = torch.finfo(x.dtype).eps if eps is None else eps
    _, divisor = _standard(x, x[0].numel() // weight.numel(), epsilon, centre=False)
    for scale in (weight, None):
        factor = 1 if scale is None else scale
        check_frozen_factor(
            lambda own, factor=factor: own / divisor * factor,
            aten.rms_norm.default, *live(x), normalised, scale, eps, own=0,
        )  # fmt: skip


def test_norms_over_the_batch_and_live_weights_have_no_rule() -> None:
    x, weight = live(image(2, 3), image(3))
    with pytest.raises(NoRule, match="mixes examples"):
        freeze(aten.layer_norm.default, x, [2, 3], None, None, 0.1)
    with pytest.raises(NoRule, match="weight and the bias"):
        freeze(aten.layer_norm.default, x, [3], weight, None, 0.1)
