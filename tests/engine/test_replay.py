"""What a GPU would record, run here: that the function is static, that it gives the ordinary results, and when it is
recorded and replayed. Only the recording itself needs a GPU: tests/gpu/test_replay.py."""

import copy
import logging
import pickle
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import fwdkern
from fwdkern import FusedModel, Relevance
from fwdkern.engine import replay
from fwdkern.engine.attribution import Finished
from fwdkern.engine.completeness import TOLERANCE
from fwdkern.engine.options import Options, parse_options
from fwdkern.engine.planner import Way
from fwdkern.errors import DeviceMemoryError, InputError
from tests.engine.rows.networks import Branches
from tests.networks.families import randomise
from tests.oracle import assert_close

aten = torch.ops.aten
# Operators that read the device or make what comes next depend on what it holds, and copies of numbers from the host.
READS = {
    aten._local_scalar_dense.default,
    aten.equal.default,
    aten.is_nonzero.default,
    aten.lift_fresh.default,
    aten.masked_select.default,
    aten.nonzero.default,
    aten.bincount.default,
    aten.repeat_interleave.Tensor,
}


class Static(TorchDispatchMode):
    """Refuses what a graph cannot record; `launched` are the operators that came."""

    def __init__(self) -> None:
        super().__init__()
        self.launched: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.launched.append(str(func))
        assert func not in READS, f"{func} reads the device"
        if func in (aten.index.Tensor, aten.index_put_.default):
            assert all(index is None or index.dtype != torch.bool for index in args[1]), "a mask's size is read"
        return func(*args, **(kwargs or {}))


class Classifier(nn.Module):
    """Concatenation, pools of three kinds, a plateau, a batch norm that stays and a softmax at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.stem = nn.BatchNorm2d(3), nn.Conv2d(3, 8, 3, 2)
        self.pool, self.branches = nn.MaxPool2d(3, 2, ceil_mode=True), Branches(8, 4)
        self.average, self.last = nn.AvgPool2d(2), nn.Conv2d(16, 10, 3, padding=1, bias=True)
        self.head = nn.Linear(10, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(torch.relu(self.stem(self.norm(x))))
        x = nn.functional.relu6(self.last(self.average(self.branches(x))))
        return self.head(x.mean((2, 3))).softmax(1)


def images(batch: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(batch, 3, 29, 26, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def net(monkeypatch: pytest.MonkeyPatch) -> FusedModel:
    """Its dense way as on a GPU: in torch's own operators."""
    monkeypatch.setenv("FWDKERN_BACKEND", "torch")
    return fwdkern.fuse(randomise(Classifier()).eval(), images())


def options(bias: str = "uniform", memory: str = "2GiB") -> Options:
    return parse_options(bias, "auto", "dense", "torch", memory, True)


def static(net: FusedModel, x: Tensor, target: Tensor | None, features: str, bias: str) -> Finished:
    way = Way("dense", "reverse", 1 if target is None else target.shape[1], 1, 0, 0, 0)
    network = net._network_for(x)
    return replay.class_maps(network, net.layers[-1].parents[0], features, options(bias), way, x, target)


@pytest.mark.parametrize("bias", ["uniform", "separate"])
@pytest.mark.parametrize("features", ["pixels", "channels"])
@pytest.mark.parametrize("target", [None, [[1], [6], [0]], [[2, 5], [0, 0], [6, 3]]])
def test_the_static_function_gives_the_ordinary_result(
    net: FusedModel, target: list[list[int]] | None, features: str, bias: str
) -> None:
    chosen = None if target is None else torch.tensor(target)
    expected = net.attribute(images(), chosen, features=features, bias=bias, mode="reverse", backend="torch")
    result, sums, magnitude, tolerance = static(net, images(), chosen, features, bias)
    assert torch.equal(result.scores, expected.scores) and torch.equal(result.bias, expected.bias)
    assert torch.equal(result.outputs, expected.outputs) and torch.equal(result.units, expected.units)
    assert (result.bias_in_scores, result.features, result.mode) == (bias == "uniform", features, "reverse")
    flat = result.scores.flatten(2)
    assert_close(sums, flat.sum(2), 1e-5)
    assert_close(magnitude, flat.abs().sum(2), 1e-5)
    assert tolerance == TOLERANCE[torch.float32]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("target", [None, torch.tensor([[1], [6], [0]])])
