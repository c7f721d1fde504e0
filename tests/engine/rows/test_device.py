"""The pass of GPUs, run here: its index work over the ops' references, and whole requests in Triton's interpreter and
CUDA's emulation."""

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fwdkern
from fwdkern import FusedModel
from fwdkern.engine import attribution, planner
from fwdkern.engine.rows.device import DevicePass
from fwdkern.errors import BackendError
from fwdkern.ops import native
from fwdkern.ops.backend import Choice
from fwdkern.ops.row_program import RowPass
from tests.engine.rows.networks import NAMED, named
from tests.networks.families import randomise
from tests.oracle import assert_close, autograd

TOLERANCE = 1e-5
MODES = ["forward", "reverse"]

pytestmark = pytest.mark.usefixtures("native_library")


@pytest.fixture(params=["all blocks at once", "one block at a time"])
def references(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests for the compiled library run in device passes over the ops' references, in many small tiles."""
    memory = 2**40 if request.param == "all blocks at once" else 1
    over_references = functools.partial(
        DevicePass, storage=torch.float32, backend="torch", precision="ieee", memory=memory
    )
    monkeypatch.setattr(attribution.Job, "_carry", lambda job, carried: over_references(carried))
    monkeypatch.setitem(planner.TILE_SIDE, "cpu", 3)
    monkeypatch.setitem(planner.REVERSE_CHUNKS, "cpu", (7,))


@functools.cache
def fused(name: str) -> tuple[FusedModel, Tensor]:
    network, x = named(name, 2)
    return fwdkern.fuse(network, x), x


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMED)
@pytest.mark.usefixtures("references")
def test_named_networks(name: str, mode: str) -> None:
    net, x = fused(name)
    last = net.layers[-1].name
    for units in ("all", "channels") if x.dim() > 2 and len(net.layer(last).shape) > 1 else ("all",):
        dense = net.attribute_units(x, last, units, backend="torch", strict=True)
        rows = net.attribute_units(x, last, units, backend="cpu", mode=mode, strict=True)
        assert_close(rows.scores, dense.scores, TOLERANCE)
        assert_close(rows.bias, dense.bias, TOLERANCE)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("request_", ["channels", "segments", "window"])
@pytest.mark.usefixtures("references")
def test_features_and_layouts(request_: str, mode: str) -> None:
    net, x = fused("dilated overlapping pool, ceil")
    last = net.layers[-1].name
    labels = torch.arange(x.shape[2] * x.shape[3]).view(x.shape[2:]) // 5
    keywords = {"channels": {"features": "channels"}, "segments": {"features": labels}, "window": {"layout": "window"}}
    dense = net.attribute_units(x, last, backend="torch", **keywords[request_])
    rows = net.attribute_units(x, last, backend="cpu", mode=mode, strict=True, **keywords[request_])
    assert_close(rows.scores, dense.scores, TOLERANCE)


@pytest.mark.usefixtures("references")
def test_all_layers_in_one_pass() -> None:
    net, x = fused("concatenated pools")
    names = [layer.name for layer in net.layers]
    dense = net.attribute_layers(x, names, backend="torch")
    rows = net.attribute_layers(x, names, backend="cpu", strict=True)
    for name in names:
        assert_close(rows[name].scores, dense[name].scores, TOLERANCE)


@functools.cache
def tiny(pool: type[nn.Module] = nn.MaxPool2d) -> tuple[FusedModel, Tensor]:
    network = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), pool(2), nn.Conv2d(3, 4, 3, stride=2), nn.ReLU())
    x = torch.randn(1, 2, 9, 10, generator=torch.Generator().manual_seed(0))
    return fwdkern.fuse(randomise(network).eval(), x), x


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("layout", ["dense", "window"])
@pytest.mark.parametrize("backend", ["triton", "cuda"])
def test_kernels_for_gpus_through_the_engine(backend: str, mode: str, layout: str) -> None:
    net, x = tiny()
    expected = autograd(net, x).uniform
    rows = net.attribute_units(x, "4", backend=backend, mode=mode, layout=layout, strict=True)
    assert rows.mode == mode
    if layout == "dense":
        assert_close(rows.scores, expected.view_as(rows.scores), TOLERANCE)
    else:
        same = net.attribute_units(x, "4", backend="cpu", mode=mode, layout=layout)
        assert_close(rows.scores, same.scores, TOLERANCE)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("backend", ["triton", "cuda"])
