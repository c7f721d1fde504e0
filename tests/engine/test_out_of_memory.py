"""A GPU that runs out of memory, acted by an allocation that fails."""

import gc
import weakref

import pytest
import torch
from torch import Tensor, nn

import fwdkern
from fwdkern import FusedModel
from fwdkern.engine import attribution
from fwdkern.engine.memory import parse_bytes
from fwdkern.errors import DeviceMemoryError, FwdkernError

GIB = 2**30


@pytest.fixture
def net() -> FusedModel:
    network = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
    return fwdkern.fuse(network.eval(), torch.randn(1, 1, 16, 16))


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Tensor]]:
    """The pass takes a buffer and then runs out; the buffers that it took, and how often memory was given back."""
    buffers: list[weakref.ref[Tensor]] = []

    def run_out(self: object, way: object, scores: list[Tensor], windows: object) -> None:
        buffer = torch.zeros(1000)
        buffers.append(weakref.ref(buffer))
        buffers.append(weakref.ref(scores[0]))
        raise torch.OutOfMemoryError("Tried to allocate 3.00 GiB. GPU 0 has a total capacity of 79 GiB")

    monkeypatch.setattr(attribution.Job, "_run_dense_forward", run_out)
    return buffers


def ask(net: FusedModel, memory: str = "2GiB") -> fwdkern.Relevance:
    x = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    return net.attribute_units(x, net.layers[-1].name, mode="forward", backend="torch", memory=memory)


def test_the_message_gives_bytes_and_what_fits(
    net: FusedModel, taken: list[weakref.ref[Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attribution, "free_bytes", lambda device: 16 * GIB)
    with pytest.raises(DeviceMemoryError) as raised:
        ask(net)
    text = str(raised.value)
    assert "its maps take 2.0 MiB" in text and "16.0 GiB are free. Tried to allocate 3.00 GiB. " in text
    fits = text.split('memory="')[1].split('"')[0]
    monkeypatch.undo()
    tried = net.plan(torch.zeros(1, 1, 16, 16), net.layers[-1].name, mode="forward", backend="torch").chosen.bytes
    assert 0 < parse_bytes(fits) <= tried // 2 + tried // 100
    assert ask(net, fits).delta.abs().max() < 1e-4  # the process is usable, and the advice is right


def test_nothing_is_kept(net: FusedModel, taken: list[weakref.ref[Tensor]], monkeypatch: pytest.MonkeyPatch) -> None:
    released: list[torch.device] = []
    monkeypatch.setattr(attribution, "release", released.append)
    with pytest.raises(FwdkernError) as raised:
        ask(net)
    assert raised.value.__context__ is None
    gc.collect()
    assert taken and all(buffer() is None for buffer in taken)
    assert released == [torch.device("cpu")]


def test_where_no_memory_would_do(
    net: FusedModel, taken: list[weakref.ref[Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attribution, "require_memory", lambda *arguments: None)
    monkeypatch.setattr(attribution, "free_bytes", lambda device: 1000)
    with pytest.raises(DeviceMemoryError, match="iter_units") as raised:
        ask(net)
    assert "memory=" not in str(raised.value)


def test_results_are_weighed_against_their_own_device(monkeypatch: pytest.MonkeyPatch) -> None:
    from fwdkern.engine.memory import free_bytes

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5 * GIB, 80 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 3 * GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1 * GIB)
    assert free_bytes(torch.device("cuda")) == 7 * GIB
