"""The row engine against the dense engine, algorithm 1 and autograd, through whole networks."""

import functools

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import fwdkern
from fwdkern import FusedModel, Relevance
from fwdkern.engine import planner
from fwdkern.engine.units import parse_units
from fwdkern.ops.row_program import CompiledPass
from tests import data as real
from tests.engine.rows.drawn import Drawn, image_networks, vector_networks
from tests.engine.rows.networks import NAMED, named
from tests.frozen_coefficients import FrozenCoefficients
from tests.networks.families import randomise
from tests.oracle import assert_close, autograd

# float32 through a few layers of at most some hundred terms each, on the scale of the largest entry.
TOLERANCE = 1e-5
MODES = ["forward", "reverse"]
# Every example captures a network, so that shrinking one would take minutes; what is printed reproduces it.
drawn = settings(
    max_examples=12,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

pytestmark = pytest.mark.usefixtures("native_library")


@pytest.fixture(params=["one band", "many bands"])
def bands(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reverse mode cuts the image into bands of lines by the size of what it holds."""
    if request.param == "many bands":
        monkeypatch.setattr("fwdkern.engine.rows.reverse.BAND", 1)


def assert_same(found: Relevance, expected: Relevance, tolerance: float = TOLERANCE) -> None:
    assert_close(found.scores, expected.scores, tolerance)
    assert_close(found.bias, expected.bias, tolerance)
    assert torch.equal(found.outputs, expected.outputs)
    assert torch.equal(found.units, expected.units)
    assert (found.layer, found.features) == (expected.layer, expected.features)
    if expected.origin is not None:
        assert torch.equal(found.origin, expected.origin)
    if expected.outside is not None:
        assert_close(found.outside, expected.outside, tolerance)


def draw_units(data: st.DataObject, shape: tuple[int, ...]) -> str | Tensor:
    kind = data.draw(st.sampled_from(["all", "channels", "some"] if len(shape) > 1 else ["all", "some"]))
    if kind != "some":
        return kind
    coordinates = st.tuples(*[st.integers(0, size - 1) for size in shape])
    return torch.tensor(data.draw(st.lists(coordinates, min_size=1, max_size=5)))


def draw_features(data: st.DataObject, x: Tensor, seed: int) -> str | Tensor:
    positions = x.shape[2:] if x.dim() > 2 else x.shape[1:]
    random = torch.Generator().manual_seed(seed)
    # Random labels leave gaps and reach far; per example their largest number differs.
    labels = torch.randint(min(positions.numel(), 7), (len(x), *positions), generator=random)
    labels[-1] //= 2
    kind = data.draw(st.sampled_from(["pixels", "channels", "one map of segments", "segments for each"]))
    return {"one map of segments": labels[0], "segments for each": labels}.get(kind, kind)


@drawn
@given(st.one_of(image_networks(), vector_networks()), st.data())
def test_random_networks(network: Drawn, data: st.DataObject) -> None:
    net = fwdkern.fuse(network.network, network.x)
    layer = data.draw(st.sampled_from([layer.name for layer in net.layers[-3:]]))
    units = draw_units(data, net.layer(layer).shape)
    features = draw_features(data, network.x, network.seed)
    bias = data.draw(st.sampled_from(["uniform", "receptive_field", "separate"]))
    windows = network.x.dim() == 4 and isinstance(features, str) and features == "pixels"
    layout = data.draw(st.sampled_from(["dense", "window"] if windows else ["dense"]))
    request = {"features": features, "bias": bias, "layout": layout, "strict": True}
    note(f"{request}, units {units} of {net.layer(layer)}")
    dense = net.attribute_units(network.x, layer, units, backend="torch", **request)
    with pytest.MonkeyPatch.context() as patch:
        # As many bands of lines as there can be, or as large images would have.
        patch.setattr("fwdkern.engine.rows.reverse.BAND", data.draw(st.sampled_from([1, 3, 10_000])))
        for mode in MODES:
            rows = net.attribute_units(network.x, layer, units, backend="cpu", mode=mode, **request)
            assert rows.mode == mode
            assert_same(rows, dense)


@drawn
@given(st.one_of(image_networks(), vector_networks()))
def test_random_networks_equal_autograd(network: Drawn) -> None:
    net = fwdkern.fuse(network.network, network.x)
    # The fused network itself, so that no gate or tie is decided by another rounding.
    expected = autograd(net, network.x)
    last = net.layers[-1].name
    for mode in MODES:
        rows = net.attribute_units(network.x, last, features="channels", bias="separate", backend="cpu", mode=mode)
        assert_close(rows.scores, expected.channels.view_as(rows.scores), TOLERANCE)
        magnitude = 1 + expected.channels.abs().flatten(2).sum(2)
        assert_close(rows.bias / magnitude, expected.bias / magnitude, TOLERANCE)


@drawn
@given(image_networks())
def test_all_layers_in_one_pass(network: Drawn) -> None:
    net = fwdkern.fuse(network.network, network.x)
    names = [layer.name for layer in net.layers]
    dense = net.attribute_layers(network.x, names, backend="torch", strict=True)
    rows = net.attribute_layers(network.x, names, backend="cpu", strict=True)
    assert list(rows) == names
    for name in names:
        assert_same(rows[name], dense[name])


@functools.cache
def fused(name: str, batch: int = 2) -> tuple[FusedModel, Tensor]:
    """A named network, captured once."""
    network, x = named(name, batch)
    return fwdkern.fuse(network, x), x


@functools.cache
def fused_tiles() -> FusedModel:
    network = nn.Sequential(nn.Conv2d(2, 3, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(3, 2, 3, 2, 1))
    return fwdkern.fuse(randomise(network).eval(), torch.randn(1, 2, 16, 16))


@functools.cache
def fused_resnet20() -> tuple[FusedModel, Tensor]:
    images = real.cifar_photos(2)[0]
    return fwdkern.fuse(real.resnet20(), images), images


@functools.cache
def fused_squeezenet() -> tuple[FusedModel, Tensor]:
    image = real.imagenet_photos(1)[0]
    return fwdkern.fuse(real.squeezenet(), image), image


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMED)
@pytest.mark.usefixtures("bands")
def test_named_networks(name: str, mode: str) -> None:
    net, x = fused(name)
    with FrozenCoefficients():
        expected = autograd(named(name)[0], x)
    last = net.layers[-1].name
    for units in ("all", "channels") if x.dim() > 2 and len(net.layer(last).shape) > 1 else ("all",):
        dense = net.attribute_units(x, last, units, backend="torch", strict=True)
        rows = net.attribute_units(x, last, units, backend="cpu", mode=mode, strict=True)
        assert_same(rows, dense)
        if units == "all":
            assert_close(rows.scores, expected.uniform.view_as(rows.scores), TOLERANCE)
    if name == "all dead":
        assert not rows.scores.any() and not rows.outputs.any()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["dilated overlapping pool, ceil", "concatenated pools"])
def test_ties_go_to_torchs_winner(name: str, mode: str) -> None:
    net, x = fused(name)
    # Few distinct values, equal over whole areas: most windows hold several maxima.
    x = (x[:, :, ::3, ::3].repeat_interleave(3, 2).repeat_interleave(3, 3)[:, :, : x.shape[2], : x.shape[3]]).round()
    rows = net.attribute_units(x, net.layers[-1].name, backend="cpu", mode=mode, strict=True)
    assert_close(rows.scores, autograd(net, x).uniform, TOLERANCE)


def test_equals_algorithm1() -> None:
    random = torch.Generator().manual_seed(0)
    chain = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(4, 6, (3, 2), stride=(1, 2), bias=False),
        nn.ReLU(),
        nn.AvgPool2d(2, 1),
        nn.Flatten(),
        nn.Linear(6, 5),
        nn.ReLU(),
        nn.Linear(5, 3),
    ).eval()
    x = torch.randn(1, 2, 8, 9, generator=random)
    net = fwdkern.fuse(chain, x)
    expected = fwdkern.algorithm1(chain, x[0])
    for mode in MODES:
        rows = net.attribute(x, "all", backend="cpu", mode=mode, strict=True)
        assert_close(rows.scores[0], expected, TOLERANCE)
    layers = fwdkern.algorithm1(chain, x[0], all_layers=True)
    for name in ("2", "3", "5", "6", "9"):
        rows = net.attribute_units(x, name, backend="cpu", mode="forward", strict=True)
        assert_close(rows.scores[0], layers[name].flatten(0, -3), TOLERANCE)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["output larger than a tile", "concatenated pools", "mean at the end"])
def test_every_instruction_set(name: str, mode: str, isa: str) -> None:
    net, x = fused(name)
    last = net.layers[-1].name
    dense = net.attribute_units(x, last, backend="torch", strict=True)
    assert_same(net.attribute_units(x, last, backend="cpu", mode=mode, strict=True), dense)


@pytest.mark.parametrize("layout", ["dense", "window"])
@pytest.mark.parametrize("side", [1, 3, 8, 16, 64])
@pytest.mark.parametrize("shape", [(13, 21), (1, 9), (17, 16)])
def test_tiles_that_do_not_divide_the_image(
    shape: tuple[int, int], side: int, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(planner.TILE_SIDE, "cpu", side)
    net, x = fused_tiles(), torch.randn(2, 2, *shape, generator=torch.Generator().manual_seed(0))
    assert net.plan(x, "3", backend="cpu", mode="forward").chosen.size == side
    for features in ("pixels", "channels")[: 2 if layout == "dense" else 1]:
        request = {"features": features, "layout": layout, "strict": True}
        dense = net.attribute_units(x, "3", backend="torch", **request)
        assert_same(net.attribute_units(x, "3", backend="cpu", mode="forward", **request), dense)


@pytest.mark.parametrize("chunk", [1, 7])
def test_targets_in_chunks(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(planner.REVERSE_CHUNKS, "cpu", (chunk,))
    net, x = fused("concatenated pools")
    last = net.layers[-1].name
    for units in ("all", "channels", torch.tensor([[2, 0, 0], [0, 1, 2], [2, 0, 0]])):
        dense = net.attribute_units(x, last, units, backend="torch")
        assert_same(net.attribute_units(x, last, units, backend="cpu", mode="reverse"), dense)


def test_more_segments_than_a_block_holds() -> None:
    x = torch.randn(2, 2, 24, 25)
    net = fwdkern.fuse(nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 1, 5, stride=5)).eval(), x)
    labels = torch.arange(600).view(24, 25) * 2 // 3  # 400 segments
    labels = torch.stack([labels, labels.flip(1)])
    dense = net.attribute_units(x, "2", features=labels, backend="torch", strict=True)
    for mode in MODES:
        assert_same(net.attribute_units(x, "2", features=labels, backend="cpu", mode=mode, strict=True), dense)


def test_classes_of_each_example() -> None:
    net, x = fused("mean at the end", batch=3)
    for target in (None, 2, [1, 0, 3], torch.tensor([[0, 0], [3, 1], [2, 3]]), "all"):
        dense = net.attribute(x, target, backend="torch", strict=True)
        for mode in MODES:
            assert_same(net.attribute(x, target, backend="cpu", mode=mode, strict=True), dense)


def test_duplicates_in_windows() -> None:
    net, x = fused("output larger than a tile")
    units = torch.tensor([[0, 2, 3], [0, 5, 10], [0, 2, 3], [0, 0, 0]])
    for mode in MODES:
        rows = net.attribute_units(x, "2", units, layout="window", backend="cpu", mode=mode, strict=True)
        assert torch.equal(rows.scores[:, 0], rows.scores[:, 2]) and rows.scores[:, 0].any()
        assert_same(rows, net.attribute_units(x, "2", units, layout="window", backend="torch"))


@pytest.mark.parametrize("mode", MODES)
def test_inputs_in_any_memory_format(mode: str) -> None:
    net, x = fused("dilated overlapping pool, ceil")
    last = net.layers[-1].name
    expected = net.attribute_units(x, last, backend="cpu", mode=mode).scores
    wide = torch.randn(*x.shape[:3], 2 * x.shape[3])
    wide[..., ::2] = x
    for same in (x.contiguous(memory_format=torch.channels_last), wide[..., ::2], x.mT.contiguous().mT):
        assert_close(net.attribute_units(same, last, backend="cpu", mode=mode).scores, expected, TOLERANCE)
    one = x[:1].expand(3, -1, -1, -1)
    repeated = net.attribute_units(one, last, backend="cpu", mode=mode).scores
    assert torch.equal(repeated[0], repeated[2])
    assert_close(repeated[1], expected[0], TOLERANCE)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["output larger than a tile", "concatenated pools", "mean at the end"])
def test_bfloat16_rows(name: str, mode: str) -> None:
    net, x = fused(name)
    last = net.layers[-1].name
    exact = net.attribute_units(x, last, backend="cpu", mode=mode)
    short = net.attribute_units(x, last, backend="cpu", mode=mode, storage="bfloat16", strict=True)
    assert short.scores.dtype is torch.float32
    # Some four layers, each rounded to 8 bits.
    assert_close(short.scores, exact.scores, 4 * 2**-8)
    assert not torch.equal(short.scores, exact.scores)
    ways = [net.plan(x, last, backend="cpu", mode=mode, storage=held).chosen for held in ("float32", "bfloat16")]
    assert ways[1].bytes < ways[0].bytes


@pytest.mark.parametrize("mode", MODES)
def test_bit_for_bit(mode: str) -> None:
    net, x = fused("output larger than a tile")
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 1, 2, 2):
            torch.set_num_threads(count)
            found.append(net.attribute_units(x, "2", bias="separate", backend="cpu", mode=mode))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0].bias, found[1].bias)
    for other in found[1:]:
        assert torch.equal(found[0].scores, other.scores)


def test_an_image_of_another_size() -> None:
    net, _ = fused("dilated overlapping pool, ceil")
    last = net.layers[-1].name
    for size in ((11, 10), (20, 9), (11, 10)):
        image = torch.randn(1, 3, *size)
        dense = net.attribute_units(image, last, backend="torch")
        assert_same(net.attribute_units(image, last, backend="cpu", mode="forward", strict=True), dense)


def some_units(net: FusedModel, layer: str, count: int, seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randint(size, (count,), generator=random) for size in net.layer(layer).shape], 1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("layer", ["layer1.0.conv2", "layer2.0", "layer3.1", "linear"])
def test_resnet20(layer: str, mode: str) -> None:
    net, images = fused_resnet20()
    layer = layer.replace("conv", "bn")
    units = some_units(net, layer, 24, 0)
    dense = net.attribute_units(images, layer, units, backend="torch", mode="reverse", strict=True)
    rows = net.attribute_units(images, layer, units, backend="cpu", mode=mode, strict=True)
    assert_same(rows, dense, 1e-4)


@pytest.mark.parametrize("mode", MODES)
def test_squeezenet_units(mode: str) -> None:
    net, image = fused_squeezenet()
    units = some_units(net, "features.5", 40, 0)
    dense = net.attribute_units(image, "features.5", units, layout="window", backend="torch", mode="reverse")
    rows = net.attribute_units(image, "features.5", units, layout="window", backend="cpu", mode=mode, strict=True)
    assert rows.scores.shape == (1, 40, 31, 31)
    assert_same(rows, dense, 1e-4)


def test_squeezenet_classes() -> None:
    net, image = fused_squeezenet()
    classes = torch.tensor([[0, 207, 999, 1]])
    dense = net.attribute(image, classes, backend="torch", mode="reverse", strict=True)
    rows = net.attribute(image, classes, backend="cpu", mode="reverse", strict=True)
    assert_same(rows, dense, 1e-4)


def test_interrupted_parts_stay_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = fused("output larger than a tile")
    request = {"backend": "cpu", "mode": "forward"}
    expected = net.attribute_units(x, "2", **request)
    calls, original = 0, CompiledPass.run

    def interrupted(self: CompiledPass) -> int:
        nonlocal calls
        calls += 1
        if calls > 2:
            raise KeyboardInterrupt
        return original(self)

    monkeypatch.setattr(CompiledPass, "run", interrupted)
    parts = []
    with pytest.raises(KeyboardInterrupt):
        for part in net.iter_units(x, "2", memory=1_000_000, **request):
            parts.append(part)
    assert parts, "nothing was done before the interruption"
    done = sum(len(part.units) for part in parts)
    assert done < len(expected.units)
    assert_close(torch.cat([part.scores for part in parts], 1), expected.scores[:, :done], TOLERANCE)
    assert torch.equal(torch.cat([part.units for part in parts]), expected.units[:done])
    # The network serves on.
    monkeypatch.setattr(CompiledPass, "run", original)
    assert torch.equal(net.attribute_units(x, "2", **request).scores, expected.scores)


def test_parts_make_the_whole() -> None:
    net, x = fused("concatenated pools")
    last = net.layers[-1].name
    count = parse_units("all", torch.empty(1, *net.layer(last).shape), last).count
    for layout in ("dense", "window"):
        whole = net.attribute_units(x, last, layout=layout, backend="cpu", mode="reverse")
        parts = list(net.iter_units(x, last, memory=130_000, layout=layout, backend="cpu", mode="reverse"))
        assert len(parts) > 1 and sum(len(part.units) for part in parts) == count
        if layout == "dense":
            assert_close(torch.cat([part.scores for part in parts], 1), whole.scores, TOLERANCE)
