from dataclasses import replace

import numpy as np
import pytest
import torch

import fwdkern
from fwdkern.digits import digits_net, examples
from fwdkern.errors import InputError, LayerError
from fwdkern.preprocessing import Preprocessing
from fwdkern.saliency import Saliency
from fwdkern.scale import Work
from fwdkern.scale.work import Engine, Reduction

PREPROCESSING = Preprocessing(channels=1, crop=(64, 64), mean=(0.1,), std=(0.5,))
LAYER = "relu_4"


@pytest.fixture(scope="module")
def net() -> fwdkern.FusedModel:
    return fwdkern.fuse(digits_net(), torch.zeros(1, 1, 64, 64))


PIXELS = examples().images[:4]
INPUTS = PREPROCESSING.normalise(PIXELS)


def done(net: fwdkern.FusedModel, **what: object) -> dict[str, dict[str, np.ndarray]]:
    work = replace(Work(dtype="float32"), **what)  # type: ignore[arg-type]
    return Engine(net, work.checked(net, 10), PREPROCESSING).run(PIXELS)


@pytest.mark.parametrize(
    ("what", "target"),
    [
        ({}, None),
        ({"top": 3}, "top"),
        ({"target": (7, 1)}, [[7, 1]] * 4),
        ({"target": "all"}, "all"),
    ],
)
def test_relevance_of_classes(net: fwdkern.FusedModel, what: dict, target: object) -> None:
    table = done(net, **what)[""]
    asked = net(INPUTS).topk(3).indices if target == "top" else target
    expected = net.attribute(INPUTS, torch.tensor(asked) if isinstance(asked, list) else asked)
    assert torch.equal(torch.from_numpy(table["target"]), expected.units)
    np.testing.assert_allclose(table["map"], expected.scores, atol=1e-5)
    np.testing.assert_allclose(table["output"], expected.outputs, rtol=1e-5)
    np.testing.assert_allclose(table["map"].sum((2, 3)) + table["delta"], table["output"], atol=1e-3)


def test_saliency_and_its_metrics(net: fwdkern.FusedModel) -> None:
    table = done(net, maps="saliency", metrics=("drop", "insertion"))[""]
    expected = Saliency(net, baselines=PREPROCESSING.black).attribute(INPUTS)
    np.testing.assert_allclose(table["map"][:, 0], expected, atol=1e-6)
    assert table["drop"].shape == table["insertion"].shape == (4,)
    assert np.isfinite(table["insertion"]).all()
    assert "delta" not in table  # a saliency map sums to nothing in particular


def test_patches_are_sums_and_of_saliency_means(net: fwdkern.FusedModel) -> None:
    whole, patches = done(net)[""]["map"], done(net, features="patches:16")[""]["map"]
    np.testing.assert_allclose(patches, whole.reshape(4, 1, 4, 16, 4, 16).sum((3, 5)), atol=1e-4)
    whole, patches = (done(net, maps="saliency", features=f)[""]["map"] for f in ("pixels", "patches:16"))
    np.testing.assert_allclose(patches, whole.reshape(4, 1, 4, 16, 4, 16).mean((3, 5)), atol=1e-6)


def test_patches_that_do_not_divide_the_image(net: fwdkern.FusedModel) -> None:
    table = done(net, features="patches:24")[""]
    assert table["map"].shape == (4, 1, 3, 3)
    np.testing.assert_allclose(table["map"].sum((2, 3)) + table["delta"], table["output"], atol=1e-3)


def test_channels_of_two_layers_and_the_strongest_of_them(net: fwdkern.FusedModel) -> None:
    tables = done(net, maps="channels", layers=("relu_2", LAYER))
    for layer, table in tables.items():
        expected = net.attribute_units(INPUTS, layer, "channels")
        np.testing.assert_allclose(table["map"], expected.scores, atol=1e-4)
        few = done(net, maps="channels", layers=(layer,), strongest=3)[layer]
        assert few["map"].shape[1] == 3
        for row in range(4):
            order = np.argsort(-np.abs(table["output"][row]), kind="stable")[:3]
            assert few["channel"][row].tolist() == order.tolist()
            np.testing.assert_allclose(few["map"][row], table["map"][row, order], atol=1e-5)


def test_units(net: fwdkern.FusedModel) -> None:
    units = ((3, 2, 4), (0, 0, 0))
    table = done(net, maps="units", layers=(LAYER,), units=units)[LAYER]
    expected = net.attribute_units(INPUTS, LAYER, torch.tensor(units))
    np.testing.assert_allclose(table["map"], expected.scores, atol=1e-5)


