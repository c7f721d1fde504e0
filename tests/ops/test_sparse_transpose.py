import pytest
import torch

from fwdkern.errors import InputError
from fwdkern.ops import native
from fwdkern.ops.gate import gate_bits
from fwdkern.ops.max_pool import max_pool
from fwdkern.ops.sparse_transpose import sparse_transpose
from tests import SEEDS
from tests.ops.layouts import LAYOUTS, draw

EPS = torch.finfo(torch.float32).eps
# C_out, C_in, (kh, kw), stride, padding, (H, W)
SHAPES = [
    (64, 3, (3, 3), (2, 2), (0, 0), (23, 20)),
    (17, 16, (3, 3), (1, 1), (1, 1), (19, 9)),
    (3, 64, (1, 1), (1, 1), (0, 0), (9, 5)),
    (33, 5, (2, 3), (1, 2), (0, 1), (6, 11)),
    (4, 7, (1, 1), (2, 3), (2, 0), (3, 4)),
    (1, 1, (1, 1), (1, 1), (0, 0), (1, 1)),
]


@pytest.fixture(params=native.ISA_NAMES)
def isa(request, native_library, monkeypatch):
    if native.ISA_NAMES.index(request.param) > native_library.available_isa():
        pytest.skip(f"this machine does not run {request.param}")
    monkeypatch.setenv("FWDKERN_CPU_ISA", request.param)
    return request.param


def out_size(shape):
    _, _, kernel, stride, padding, in_size = shape
    return [(n + 2 * p - k) // s + 1 for n, p, k, s in zip(in_size, padding, kernel, stride, strict=True)]


def check(shape, maps, values=None, pool=None, backend="cpu"):
    """Against float64, within the rounding of as many terms as there are. values: what the gate is made of."""
    outputs, inputs, kernel, stride, padding, in_size = shape
    weight, bias = draw("contiguous", 5, outputs, inputs, *kernel), draw("contiguous", 6, outputs)
    bits = None if values is None else gate_bits(values)
    found = sparse_transpose(maps, weight, bias, stride, padding, in_size, bits, pool, backend=backend)
    exact, bound = (
        sparse_transpose(each(maps), each(weight), each(bias), stride, padding, in_size, bits, pool)
        for each in (torch.Tensor.double, lambda t: t.double().abs())
    )
    terms = (outputs * kernel[0] * kernel[1], outputs * torch.Size(out_size(shape)).numel())
    for got, want, size, count in zip(found, exact, bound, terms, strict=True):
        assert ((got - want).abs() <= (count + 2) * EPS * size).all()
    assert found[0].movedim(1, -1).is_contiguous()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_values(isa, shape, layout, gated, seed, poisoned):
    size = out_size(shape)
    values = draw("contiguous", seed + 1, 2, shape[0], *size) if gated else None
    check(shape, draw(layout, seed, 4, shape[0], *size), values)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES[:2])
def test_behind_a_pool(isa, shape, layout, poisoned):
    window = ((3, 2), (2, 2), (0, 0), (1, 1))
    values = draw("contiguous", 1, 2, shape[0], *out_size(shape))
    out, winner = max_pool(values, window, True)
    check(shape, draw(layout, 2, 4, *out.shape[1:]), values, (winner, window))


def test_the_same_for_any_number_of_threads(isa):
    shape = SHAPES[0]
    maps, weight = draw("channels last", 0, 4, 64, *out_size(shape)), draw("contiguous", 1, 64, 3, 3, 3)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(sparse_transpose(maps, weight, torch.ones(64), *shape[3:], backend="cpu"))
    for pulled, mass in results[1:]:
        assert pulled.equal(results[0][0]) and mass.equal(results[0][1])


def test_changed_weights_are_packed_again(isa):
    shape = SHAPES[1]
    maps, weight = draw("contiguous", 0, 1, 17, *out_size(shape)), draw("contiguous", 1, 17, 16, 3, 3)
    before, _ = sparse_transpose(maps, weight, None, *shape[3:], backend="cpu")
    weight.mul_(2)
    assert sparse_transpose(maps, weight, None, *shape[3:], backend="cpu")[0].equal(2 * before)


def test_empty_batches(isa):
    shape = SHAPES[1]
    pulled, mass = sparse_transpose(torch.zeros(0, 17, *out_size(shape)), torch.ones(17, 16, 3, 3), None, *shape[3:])
    assert pulled.shape == (0, 16, 19, 9) and mass.shape == (0,)


def test_opcheck():
    maps, weight = draw("contiguous", 0, 2, 4, 5, 5), draw("contiguous", 1, 4, 3, 3, 3)
    arguments = (maps, None, [], gate_bits(maps), weight, torch.ones(4), [1, 1], [1, 1], [5, 5])
    torch.library.opcheck(torch.ops.fwdkern.sparse_transpose.default, arguments)


def test_rejects_what_does_not_fit():
    maps, weight = torch.ones(2, 4, 5, 5), torch.ones(4, 3, 3, 3)
    with pytest.raises(InputError, match=r"expected \[N, C_out, h, w\]"):
        sparse_transpose(maps[:, :3], weight, None, (1, 1), (1, 1), (5, 5))
    with pytest.raises(InputError, match="the convolution's output is"):
        sparse_transpose(maps, weight, None, (1, 1), (1, 1), (6, 5))
    with pytest.raises(InputError, match="bias has shape"):
        sparse_transpose(maps, weight, torch.ones(3), (1, 1), (1, 1), (5, 5))
    with pytest.raises(InputError, match="bits has shape"):
        sparse_transpose(maps, weight, None, (1, 1), (1, 1), (5, 5), gate_bits(maps[:, :, 1:]))
