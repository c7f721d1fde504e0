"""Pools with overlap, padding, dilation, ceil mode and ties against their Jacobians."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fwdkern
from fwdkern.errors import UnsupportedOperatorError
from fwdkern.rules.pooling import adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d
from tests.rules.jacobian import check_rule, freeze, image, integers, live

aten = torch.ops.aten
PAIR = st.tuples(st.integers(1, 3), st.integers(1, 3)).map(list)


@settings(max_examples=60)
@given(st.data())
def test_max_pools(data: st.DataObject) -> None:
    kernel, stride, dilation = data.draw(PAIR), data.draw(PAIR), data.draw(PAIR)
    padding = [data.draw(st.integers(0, k // 2)) for k in kernel]
    size = [d * (k - 1) + 1 + data.draw(st.integers(0, 4)) for k, d in zip(kernel, dilation, strict=True)]
    make = data.draw(st.sampled_from([image, integers]))
    x = make(2, 2, *size, seed=data.draw(st.integers(0, 1000)))
    ceil_mode = data.draw(st.booleans())
    check_rule(aten.max_pool2d.default, *live(x), kernel, stride, padding, dilation, ceil_mode)


@settings(max_examples=60)
@given(st.data())
def test_average_pools(data: st.DataObject) -> None:
    kernel, stride = data.draw(PAIR), data.draw(PAIR)
    padding = [data.draw(st.integers(0, k // 2)) for k in kernel]
    size = [k + data.draw(st.integers(0, 4)) for k in kernel]
    x = image(2, 2, *size, seed=data.draw(st.integers(0, 1000)))
    rest = (data.draw(st.booleans()), data.draw(st.booleans()), data.draw(st.sampled_from([None, 3])))
    check_rule(aten.avg_pool2d.default, *live(x), kernel, stride, padding, *rest, tight=True)


@settings(max_examples=30)
@given(st.integers(1, 7), st.integers(1, 7), st.integers(1, 5), st.integers(1, 5))
def test_adaptive_pools(height: int, width: int, rows: int, columns: int) -> None:
    x = live(image(2, 2, height, width))
    check_rule(aten.adaptive_avg_pool2d.default, *x, [rows, columns], tight=True)
    check_rule(adaptive_max_pool2d, *x, [rows, columns])


@settings(max_examples=40)
@given(st.data())
def test_pools_of_lines_and_volumes(data: st.DataObject) -> None:
    rank = data.draw(st.sampled_from([1, 3]))
    numbers = st.lists(st.integers(1, 3), min_size=rank, max_size=rank)
    kernel, stride, dilation = data.draw(numbers), data.draw(numbers), data.draw(numbers)
    padding = [data.draw(st.integers(0, k // 2)) for k in kernel]
    size = [d * (k - 1) + 1 + data.draw(st.integers(0, 2)) for k, d in zip(kernel, dilation, strict=True)]
    make = data.draw(st.sampled_from([image, integers]))
    x = live(make(1, 2, *size, seed=data.draw(st.integers(0, 1000))))
    most, mean = [(aten.max_pool1d, aten.avg_pool1d), (aten.max_pool3d, aten.avg_pool3d)][rank // 3]
    ceil_mode = data.draw(st.booleans())
    check_rule(most.default, *x, kernel, stride, padding, dilation, ceil_mode)
    check_rule(mean.default, *x, kernel, stride, padding, ceil_mode, data.draw(st.booleans()), tight=True)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_adaptive_pools_of_lines_and_volumes(size: int) -> None:
    line, volume = live(image(2, 2, 4)), live(image(1, 2, 3, 4, 2))
    check_rule(aten.adaptive_avg_pool1d.default, *line, [size], tight=True)
    check_rule(adaptive_max_pool1d, *line, [size])
    check_rule(aten.adaptive_avg_pool3d.default, *volume, [size, 2, 1], tight=True)
    check_rule(adaptive_max_pool3d, *volume, [size, 2, 1])


def test_defaults_are_those_of_torch() -> None:
    x = live(image(1, 2, 6, 5))
    check_rule(aten.max_pool2d.default, *x, [2, 3])
    check_rule(aten.avg_pool2d.default, *x, [2, 3], tight=True)


def test_a_max_pool_sees_its_whole_window() -> None:
    frozen, _ = freeze(aten.max_pool2d.default, *live(image(1, 1, 4, 4)), [2, 2])
    codes = torch.arange(16.0).view(1, 1, 1, 4, 4).expand(4, -1, -1, -1, -1)
    assert frozen.reach(codes)[0, 0, 0].tolist() == [[5, 7], [13, 15]]


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_the_first_of_equals_wins(value: float) -> None:
    frozen, _ = freeze(aten.max_pool2d.default, *live(torch.full((1, 1, 2, 2), value).double()), [2, 2])
    (pulled,) = frozen.reverse(torch.ones(1, 1, 1, 1, 1).double())
    assert pulled.flatten().tolist() == [1, 0, 0, 0]


def test_a_window_in_the_padding_alone_is_an_error() -> None:
    pool = torch.nn.MaxPool2d((1, 2), stride=1, padding=(0, 1), dilation=2).eval()
    x = torch.ones(1, 1, 1, 1)
    assert pool(x).isneginf().all()
    with pytest.raises(UnsupportedOperatorError, match="padding of an input"):
        fwdkern.fuse(pool, x).attribute_units(x, "max_pool2d")