def test_nothing_is_read(net: FusedModel, target: Tensor | None, layout: torch.memory_format) -> None:
    x = images().contiguous(memory_format=layout)
    with torch.no_grad(), Static() as mode:
        static(net, x, target, "pixels", "uniform")
    assert any("convolution" in name for name in mode.launched)
    with pytest.raises(AssertionError, match="reads the device"), Static():
        net.attribute(x, target)  # the ordinary way checks inputs, and that maps are complete


def test_everything_is_made_on_the_device(net: FusedModel) -> None:
    """On the meta device nothing can be read, and operands from elsewhere are refused."""
    network = copy.deepcopy(net._primary)
    network.module.to("meta")
    way = Way("dense", "reverse", 1, 1, 0, 0, 0)
    x = torch.empty(3, 3, 29, 26, device="meta")
    for target in (None, torch.empty(3, 1, dtype=torch.int64, device="meta")):
        found = replay.class_maps(network, net.layers[-1].parents[0], "pixels", options(), way, x, target)
        for value in (*vars(found.result).values(), found.sums, found.magnitude):
            assert not isinstance(value, Tensor) or value.device.type == "meta"
        assert found.result.scores.shape == (3, 1, 29, 26)


class FakeEvent:
    """A point of a stream's work; `log` hears of it."""

    log: ClassVar[list[tuple[str, str]]] = []

    def record(self, stream: "FakeStream") -> None:
        self.log.append(("record", stream.name))


class FakeStream:
    def __init__(self, name: str) -> None:
        self.name = name

    def wait_event(self, event: FakeEvent) -> None:
        event.log.append(("wait", self.name))


class FakeGraph:
    """Does what was recorded by doing it again, into the same memory."""

    def __init__(self, run: Callable[[], Finished]) -> None:
        self.run, self.output, self.replays = run, run(), 0

    def replay(self) -> None:
        self.replays += 1
        again = self.run()
        for name, value in vars(again.result).items():
            if isinstance(value, Tensor):
                getattr(self.output.result, name).copy_(value)
        self.output.sums.copy_(again.sums)
        self.output.magnitude.copy_(again.magnitude)


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[FakeGraph]:
    """As if tensors were on a GPU; the graphs recorded."""
    made: list[FakeGraph] = []

    def record(run: Callable[[], Finished], device: torch.device) -> tuple[FakeGraph, Finished]:
        made.append(FakeGraph(run))
        return made[-1], made[-1].output

    FakeEvent.log.clear()
    monkeypatch.setattr(replay, "_on_gpu", lambda x: True)
    monkeypatch.setattr(replay, "record_graph", record)
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: FakeStream("one"))
    return made


def same(found: Relevance, expected: Relevance) -> None:
    assert torch.equal(found.scores, expected.scores) and torch.equal(found.outputs, expected.outputs)
    assert torch.equal(found.bias, expected.bias) and torch.equal(found.units, expected.units)
    assert (found.note, found.layer, found.mode) == (expected.note, expected.layer, expected.mode)


@pytest.mark.parametrize("target", [None, 4, [1, 6, 0], [[2, 5], [0, 0], [6, 3]]])
def test_the_second_request_is_recorded_and_the_third_replayed(
    net: FusedModel, graphs: list[FakeGraph], target: object
) -> None:
    plain = fwdkern.fuse(net._source.model, images())
    target = torch.tensor(target) if isinstance(target, list) else target
    kept = []
    for seed in range(4):
        x = images(seed=seed)
        kept.append(
            (net.attribute(x, target, strict=True), plain.attribute(x, target, backend="torch", mode="forward"))
        )
        assert len(graphs) == (seed > 0)
    assert graphs[0].replays == 3
    for found, expected in kept:  # no result shares memory with a later one
        assert_close(found.scores, expected.scores, 1e-5)
        assert torch.equal(found.units, expected.units)
    same(net.attribute(images(seed=2), target), kept[2][0])


