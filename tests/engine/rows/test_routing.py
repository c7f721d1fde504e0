"""Dense products where nearly all rows are there: the choice, and the rows that come out."""

import functools

import pytest
import torch

import fwdkern
from fwdkern.engine import attribution, planner
from fwdkern.engine.rows import routing
from fwdkern.engine.rows.device import DevicePass
from fwdkern.engine.rows.routing import SHARES, Product, Route, route
from fwdkern.ops import gathered_gemm
from tests.engine.rows.networks import NAMED, named
from tests.networks.families import randomise
from tests.oracle import assert_close


def layer(density_in: float, density_out: float, channels: int = 256, groups: int = 1) -> Product:
    units = 196 * channels
    shape = (9, channels, channels // groups)
    return Product(int(density_in * units), units, int(density_out * units), units, shape, groups)


@pytest.mark.parametrize("precision", SHARES)
def test_few_rows_are_gathered(precision: str) -> None:
    for density in (0.0, 0.15, 0.3, 0.5):
        for channels in (16, 256, 10**6):
            assert route(layer(density, density, channels), precision) == "gathered"
            assert route(layer(density, 1.0, channels), precision) == "gathered"


@pytest.mark.parametrize("precision", SHARES)
def test_one_crossover_and_it_is_where_the_table_says(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHARES, precision, routing.Share(0.5, 64))
    # 256 channels: dense work costs 1 + 64/256, gathered work twice its product of densities.
    routes = [route(layer(share, 1.0), precision) for share in (0.2, 0.5, 0.6, 0.62, 0.64, 0.9, 1.0)]
    assert routes == ["gathered"] * 4 + ["dense"] * 3
    assert route(layer(0.8, 0.8), precision) == route(layer(0.64, 1.0), precision)
    assert route(layer(1.0, 1.0, channels=32), precision) == "gathered"  # copies outweigh it
    assert route(layer(1.0, 1.0, groups=2), precision) == "gathered"


def test_nothing_to_multiply() -> None:
    assert route(Product(0, 0, 0, 0, (0, 0, 1), 1), "ieee") == "gathered"


@pytest.fixture
def dense(monkeypatch: pytest.MonkeyPatch) -> list[Route]:
    """Requests for the compiled library run in device passes, ungrouped products dense and in small pieces."""
    taken: list[Route] = []

    def choose(product: Product, precision: str) -> Route:
        taken.append("dense" if product.groups == 1 else "gathered")
        return taken[-1]

    over_references = functools.partial(
        DevicePass, storage=torch.float32, backend="torch", precision="ieee", memory=2**40
    )
    monkeypatch.setattr(attribution.Job, "_carry", lambda job, carried: over_references(carried))
    monkeypatch.setattr(routing, "route", choose)
    monkeypatch.setattr(routing, "DENSE_BYTES", 5000)
    monkeypatch.setitem(planner.TILE_SIDE, "cpu", 3)
    monkeypatch.setitem(planner.REVERSE_CHUNKS, "cpu", (7,))
    return taken


@pytest.mark.parametrize("mode", ["forward", "reverse"])
@pytest.mark.parametrize("name", NAMED)
@pytest.mark.usefixtures("native_library")
def test_whole_requests(name: str, mode: str, dense: list[Route]) -> None:
    network, x = named(name, 1)
    net = fwdkern.fuse(network, x)
    last = net.layers[-1].name
    expected = net.attribute_units(x, last, backend="torch", strict=True)
    found = net.attribute_units(x, last, backend="cpu", mode=mode, strict=True)
    assert "dense" in dense or not dense
    assert_close(found.scores, expected.scores, 1e-5)


@pytest.mark.parametrize("storage", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("precision", SHARES)
def test_against_the_gathered_gemm(precision: str, storage: torch.dtype) -> None:
    random = torch.Generator().manual_seed(0)
    gates = [torch.rand(5, 6, generator=random) < 0.7, torch.rand(7, 4, generator=random) < 0.6]
    lists = [fwdkern.ops.active_rows(gate) for gate in gates]
    arena = torch.randn(1 + len(lists[0][1]), 16, generator=random).to(storage)
    arena[0] = 0
    taps = torch.randint(-1, 6, (4, 3), generator=random)
    weight = torch.randn(3, 5, 7, generator=random, dtype=torch.float64).to(
        torch.float64 if storage is torch.float64 else torch.float32
    )
    expected = gathered_gemm(arena[1:], lists[0], lists[1], taps.int(), weight, backend="torch")
    place = torch.zeros(6, 5, dtype=torch.int64)
    position = torch.arange(6).repeat_interleave(lists[0][0].diff())
    place[position, lists[0][1].long()] = torch.arange(1, len(arena))
    own = torch.arange(4).repeat_interleave(lists[1][0].diff())
    found = routing.dense_product(arena, place, taps, weight, own, lists[1][1], precision)
    assert found.dtype == weight.dtype
    rounding = 0.03 if precision == "bf16" or storage is torch.bfloat16 else 1e-6
    assert_close(found.to(storage), expected, rounding)


def test_the_plan_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    network = randomise(torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.Conv2d(4, 6, 3))).eval()
    x = torch.randn(1, 1, 9, 9)
    net = fwdkern.fuse(network, x)
    last = net.layers[-1].name
    monkeypatch.setitem(SHARES, "ieee", routing.Share(0.5, 0))
    plan = net.plan(x, last, backend="triton", mode="forward")
    assert "dense products, by density: 0 (1.00 x 1.00), 1 (1.00 x 1.00)" in str(plan)
    gathered = net.plan(x, last, backend="cpu", mode="forward")
    assert "dense products" not in str(gathered)
    assert plan.chosen.multiplies >= gathered.chosen.multiplies  # taps outside the image are multiplied too
