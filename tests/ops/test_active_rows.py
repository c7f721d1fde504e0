import pytest
import torch

from fwdkern.errors import BackendError, InputError
from fwdkern.ops.active_rows import active_rows, active_rows_on_device, active_rows_reference
from tests import SEEDS


def gate_of(layout: str, channels: int, positions: int, density: float, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator) < density

    match layout:
        case "contiguous":
            return draw(channels, positions)
        case "transposed":
            return draw(positions, channels).t()
        case "sliced":
            return draw(2 * channels, 3 * positions + 1)[::2, 1::3]
        case "expanded":
            return draw(channels, 1).expand(channels, positions)
    raise AssertionError(layout)


def rows_by_hand(gate: torch.Tensor) -> tuple[list[int], list[int]]:
    offset, channel = [0], []
    for column in gate.t().tolist():
        channel += [c for c, active in enumerate(column) if active]
        offset.append(len(channel))
    return offset, channel


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("backend", ["torch", "cpu", "triton", "cuda"])
@pytest.mark.parametrize("layout", ["contiguous", "transposed", "sliced", "expanded"])
@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (1, 1), (3, 64), (17, 65), (64, 200)])
def test_values(backend, layout, density, shape, seed, native_library, poisoned):
    gate = gate_of(layout, *shape, density, seed)
    row_offset, row_channel = active_rows(gate, backend=backend)
    assert row_offset.dtype == torch.int64 and row_offset.is_contiguous()
    assert row_channel.dtype == torch.int32 and row_channel.is_contiguous()
    assert (row_offset.tolist(), row_channel.tolist()) == rows_by_hand(gate)


@pytest.mark.parametrize("backend", ["torch", "triton", "cuda"])
@pytest.mark.parametrize("layout", ["contiguous", "transposed", "sliced", "expanded"])
@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (17, 65)])
def test_rows_without_their_number(backend, layout, shape, poisoned):
    gate = gate_of(layout, *shape, 0.3, 0)
    row_offset, row_channel = active_rows_on_device(gate, backend)
    assert row_channel.shape == (gate.numel(),) and row_channel.dtype == torch.int32
    assert (row_offset.tolist(), row_channel[: row_offset[-1]].tolist()) == rows_by_hand(gate)


@pytest.mark.parametrize("layout", ["contiguous", "transposed", "sliced", "expanded"])
def test_opcheck(layout):
    torch.library.opcheck(torch.ops.fwdkern.active_rows.default, (gate_of(layout, 5, 9, 0.4, 0),))


def test_rejects_bad_gates():
    with pytest.raises(InputError, match=r"\[channels, positions\]"):
        active_rows(torch.ones(2, 3, 4, dtype=torch.bool))
    with pytest.raises(InputError, match="expected bool"):
        active_rows(torch.ones(2, 3))


def test_unknown_backend():
    with pytest.raises(BackendError, match="expected auto"):
        active_rows(torch.ones(2, 3, dtype=torch.bool), backend="magic")


def test_falls_back_without_library(monkeypatch):
    monkeypatch.setattr("fwdkern.ops.native.load", lambda: (None, "removed by a test"))
    gate = gate_of("contiguous", 4, 6, 0.5, 0)
    for result in (active_rows(gate), torch.ops.fwdkern.active_rows(gate)):
        assert [t.tolist() for t in result] == [t.tolist() for t in active_rows_reference(gate)]
    with pytest.raises(BackendError, match="removed by a test"):
        active_rows(gate, backend="cpu")