def test_decomposition_sums_to_the_class_map(net: fwdkern.FusedModel) -> None:
    table = done(net, maps="decomposition", layers=(LAYER,), strongest=5)[LAYER]
    assert table["map"].shape == (4, 6, 64, 64) and table["unit"].shape == (4, 5, 3)
    np.testing.assert_allclose(table["map"].sum(1), done(net)[""]["map"][:, 0], atol=1e-4)


def test_contributions_sum_to_the_class_score(net: fwdkern.FusedModel) -> None:
    table = done(net, maps="contributions", layers=(LAYER,))[LAYER]
    assert table["share"].shape == (4, net.layer(LAYER).shape[0])
    np.testing.assert_allclose(table["share"].sum(1) + table["rest"], table["output"], atol=1e-4)


def test_values_alone_have_no_maps(net: fwdkern.FusedModel) -> None:
    assert "map" not in done(net, keep="values")[""]


def test_float16_holds_maps_of_any_size(net: fwdkern.FusedModel) -> None:
    engine = Engine(net, Work(), PREPROCESSING)
    maps = torch.randn(2, 3, 4, 4) * torch.tensor([1e-9, 1.0, 1e9])[:, None, None]
    maps[1, 2] = 0
    kept = engine._kept_maps(maps)
    assert kept["map"].dtype == torch.float16
    back = kept["map"].float() * kept["scale"][:, :, None, None]
    assert ((back - maps).abs() <= 2**-11 * kept["scale"][:, :, None, None]).all()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ({"maps": "heat"}, "not one of 'relevance'"),
        ({"keep": "all"}, "not one of"),
        ({"dtype": "int8"}, "not one of"),
        ({"metrics": ("f1",)}, "not one of"),
        ({"maps": "channels"}, "name one"),
        ({"layers": ("relu_1",)}, "not about the layer"),
        ({"maps": "units", "layers": ("relu_1",)}, "coordinates"),
        ({"units": ((1, 2, 3),)}, "coordinates"),
        ({"strongest": 3}, "strongest is for"),
        ({"keep": "best"}, 'keep="best"'),
        ({"metrics": ("drop",), "top": 2}, "one class"),
        ({"metrics": ("drop",), "features": "patches:4"}, "of pixels"),
        ({"maps": "decomposition", "layers": ("relu_1",), "target": "all"}, "one class"),
        ({"top": 0}, "at least 1"),
    ],
)
def test_options_that_do_not_go_together(what: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Work(**what)


def test_options_that_do_not_fit_the_network(net: fwdkern.FusedModel) -> None:
    with pytest.raises(InputError, match="no class 10"):
        Work(target=(10,)).checked(net, 10)
    with pytest.raises(InputError, match="knows 10 classes"):
        Work(top=11).checked(net, 10)
    with pytest.raises(LayerError):
        Work(maps="channels", layers=("nowhere",)).checked(net, 10)
    with pytest.raises(InputError, match="class scores"):
        Work().checked(net, None)


def parts(count: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    generator = np.random.default_rng(count)
    made = []
    for part in range(count):
        keys = np.array([f"{part}-{row}" for row in range(5)], dtype=object)
        # Few values, so that there are ties.
        made.append((keys, generator.integers(0, 4, (5, 3)).astype(np.float32), generator.random((5, 3, 2, 2))))
    return made


def test_reduction_gives_what_all_rows_together_give_in_any_order() -> None:
    found = []
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        whole = Reduction(best=4)
        for index in order:
            single = Reduction(best=4)
            key, output, maps = parts(4)[index]
            single.add(key, output, map=maps)
            tables = single.tables("l")
            whole.merge(tables["statistics/l"], tables["best/l"])
        found.append(whole.tables("l"))
    keys, output, maps = (np.concatenate([part[i] for part in parts(4)]) for i in range(3))
    for tables in found:
        statistics, best = tables["statistics/l"], tables["best/l"]
        assert statistics["count"].tolist() == [20] * 3
        np.testing.assert_allclose(statistics["sum"], output.sum(0))
        np.testing.assert_allclose(statistics["squares"], (output**2).sum(0))
        assert statistics["largest"].tolist() == output.max(0).tolist()
        assert statistics["smallest"].tolist() == output.min(0).tolist()
        for channel in range(3):
            order = sorted(range(20), key=lambda row: (-output[row, channel], keys[row]))[:4]
            assert best["key"][channel].tolist() == keys[order].tolist()
            np.testing.assert_array_equal(best["map"][channel], maps[order, channel])
