"""Counts against loops, the choice against its own predictions, and results that do not depend on the choice."""

import functools
import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fwdkern
from fwdkern import FusedModel
from fwdkern.engine import attribution, planner
from fwdkern.engine.options import Options
from fwdkern.engine.planner import Plan, Way
from fwdkern.errors import BackendError, InputError
from fwdkern.ops import native
from fwdkern.ops.row_program import CompiledPass
from tests.engine.rows.networks import Lambda, named
from tests.networks.families import randomise
from tests.oracle import assert_close

Rectangle = tuple[int, int, int, int]
LAYERS = ["1", "3", "4"]  # what the three convolutions and their ReLUs are called

pytestmark = pytest.mark.usefixtures("native_library")


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row lists are weighed even where dense work is short, as it is here."""
    monkeypatch.setattr(attribution, "worth_rows", lambda *ways: True)


@functools.cache
def chain(groups: int = 1) -> tuple[nn.Sequential, FusedModel, Tensor]:
    network = nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=(2, 1), padding=(1, 0)),
        nn.ReLU(),
        nn.Conv2d(4, 6, (2, 3), padding=1, dilation=(1, 2), groups=groups),
        nn.ReLU(),
        nn.Conv2d(6, 3, 1, stride=2),
    )
    x = torch.randn(1, 2, 20, 19, generator=torch.Generator().manual_seed(0))
    return randomise(network).eval(), fwdkern.fuse(network.eval(), x), x


def products(conv: nn.Conv2d, own: Tensor, behind: Tensor) -> list[tuple[int, int, int, int, int]]:
    """(y, x) of an active output and (channel, v, u) of an active input that it reads, once for every such pair."""
    found = []
    per_out, per_in = conv.out_channels // conv.groups, conv.in_channels // conv.groups
    for c, y, x in behind.nonzero().tolist():
        for i, j in itertools.product(*map(range, conv.kernel_size)):
            v = y * conv.stride[0] - conv.padding[0] + i * conv.dilation[0]
            u = x * conv.stride[1] - conv.padding[1] + j * conv.dilation[1]
            if 0 <= v < own.shape[1] and 0 <= u < own.shape[2]:
                first = c // per_out * per_in
                found += [(y, x, d, v, u) for d in range(first, first + per_in) if own[d, v, u]]
    return found


@functools.cache
def active_products(groups: int) -> list[list[tuple[int, int, int, int, int]]]:
    """Of each convolution, where all units of the last are wanted: active is what is open and has an active reader."""
    network, _, x = chain(groups)
    values = [x]
    for module in network:
        values.append(module(values[-1]).detach())
    found = []
    behind = torch.ones_like(values[-1][0], dtype=torch.bool)
    for k in (4, 2, 0):
        opened = values[k][0] > 0 if k else torch.ones_like(x[0], dtype=torch.bool)
        found.append(products(network[k], opened, behind))
        behind = torch.zeros_like(opened)
        for _, _, d, v, u in found[-1]:
            behind[d, v, u] = True
    return found[::-1]


def window(layer: str | None, tile: Rectangle) -> Rectangle:
    """Hull of the lines and columns of a layer's grid in which some unit sees some line and some column of a tile."""
    if layer is None:
        return tile
    _, net, _ = chain()
    fields = net.receptive_field(layer, "all").view(*net.layer(layer).shape, 4)[0]
    lines = [y for y, row in enumerate(fields.tolist()) if any(f[0] < tile[1] and f[2] > tile[0] for f in row)]
    columns = [
        x
        for x, row in enumerate(fields.transpose(0, 1).tolist())
        if any(f[1] < tile[3] and f[3] > tile[2] for f in row)
    ]
    return (min(lines), max(lines) + 1, min(columns), max(columns) + 1) if lines and columns else (0, 0, 0, 0)


def inside(y: int, x: int, rectangle: Rectangle) -> bool:
    return rectangle[0] <= y < rectangle[1] and rectangle[2] <= x < rectangle[3]


def tiles(side: int) -> list[Rectangle]:
    corners = itertools.product(range(0, 20, side), range(0, 19, side))
    return [(y, min(y + side, 20), x, min(x + side, 19)) for y, x in corners]


def way_of(plan: Plan, engine: str, mode: str, size: int | None = None) -> Way:
    (way,) = [w for w in plan.ways if (w.engine, w.mode) == (engine, mode) and size in (None, w.size)]
    return way


