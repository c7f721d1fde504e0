import pytest
import torch

from fwdkern.errors import InputError
from fwdkern.ops import native
from fwdkern.ops.max_pool import fits_bytes, max_pool, max_unpool, max_unpool_reference, winner_index
from tests import SEEDS
from tests.ops.layouts import LAYOUTS, draw

WINDOWS = [
    ((3, 3), (2, 2), (0, 0), (1, 1)),
    ((3, 2), (1, 2), (1, 1), (1, 1)),
    ((2, 3), (3, 1), (0, 0), (2, 1)),
    ((1, 1), (2, 3), (0, 0), (1, 1)),
]


@pytest.fixture(params=native.ISA_NAMES)
def isa(request, native_library, monkeypatch):
    if native.ISA_NAMES.index(request.param) > native_library.available_isa():
        pytest.skip(f"this machine does not run {request.param}")
    monkeypatch.setenv("FWDKERN_CPU_ISA", request.param)
    return request.param


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("backend", ["torch", "cpu", "cuda"])
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_and_winners_are_those_of_torch(isa, layout, window, ceil_mode, backend, seed, poisoned):
    values = draw(layout, seed, 2, 19, 8, 7).mul(2).round()  # ties
    values[0, 3, 4, 5] = torch.nan if layout != "expanded" else 1.0
    out, winner = max_pool(values, window, ceil_mode, backend=backend)
    expected, index = torch.nn.functional.max_pool2d(values, *window, ceil_mode=ceil_mode, return_indices=True)
    assert torch.equal(out.nan_to_num(99), expected.nan_to_num(99))
    assert winner_index(winner, window, (8, 7)).equal(index)
    maps = draw("contiguous", seed + 1, 4, *out.shape[1:])
    pulled = max_unpool(maps, winner, window, (8, 7), backend=backend)
    reference = max_unpool_reference(maps.double(), winner, *window, (8, 7))
    # At most all of a window's positions share one winner.
    terms = window[0][0] * window[0][1]
    bound = terms * torch.finfo(torch.float32).eps * max_unpool_reference(maps.double().abs(), winner, *window, (8, 7))
    assert ((pulled - reference).abs() <= bound).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_maps_in_any_layout(isa, layout, poisoned):
    window = WINDOWS[0]
    _, winner = max_pool(draw("contiguous", 0, 2, 5, 9, 9), window, False)
    maps = draw(layout, 1, 2, 5, 4, 4)
    expected = max_unpool(maps.contiguous(), winner, window, (9, 9))
    assert max_unpool(maps, winner, window, (9, 9), backend="cpu").equal(expected)


def test_empty_batches(isa):
    out, winner = max_pool(torch.zeros(0, 3, 5, 5), WINDOWS[0], False, backend="cpu")
    assert max_unpool(out, winner, WINDOWS[0], (5, 5), backend="cpu").shape == (0, 3, 5, 5)


def test_opcheck():
    values = draw("contiguous", 0, 2, 5, 6, 6)
    out, winner = max_pool(values, WINDOWS[0], False)
    torch.library.opcheck(torch.ops.fwdkern.max_pool.default, (values, *WINDOWS[0], False))
    torch.library.opcheck(torch.ops.fwdkern.max_unpool.default, (out, winner, *WINDOWS[0], (6, 6)))


def test_rejects_what_does_not_fit():
    assert not fits_bytes(((17, 16), (1, 1), (0, 0), (1, 1))) and not fits_bytes(((2, 2), (1, 1), (1, 1), (5, 5)))
    with pytest.raises(InputError, match=r"expected \[B, C, H, W\]"):
        max_pool(torch.ones(3, 4, 4), WINDOWS[0], False)
    with pytest.raises(InputError, match="do not fit into bytes"):
        max_pool(torch.ones(1, 1, 40, 40), ((17, 16), (1, 1), (0, 0), (1, 1)), False)
    out, winner = max_pool(torch.ones(2, 3, 5, 5), WINDOWS[0], False)
    with pytest.raises(InputError, match="does not fit maps"):
        max_unpool(out[:1], winner, WINDOWS[0], (5, 5))
    with pytest.raises(InputError, match="contiguous uint8"):
        max_unpool(out, winner.long(), WINDOWS[0], (5, 5))
