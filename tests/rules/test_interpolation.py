"""Nearest, bilinear and bicubic resizing, up, down and to the same size."""

from typing import Any

import pytest
import torch

from tests.rules.jacobian import check_rule, image, live

aten = torch.ops.aten
SIZES = [[6, 8], [2, 3], [4, 5], [9, 1]]


@pytest.mark.parametrize("size", SIZES)
def test_nearest(size: list[int]) -> None:
    check_rule(aten.upsample_nearest2d.vec, *live(image(2, 2, 4, 5)), size, None, tight=True)


@pytest.mark.parametrize("scales", [[2.0, 2.0], [1.7, 0.6]])
def test_scale_factors(scales: list[float]) -> None:
    x = live(image(2, 2, 4, 5))
    check_rule(aten.upsample_nearest2d.vec, *x, None, scales, tight=True)
    check_rule(aten.upsample_bilinear2d.vec, *x, None, False, scales)
    check_rule(aten.upsample_bicubic2d.vec, *x, None, False, scales)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize("target", [aten.upsample_bilinear2d.vec, aten.upsample_bicubic2d.vec])
def test_smooth(target: Any, align: bool, size: list[int]) -> None:
    check_rule(target, *live(image(2, 2, 4, 5)), size, align, None)
