"""Resizing by every mode, up, down and to the same size, of lines, images and volumes; reading at given places."""

from typing import Any

import pytest
import torch

from fwdkern.rules import Live
from tests.rules.jacobian import check_frozen_factor, check_rule, freeze, image, live

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


@pytest.mark.parametrize("size", [2, 5, 9])
def test_lines(size: int) -> None:
    x = live(image(2, 2, 5))
    check_rule(aten.upsample_nearest1d.vec, *x, [size], None, tight=True)
    check_rule(aten._upsample_nearest_exact1d.vec, *x, [size], None, tight=True)
    check_rule(aten.upsample_linear1d.vec, *x, [size], False, None)


@pytest.mark.parametrize("size", [[2, 5, 3], [3, 2, 4]])
def test_volumes(size: list[int]) -> None:
    x = live(image(1, 2, 3, 2, 4))
    check_rule(aten.upsample_nearest3d.vec, *x, size, None, tight=True)
    check_rule(aten._upsample_nearest_exact3d.vec, *x, size, None, tight=True)
    check_rule(aten.upsample_trilinear3d.vec, *x, size, True, None)


# One column wide, torch 2.13's anti-aliased resizing itself is wrong: it repeats the first row.
@pytest.mark.parametrize("size", [*SIZES[:3], [9, 2]])
def test_exact_and_anti_aliased(size: list[int]) -> None:
    x = live(image(2, 2, 4, 5))
    check_rule(aten._upsample_nearest_exact2d.vec, *x, size, None, tight=True)
    check_rule(aten._upsample_bilinear2d_aa.vec, *x, size, False, None)
    check_rule(aten._upsample_bicubic2d_aa.vec, *x, size, False, None)


@pytest.mark.parametrize("mode", [0, 1, 2])
@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("align", [True, False])
def test_sampling(mode: int, padding: int, align: bool) -> None:
    x, grid = image(2, 3, 4, 5), image(2, 3, 2, 2, seed=3)
    check_rule(aten.grid_sampler.default, *live(x), grid, mode, padding, align)


def test_sampling_of_volumes_and_where_the_input_says() -> None:
    x, grid = image(2, 2, 3, 2, 4), image(2, 2, 1, 3, 3, seed=3)
    check_rule(aten.grid_sampler.default, *live(x), grid, 0, 1, True)
    x, grid = image(2, 3, 4, 5), image(2, 3, 2, 2, seed=3)
    target = aten.grid_sampler.default
    check_frozen_factor(lambda own: target(own, grid, 0, 0, False), target, *live(x, grid), 0, 0, False, own=0)
    frozen, output = freeze(target, x, Live(grid, 0), 0, 0, False)
    assert frozen.offset is output and not frozen.forward(image(5, 2, 3, 2, 2)).any()
