"""Convolutions of every geometry against their Jacobians."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fwdkern.rules import NoRule
from tests.rules.jacobian import check_rule, freeze, image, live

aten = torch.ops.aten


@settings(max_examples=60)
@given(st.data())
def test_convolutions(data: st.DataObject) -> None:
    rank, groups = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 3))
    inputs, outputs = groups * data.draw(st.integers(1, 2)), groups * data.draw(st.integers(1, 2))
    several = st.lists(st.integers(1, 3), min_size=rank, max_size=rank)
    kernel, stride, dilation = data.draw(several), data.draw(several), data.draw(several)
    padding = data.draw(st.lists(st.integers(0, 2), min_size=rank, max_size=rank))
    # At least one output: the padded input holds the dilated kernel.
    extra = data.draw(st.lists(st.integers(0, 4), min_size=rank, max_size=rank))
    size = [max(1, d * (k - 1) + 1 - 2 * p) + e for d, k, p, e in zip(dilation, kernel, padding, extra, strict=True)]
    seed = data.draw(st.integers(0, 1000))
    x, weight = image(2, inputs, *size, seed=seed), image(outputs, inputs // groups, *kernel, seed=seed + 1)
    bias = image(outputs) if data.draw(st.booleans()) else None
    target = (aten.conv1d.default, aten.conv2d.default)[rank - 1]
    check_rule(target, *live(x), weight, bias, stride, padding, dilation, groups, tight=True)


@settings(max_examples=60)
@given(st.data())
def test_transposed_convolutions(data: st.DataObject) -> None:
    rank, groups = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 3))
    inputs, outputs = groups * data.draw(st.integers(1, 2)), groups * data.draw(st.integers(1, 2))
    several = st.lists(st.integers(1, 3), min_size=rank, max_size=rank)
    kernel, stride, dilation = data.draw(several), data.draw(several), data.draw(several)
    padding = [data.draw(st.integers(0, d * (k - 1) // 2)) for d, k in zip(dilation, kernel, strict=True)]
    beyond = [data.draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True)]
    size = data.draw(st.lists(st.integers(1, 4), min_size=rank, max_size=rank))
    seed = data.draw(st.integers(0, 1000))
    x, weight = image(2, inputs, *size, seed=seed), image(inputs, outputs // groups, *kernel, seed=seed + 1)
    bias = image(outputs) if data.draw(st.booleans()) else None
    target = (aten.conv_transpose1d.default, aten.conv_transpose2d.input)[rank - 1]
    check_rule(target, *live(x), weight, bias, stride, padding, beyond, groups, dilation, tight=True)


def test_three_dimensions() -> None:
    x = live(image(1, 2, 3, 4, 3))[0]
    check_rule(aten.conv3d.default, x, image(2, 1, 2, 2, 3), image(2), [1, 2, 1], [1, 0, 1], [1, 1, 1], 2, tight=True)
    check_rule(aten.conv_transpose3d.input, x, image(2, 2, 2, 1, 2), None, [2, 1, 1], tight=True)


@pytest.mark.parametrize("transposed", [False, True])
def test_general_form(transposed: bool) -> None:
    geometry = ([2, 1], [1, 0], [1, 1], transposed, [0, 0], 1)
    check_rule(aten.convolution.default, *live(image(2, 3, 5, 4)), image(3, 3, 3, 2), image(3), *geometry, tight=True)


def test_weights_that_depend_on_the_input_have_no_rule() -> None:
    x, weight = live(image(1, 1, 3, 3), image(1, 1, 2, 2))
    with pytest.raises(NoRule, match="weights of a convolution must not depend"):
        freeze(aten.conv2d.default, x, weight)