def executed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Multiply-adds of every pass that runs from now on."""
    done: list[int] = []
    original = CompiledPass.run

    def counting(self: CompiledPass) -> int:
        done.append(original(self))
        return done[-1]

    monkeypatch.setattr(CompiledPass, "run", counting)
    return done


# Grouped layers are counted as if all groups were equally dense.
COUNT_ERROR = {1: 0, 2: 0.02}


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("groups", COUNT_ERROR)
def test_reverse_counts(groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _, net, x = chain(groups)
    plan = net.plan(x, "4", mode="reverse", backend="cpu")
    targets = torch.Size(net.layer("4").shape).numel()
    expected = sum(map(len, active_products(groups))) * targets
    way = way_of(plan, "rows", "reverse", plan.chosen.size)
    assert way.multiplies == pytest.approx(expected, rel=COUNT_ERROR[groups])
    assert way.passes == -(-targets // way.size)
    done = executed(monkeypatch)
    net.attribute_units(x, "4", mode="reverse", backend="cpu")
    contraction = targets * x[0].numel()  # input times what was pulled
    # Units of the last layer see a part of the image, and rows that a chunk of targets does not reach are skipped.
    assert 0 < sum(done) <= (expected + contraction) * (1 + COUNT_ERROR[groups])
    done.clear()
    channels = net.plan(x, "4", "channels", mode="reverse", backend="cpu").chosen.multiplies
    net.attribute_units(x, "4", "channels", mode="reverse", backend="cpu")
    contraction = net.layer("4").shape[0] * x[0].numel()
    assert sum(done) == pytest.approx(channels + contraction, rel=0.05)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("groups", COUNT_ERROR)
@pytest.mark.parametrize("side", [8, 16])
def test_forward_counts(side: int, groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _, net, x = chain(groups)
    monkeypatch.setitem(planner.TILE_SIDE, "cpu", side)
    plan = net.plan(x, "4", mode="forward", backend="cpu")
    exact = 0
    for tile in tiles(side):
        slices = (tile[1] - tile[0]) * (tile[3] - tile[2])
        for (below, layer), found in zip(itertools.pairwise([None, *LAYERS]), active_products(groups), strict=True):
            own, parent = window(layer, tile), window(below, tile)
            exact += slices * sum(inside(y, x, own) and inside(v, u, parent) for y, x, _, v, u in found)
    way = way_of(plan, "rows", "forward", side)
    assert way.multiplies == pytest.approx(exact, rel=COUNT_ERROR[groups])
    assert way.passes == len(tiles(side))
    done = executed(monkeypatch)
    net.attribute_units(x, "4", mode="forward", backend="cpu")
    # Rows whose parents lie outside their windows are skipped.
    assert 0.98 * exact <= sum(done) <= exact * (1 + COUNT_ERROR[groups])


def test_dense_counts() -> None:
    network, net, x = chain()
    plan = net.plan(x.expand(3, -1, -1, -1), "4", backend="torch")
    per_slice, value = 0, x
    for module in network:
        value = module(value)
        per_slice += value.numel() * (module.weight[0].numel() if isinstance(module, nn.Conv2d) else 1)
    targets = value.numel()
    assert way_of(plan, "dense", "reverse").multiplies == 3 * per_slice * targets
    forward_way = way_of(plan, "dense", "forward")
    assert forward_way.multiplies == 3 * per_slice * (x[0, 0].numel() + forward_way.passes)


@pytest.mark.usefixtures("eager")
def test_the_cheapest_way_is_chosen() -> None:
    _, net, x = chain()
    for layer, units in (("4", "all"), ("1", "all"), ("4", torch.tensor([[0, 0, 0]])), ("3", "channels")):
        plan = net.plan(x, layer, units)
        assert {(way.engine, way.mode) for way in plan.ways} == set(
            itertools.product(("dense", "rows"), ("forward", "reverse"))
        )
        assert plan.chosen.seconds == min(way.seconds for way in plan.ways)
        for mode in ("forward", "reverse"):
            forced = net.plan(x, layer, units, mode=mode).chosen
            assert forced.mode == mode
            assert forced.seconds == min(way.seconds for way in plan.ways if way.mode == mode)
        for backend, engine in (("torch", "dense"), ("cpu", "rows")):
            assert net.plan(x, layer, units, backend=backend).chosen.engine == engine


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("name", ["concatenated pools", "output larger than a tile", "long vector"])
def test_results_do_not_depend_on_the_choice(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, x = named(name)
    net = fwdkern.fuse(network, x)
    layer = net.layers[-1].name
    ways = net.plan(x, layer).ways
    assert len(ways) >= 4
    chosen: list[Way] = []
    original = planner.choose
    results = []
    for number in range(len(ways)):

        def this_one(offered: list[Way], options: Options, notes: list[str], number: int = number) -> Plan:
            chosen.append(offered[number])
            return original([offered[number]], options, notes)

        monkeypatch.setattr(attribution, "choose", this_one)
        results.append(net.attribute_units(x, layer, strict=True))
    assert chosen == ways
    for way, result in zip(ways, results, strict=True):
        assert result.mode == way.mode
        assert_close(result.scores, results[0].scores, 1e-5)
        assert_close(result.bias, results[0].bias, 1e-5)
        assert torch.equal(result.outputs, results[0].outputs)


@pytest.mark.usefixtures("eager")
def test_memory_bounds_the_choice() -> None:
    _, net, x = chain()
    plan = net.plan(x, "4")
    least = min(way.bytes for way in plan.ways)
    for memory in sorted({way.bytes for way in plan.ways}):
        bounded = net.plan(x, "4", memory=memory)
        assert bounded.chosen.bytes <= memory
        fitting = [way.seconds for way in bounded.ways if way.bytes <= memory]
        assert bounded.chosen.seconds == min(fitting)
    smallest = net.plan(x, "4", memory=least).chosen
    with pytest.raises(InputError, match=r"needs at least .*B beside its result, more than memory=1 B"):
        net.plan(x, "4", memory=1)
    with pytest.raises(InputError, match="allow more, or ask for fewer inputs"):
        net.attribute_units(x, "4", memory=1)
    assert smallest.size >= 1


@pytest.mark.usefixtures("eager")
def test_a_plan_prints_a_table() -> None:
    _, net, x = chain()
    plan = net.plan(x, "4")
    head, *rows = str(plan).splitlines()
    assert head.split() == ["engine", "mode", "size", "passes", "multiplies", "seconds", "memory"]
    assert len(rows) == len(plan.ways)
    marked = [line for line in rows if line.startswith("→ ")]
    assert marked == [rows[plan.ways.index(plan.chosen)]]
    for line, way in zip(rows, plan.ways, strict=True):
        cells = line.lstrip("→ ").split()
        assert cells[:4] == [way.engine, way.mode, str(way.size), str(way.passes)]
        assert float(cells[4]) == pytest.approx(way.multiplies, rel=0.01)
        assert float(cells[5]) == pytest.approx(way.seconds, rel=0.01)
        assert cells[7] in ("B", "KiB", "MiB")
    assert "torch backend was asked for" in str(net.plan(x, "4", backend="torch")).splitlines()[-1]


def test_short_work_compiles_no_row_lists() -> None:
    _, net, x = chain()
    plan = net.plan(x, "4", torch.tensor([[0, 0, 0]]))
    assert {way.engine for way in plan.ways} == {"dense"}
    assert plan.notes == ["rows: the dense engine is done before row lists are made"]
    assert net.plan(x, "4", torch.tensor([[0, 0, 0]]), backend="cpu").chosen.engine == "rows"


@pytest.mark.usefixtures("eager")
def test_several_layers_are_one_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    _, net, x = chain()
    modes = []
    original = planner.choose

    def spy(ways: list[Way], options: Options, notes: list[str]) -> Plan:
        modes.append({way.mode for way in ways})
        return original(ways, options, notes)

    monkeypatch.setattr(attribution, "choose", spy)
    net.attribute_layers(x, ["1", "4"])
    assert modes == [{"forward"}]


# What has no row form -> (network, input shape, what the reason says).
WITHOUT_ROWS = {
    "upsampling": (nn.Sequential(nn.Conv2d(2, 3, 3), nn.Upsample(scale_factor=2)), (2, 6, 6), "has no row form"),
    "concatenated lines": (Lambda(lambda m, x: torch.cat([m[0](x), x], 2), nn.Conv2d(2, 2, 1)), (2, 6, 6), "along pos"),
    "broadcast sum": (
        Lambda(lambda m, x: m[0](x) + x.mean((2, 3), keepdim=True), nn.Conv2d(2, 2, 1)),
        (2, 6, 6),
        "broadcasts its operands",
    ),
    "linear over columns": (nn.Linear(6, 4), (2, 5, 6), "last axis"),
    "mean over lines": (
        Lambda(lambda m, x: m[0](x).mean(2, keepdim=True), nn.Conv2d(2, 2, 1)),
        (2, 6, 6),
        "dimensions",
    ),
    "three axes of positions": (nn.Conv3d(2, 3, 2), (2, 4, 4, 4), "none of pixels, lines or numbers"),
}


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("name", WITHOUT_ROWS)
def test_what_has_no_row_form_runs_dense(name: str) -> None:
    network, shape, reason = WITHOUT_ROWS[name]
    x = torch.randn(2, *shape)
    net = fwdkern.fuse(network.eval(), x)
    layer = net.layers[-1].name
    plan = net.plan(x, layer)
    assert {way.engine for way in plan.ways} == {"dense"}
    (note,) = plan.notes
    assert note.startswith("rows: ") and reason in note
    net.attribute_units(x, layer, strict=True)
    with pytest.raises(BackendError, match=reason):
        net.attribute_units(x, layer, backend="cpu")
    with pytest.raises(BackendError, match='Use backend="auto"'):
        net.plan(x, layer, backend="cpu")


@pytest.mark.usefixtures("eager")
def test_float64_runs_dense() -> None:
    network, _, x = chain()
    double = torch.nn.Sequential(*[type(m)(*([] if isinstance(m, nn.ReLU) else [2, 4, 3])) for m in network[:2]])
    double = double.eval().double()
    net = fwdkern.fuse(double, x.double())
    assert net.plan(x.double(), "1").notes == ["rows: active rows are float32, the input is float64"]
    assert net.attribute_units(x.double(), "1", strict=True).scores.dtype is torch.float64
    with pytest.raises(BackendError, match="active rows are float32, the input is float64"):
        net.attribute_units(x.double(), "1", backend="cpu")
    with pytest.raises(BackendError, match="float64"):
        net.attribute_layers(x.double(), ["1"], backend="cpu")


@pytest.mark.usefixtures("eager")
def test_without_the_library_it_runs_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    _, net, x = chain()
    net.plan(x, "4")  # measures with the library
    expected = net.attribute_units(x, "4", backend="torch")
    monkeypatch.setattr(native, "load", lambda: (None, "hidden by a test"))
    plan = net.plan(x, "4")
    assert {way.engine for way in plan.ways} == {"dense"}
    assert plan.notes == ["rows: the compiled library is absent (hidden by a test)"]
    assert_close(net.attribute_units(x, "4", strict=True).scores, expected.scores, 1e-5)
    for request in (net.plan, net.attribute_units):
        with pytest.raises(BackendError, match=r"library is absent \(hidden by a test\)"):
            request(x, "4", backend="cpu")


@pytest.mark.parametrize(
    ("option", "value"), [("mode", "backwards"), ("backend", "metal"), ("layout", "crop"), ("bias", None)]
)
def test_unknown_choices(option: str, value: object) -> None:
    _, net, x = chain()
    with pytest.raises(InputError, match=f"{option}={value!r} is not one of"):
        net.attribute_units(x, "4", **{option: value})


@pytest.mark.parametrize("features", ["channels", torch.zeros(20, 19, dtype=torch.int64)])
def test_windows_are_of_pixels(features: str | Tensor) -> None:
    _, net, x = chain()
    with pytest.raises(InputError, match='layout="window" crops maps of pixels'):
        net.attribute_units(x, "4", features=features, layout="window")


@pytest.mark.usefixtures("eager")
def test_networks_that_fix_their_batch() -> None:
    """Rows take inputs one by one, which such a network cannot."""
    fixed = Lambda(lambda m, x: F.relu(m[0](x)).reshape(2, 3, -1), nn.Conv2d(2, 3, 1))
    x = torch.randn(2, 2, 4, 4)
    net = fwdkern.fuse(fixed.eval(), x)
    layer = next(name.name for name in net.layers if name.operator == "relu")
    plan = net.plan(x, layer)
    assert any("fixes a batch of 2" in note for note in plan.notes)
    net.attribute_units(x, layer, strict=True)
