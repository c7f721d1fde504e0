import pytest
import torch

from fwdkern.errors import InputError
from fwdkern.ops import native
from fwdkern.ops.gate import gate_bits, gate_bits_reference, gate_count, gate_maps, gate_mask
from tests import SEEDS
from tests.ops.layouts import LAYOUTS, draw


@pytest.fixture(params=native.ISA_NAMES)
def isa(request, native_library, monkeypatch):
    if native.ISA_NAMES.index(request.param) > native_library.available_isa():
        pytest.skip(f"this machine does not run {request.param}")
    monkeypatch.setenv("FWDKERN_CPU_ISA", request.param)
    return request.param


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("backend", ["torch", "cpu", "cuda"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(0, 3, 2, 2), (2, 1, 3, 3), (2, 17, 5, 4), (1, 64, 20, 20), (3, 8, 0, 2)])
def test_values(isa, shape, layout, backend, seed, poisoned):
    values, maps = draw(layout, seed, *shape), draw(layout, seed + 1, 2 * shape[0], *shape[1:])
    bits = gate_bits(values, backend=backend)
    assert bits.shape == (shape[0], *shape[2:], -(-shape[1] // 8)) and bits.is_contiguous()
    assert gate_mask(bits, shape[1]).equal(values > 0)
    assert gate_count(bits) == int((values > 0).sum())
    out = gate_maps(maps, bits, backend=backend)
    assert out.equal(torch.where((values > 0).repeat(2, 1, 1, 1), maps, 0))
    assert out.movedim(1, -1).is_contiguous()


@pytest.mark.parametrize("shape", [(3, 5), (2, 9, 7), (2, 3, 4, 2, 3)])
def test_other_ranks(isa, shape, poisoned):
    values = draw("contiguous", 0, *shape)
    bits = gate_bits(values, backend="cpu")
    assert bits.equal(gate_bits_reference(values))
    assert gate_maps(values, bits, backend="cpu").equal(values.relu())


@pytest.mark.parametrize("backend", ["torch", "cpu", "cuda"])
def test_a_closed_gate_hides_what_is_not_finite(isa, backend):
    values = torch.tensor([[1.0, -1.0, torch.nan, 0.0]])
    maps = torch.tensor([[2.0, torch.nan, torch.inf, torch.nan]])
    assert gate_maps(maps, gate_bits(values, backend), backend).tolist() == [[2, 0, 0, 0]]


def test_masks_and_double():
    values = draw("contiguous", 0, 2, 5, 3, 3)
    assert gate_bits(values > 0).equal(gate_bits(values)) and gate_bits(values.double()).equal(gate_bits(values))


def test_opcheck():
    values = draw("channels last", 0, 2, 5, 3, 4)
    torch.library.opcheck(torch.ops.fwdkern.gate_bits.default, (values,))
    torch.library.opcheck(torch.ops.fwdkern.gate_maps.default, (values, gate_bits(values)))


def test_rejects_what_does_not_fit():
    maps = draw("contiguous", 0, 4, 5, 3, 3)
    bits = gate_bits(maps[:2])
    with pytest.raises(InputError, match=r"expected \[B, C, \*positions\]"):
        gate_bits(torch.ones(3))
    with pytest.raises(InputError, match="does not fit maps"):
        gate_maps(maps[:3], bits)
    with pytest.raises(InputError, match="contiguous uint8"):
        gate_maps(maps, bits.int())