def test_other_kinds_have_graphs_of_their_own(net: FusedModel, graphs: list[FakeGraph]) -> None:
    for batch in (1, 2, 1, 2):
        net.attribute(images(batch))
    assert len(graphs) == 2
    x = images(1).to(memory_format=torch.channels_last)
    for keywords in ({"features": "channels"}, {"bias": "separate"}, {"target": 3}):
        for _ in range(2):
            net.attribute(images(1), **keywords)
    for _ in range(2):
        net.attribute(x)
    assert len(graphs) == 6
    recorded = [known for known in net._replays._known.values() if isinstance(known, replay.Recorded)]
    assert len(recorded) == replay.KEPT


def test_a_kind_seen_first_and_recorded_last_stays(net: FusedModel, graphs: list[FakeGraph]) -> None:
    net.attribute(images(1))
    for batch in range(2, 2 + replay.KEPT):
        for _ in range(2):
            net.attribute(images(batch))
    for _ in range(2):
        net.attribute(images(1))
    assert len(graphs) == replay.KEPT + 1


@pytest.mark.parametrize(
    "keywords",
    [
        {"target": "all"},
        {"mode": "forward"},
        {"bias": "receptive_field"},
        {"features": torch.zeros(29, 26, dtype=torch.int64)},
    ],
)
def test_what_a_graph_cannot_serve_runs_as_ever(
    net: FusedModel, graphs: list[FakeGraph], keywords: dict[str, Any]
) -> None:
    for _ in range(3):
        net.attribute(images(), **keywords)
    assert not graphs


def test_little_memory(net: FusedModel, graphs: list[FakeGraph]) -> None:
    for _ in range(2):
        net.attribute(images(), torch.zeros(3, 5, dtype=torch.int64))
    (known,) = net._replays._known.values()
    assert isinstance(known, replay.Recorded)
    net._replays.clear()
    bytes_ = net.plan(images(), target=[[0] * 5] * 3, mode="reverse", backend="torch").chosen.bytes
    for _ in range(3):
        net.attribute(images(), torch.zeros(3, 5, dtype=torch.int64), memory=bytes_ - 1)
    assert len(graphs) == 1


def test_wrong_targets_are_refused(net: FusedModel, graphs: list[FakeGraph]) -> None:
    for _ in range(3):
        with pytest.raises(InputError, match="target 7 is out of range"):
            net.attribute(images(), 7)
        net.attribute(images(), 6)
    with pytest.raises(InputError, match="NaN"):
        net.attribute(images().fill_(torch.nan), 6)


def test_a_failed_recording_says_so_once(
    net: FusedModel, graphs: list[FakeGraph], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nCompile with ...")

    monkeypatch.setattr(replay, "record_graph", fail)
    with caplog.at_level(logging.WARNING, "fwdkern"):
        results = [net.attribute(images()) for _ in range(4)]
    same(results[3], results[0])
    (record,) = [r for r in caplog.records if "CUDA graph" in r.message]
    assert record.message.endswith("without a CUDA graph: operation not permitted when stream is capturing")


def test_streams_take_turns(net: FusedModel, graphs: list[FakeGraph], monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        net.attribute(images())
    FakeEvent.log.clear()
    for name in ("one", "two", "one"):
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device, name=name: FakeStream(name))
        net.attribute(images())
    calls = [[("wait", name), ("record", name)] for name in ("one", "two", "one")]
    assert FakeEvent.log == [entry for call in calls for entry in call]


def test_copies_and_moves_begin_anew(net: FusedModel, graphs: list[FakeGraph]) -> None:
    for _ in range(2):
        net.attribute(images())
    assert not copy.deepcopy(net)._replays._known
    assert not pickle.loads(pickle.dumps(net._replays))._known
    net.to(torch.float64)
    assert not net._replays._known
    assert net.attribute(images().double()).scores.dtype == torch.float64


def test_out_of_memory_drops_them(net: FusedModel, graphs: list[FakeGraph], monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        net.attribute(images())

    def run_out(*arguments: object) -> None:
        raise torch.OutOfMemoryError("Tried to allocate 1 GiB. GPU 0")

    with monkeypatch.context() as patch:
        patch.setattr("fwdkern.model.record", run_out)
        with pytest.raises(DeviceMemoryError, match=r"plain forward pass of inputs \[2, 3, 29, 26\].*fewer inputs"):
            net.attribute(images(2))
    assert not net._replays._known
    assert net.attribute(images(2)).delta.abs().max() < 1e-4