def test_ops_of_one_pass_choose_for_themselves(backend: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row layouts are the same for both: products of one backend, by their precision and shape of the other, between
    seeds and combinations of either."""
    net, x = tiny(nn.AvgPool2d)
    other = "cuda" if backend == "triton" else "triton"
    by_op = {"gathered_gemm": (backend, other), "row_combine": (other,), "seed": (backend,), "contract": (other,)}
    ran: set[tuple[str, str]] = set()
    elsewhere = fwdkern.ops.backend._by_itself

    def by_itself(op: str, device: torch.device, dtype: torch.dtype, shape: tuple[int, ...], precision: str) -> Choice:
        if op not in by_op:
            return elsewhere(op, device, dtype, shape, precision)
        name = by_op[op][shape[0] % len(by_op[op])]
        ran.add((op, name))
        return Choice(name, "to mix")

    monkeypatch.setattr(fwdkern.ops.backend, "_by_itself", by_itself)
    monkeypatch.setattr(
        attribution.Job, "_carry", lambda job, carried: DevicePass(carried, torch.float32, "auto", "ieee", 2**30)
    )
    monkeypatch.setitem(planner.TILE_SIDE, "gpu", 4)
    monkeypatch.setitem(planner.REVERSE_CHUNKS, "gpu", (64,))
    rows = net.attribute_units(x, "4", backend=backend, mode=mode, strict=True)
    assert_close(rows.scores, autograd(net, x).uniform.view_as(rows.scores), TOLERANCE)
    assert {("seed" if mode == "forward" else "contract"), "gathered_gemm"} <= {op for op, _ in ran}
    assert {name for _, name in ran} == {"triton", "cuda"}


@pytest.mark.parametrize("backend", ["triton", "cuda"])
def test_without_a_gpu_it_says_so(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    monkeypatch.setenv("FWDKERN_EMULATE", "0")
    net, x = tiny()
    cause = r"no GPU that torch can use|the tensors are on cpu|triton is not installed|built without CUDA"
    with pytest.raises(BackendError, match=cause):
        net.attribute_units(x, "4", backend=backend)


@pytest.mark.filterwarnings("ignore::fwdkern.errors.CompletenessWarning")  # nothing is computed
@pytest.mark.parametrize("reverse", [False, True])
def test_nothing_is_made_on_another_device(reverse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every new tensor of a pass names its device or is made of another tensor; here all devices are one."""
    net, x = tiny()
    kept: list[RowPass] = []
    monkeypatch.setattr(attribution, "CompiledPass", lambda carried, storage: kept.append(carried) or _Nothing())
    net.attribute_units(x, "4", backend="cpu", mode="reverse" if reverse else "forward")
    (carried,) = kept
    made = DevicePass(carried, torch.float32, "torch", "ieee", 2**30)
    originals = {name: getattr(torch, name) for name in ("arange", "zeros", "full", "tensor", "empty", "ones")}

    def named_device(name: str) -> object:
        def make(*arguments: object, **keywords: object) -> Tensor:
            assert "device" in keywords, f"torch.{name} without a device"
            return originals[name](*arguments, **keywords)

        return make

    with monkeypatch.context() as patch:
        for name in originals:
            patch.setattr(f"fwdkern.engine.rows.device.torch.{name}", named_device(name))
        patch.setattr("fwdkern.engine.rows.device.gathered_gemm", lambda *a, **k: None)
        patch.setattr("fwdkern.engine.rows.device.row_combine", lambda *a, **k: None)
        patch.setattr("fwdkern.engine.rows.device.seed", lambda *a, **k: None)
        patch.setattr(
            "fwdkern.engine.rows.device.contract",
            lambda pulled, offset, *rest, **k: pulled.new_zeros(pulled.shape[1], len(offset) - 1),
        )
        made.run()
        DevicePass(carried, torch.float32, "torch", "ieee", 2**30)


class _Nothing:
    def run(self) -> None:
        """The results stay zeros."""


@pytest.mark.parametrize("backend", ["triton", "cuda"])
def test_chunks_of_targets_share_their_lists(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Terms are listed once a product, however many chunks there are; where there is no room for them, once a chunk."""
    net, x = tiny()
    launches: list[int] = []
    passes: list[DevicePass] = []
    if backend == "triton":
        from fwdkern.kernels import gathered_gemm as kernels

        fill = kernels._fill_terms
        monkeypatch.setattr(kernels, "_fill_terms", lambda *arguments: launches.append(1) or fill(*arguments))
    else:
        run = native.run_cuda

        def counted(name: str, tensor: Tensor, *arguments: Any) -> None:
            listed = name == "gathered_gemm" and arguments[-1]
            launches.extend([1] * (name in ("list_terms", "gathered_gemm") and not listed))
            run(name, tensor, *arguments)

        monkeypatch.setattr(native, "run_cuda", counted)
    monkeypatch.setitem(planner.REVERSE_CHUNKS, "gpu", (3,))
    expected, counts = net.attribute_units(x, "4", backend="torch"), []
    for memory in (2**40, 0):

        def carry(job: object, carried: RowPass, memory: int = memory) -> DevicePass:
            passes.append(DevicePass(carried, torch.float32, backend, "ieee", memory))
            return passes[-1]

        monkeypatch.setattr(attribution.Job, "_carry", carry)
        found = net.attribute_units(x, "4", backend=backend, mode="reverse", strict=True)
        assert_close(found.scores, expected.scores, TOLERANCE)
        counts.append(len(launches))
        launches.clear()
    chunks = len(passes[0].slices)
    assert chunks > 1 and counts[0] > 0 and counts[1] == chunks * counts[0]
