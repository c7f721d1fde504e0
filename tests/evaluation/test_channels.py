"""Scores, groups, pruning and clusters on networks and vectors whose answer is known."""

import math
import sys
from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

import fwdkern
from fwdkern.digits import digits_net
from fwdkern.errors import FwdkernError, InputError
from fwdkern.evaluation import channels as ch
from tests import FRESH_SEED, data
from tests.networks.resnet_cifar import resnet20
from tests.oracle import autograd

CLASSES = 4
BLOB, NOISE = 0, 1


@pytest.fixture
def needs_sklearn() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")


def blobs(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """A bright square in the quadrant that is the label, and beside it an input channel of noise.

    Returns images [n, 2, 16, 16] and labels [n].
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % CLASSES
    images = torch.randn(count, 2, 16, 16, generator=generator)
    images[:, BLOB] *= 0.2
    for image, label in zip(images, labels.tolist(), strict=True):
        y, x = 8 * (label // 2) + 2, 8 * (label % 2) + 2
        image[BLOB, y : y + 4, x : x + 4] += 2
    return images, labels


def blob_network() -> nn.Sequential:
    """Two channels: one finds the square, and the classifier reads only it; the other sees the noise."""
    seen, head = nn.Conv2d(2, 2, 3, padding=1), nn.Linear(2 * CLASSES, CLASSES)
    with torch.no_grad():
        seen.weight.zero_()
        seen.weight[BLOB, BLOB] = 1 / 9
        seen.weight[NOISE, NOISE] = torch.tensor([[1.0, -1, 1], [-1, 0, 1], [-1, 1, -1]])
        seen.bias.copy_(torch.tensor([-0.6, 0.0]))
        head.weight.zero_()
        head.weight[:, CLASSES * BLOB : CLASSES * (BLOB + 1)] = torch.eye(CLASSES)
        head.bias.zero_()
    parts = {"seen": seen, "relu": nn.ReLU(), "pool": nn.AdaptiveAvgPool2d(2), "flat": nn.Flatten(), "head": head}
    return nn.Sequential(OrderedDict(parts)).eval()


def test_informative_channel_is_ranked_first_clusters_and_matters(needs_sklearn: None) -> None:
    model = blob_network()
    images, labels = blobs(80, seed=FRESH_SEED)
    net = fwdkern.fuse(model, images)
    assert ch.prunable(net, model) == ["seen"]
    maps = ch.channel_maps(net, images, ch.active_layer(net, "seen"), grid=4)

    best, worst = ch.extremes(ch.concentration(maps), 1)
    assert (best.tolist(), worst.tolist()) == ([BLOB], [NOISE])

    assert ch.cluster(maps.vectors[:, BLOB], labels, CLASSES).ari == 1
    assert ch.cluster(maps.vectors[:, NOISE], labels, CLASSES).ari < 0.3

    def accuracy(model: nn.Module) -> float:
        return ch.correct(model, images, labels, batch=7).double().mean().item()

    assert accuracy(model) == accuracy(ch.pruned(model, {"seen": worst})) == 1
    assert accuracy(ch.pruned(model, {"seen": best})) == 1 / CLASSES


def test_pruning_zeroes_exactly_these_channels_and_leaves_the_model_alone() -> None:
    torch.manual_seed(0)
    model, x = resnet20().eval(), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before, weights = model(x), {name: t.clone() for name, t in model.state_dict().items()}
    off = {"layer1.1.bn1": torch.tensor([0, 7]), "layer3.2": torch.tensor([63])}
    smaller = ch.pruned(model, off)

    values: dict[str, tuple[Tensor, Tensor]] = {}
    for name in off:
        smaller.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: values.update({name: (inputs[0], output)})
        )
    with torch.no_grad():
        smaller(x)
        for name, chosen in off.items():
            given, made = values[name]
            expected = model.get_submodule(name)(given).clone()
            expected[:, chosen] = 0
            torch.testing.assert_close(made, expected, rtol=0, atol=0)
        torch.testing.assert_close(model(x), before, rtol=0, atol=0)
    assert not any(module._forward_hooks for module in model.modules())
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, weights[name], rtol=0, atol=0)


def test_a_pruned_channel_is_off_in_its_maps() -> None:
    model, (images, _) = blob_network(), blobs(4, seed=1)
    smaller = ch.pruned(model, {"seen": torch.tensor([BLOB])})
    maps = ch.channel_maps(fwdkern.fuse(smaller, images), images, "relu", grid=4)
    assert not maps.energy[:, BLOB].any() and maps.energy[:, NOISE].all()


@pytest.mark.parametrize(
    ("off", "message"),
    [
        ({"nowhere": torch.tensor([0])}, "no module 'nowhere'"),
        ({"seen": torch.tensor([2])}, r"channels 0 to 1, got \[2\]"),
        ({"seen": torch.tensor([-1])}, r"channels 0 to 1, got \[-1\]"),
    ],
)
def test_pruning_what_is_not_there(off: dict[str, Tensor], message: str) -> None:
    images, _ = blobs(4, seed=2)
    with pytest.raises(InputError, match=message):
        ch.pruned(blob_network(), off)(images)


def test_maps_are_the_sums_of_all_units_maps() -> None:
    torch.manual_seed(FRESH_SEED)
    front = nn.Sequential(nn.Conv2d(2, 3, 3, stride=2), nn.ReLU()).double().eval()
    x = torch.randn(3, 2, 12, 10, dtype=torch.float64)
    maps = ch.channel_maps(fwdkern.fuse(front, x), x, "1", grid=2)

    truth = autograd(front, x)
    whole = truth.uniform.view(3, 3, -1, 12, 10).sum(2)  # [n, C, H, W]
    torch.testing.assert_close(maps.outputs, truth.outputs.view(3, 3, -1).sum(2))
    torch.testing.assert_close(maps.energy, whole.abs().sum((2, 3)))
    cells = whole.view(3, 3, 2, 6, 2, 5).mean((3, 5)).flatten(2)
    torch.testing.assert_close(maps.vectors, cells)
    windows = whole.abs().unfold(2, 6, 1).unfold(3, 5, 1).sum((4, 5)).flatten(2).amax(2)
    torch.testing.assert_close(maps.compact, windows)


def test_batches_join_to_the_whole() -> None:
    images, _ = blobs(7, seed=3)
    net = fwdkern.fuse(blob_network(), images)
    parts = [ch.channel_maps(net, part, "relu") for part in images.split(3)]
    joined, whole = ch.join(parts), ch.channel_maps(net, images, "relu")
    for name in ("vectors", "energy", "compact", "outputs"):
        torch.testing.assert_close(getattr(joined, name), getattr(whole, name))


@pytest.mark.parametrize("grid", [0, 17])
def test_grid_must_fit(grid: int) -> None:
    images, _ = blobs(2, seed=4)
    with pytest.raises(InputError, match=f"grid={grid} does not fit maps of 16 by 16"):
        ch.channel_maps(fwdkern.fuse(blob_network(), images), images, "relu", grid)


def test_concentration_and_magnitude_of_known_maps() -> None:
    nothing = torch.zeros(2, 4, 1)
    #                        even            one quarter    off           strong where concentrated
    energy = torch.tensor([[4.0, 1.0, 0.0, 30.0], [8.0, 3.0, 0.0, 10.0]])
    compact = torch.tensor([[1.0, 1.0, 0.0, 30.0], [2.0, 3.0, 0.0, 2.0]])
    outputs = torch.tensor([[1.0, -2.0, 0.0, 5.0], [3.0, 4.0, 0.0, 5.0]])
    maps = ch.ChannelMaps(nothing, energy, compact, outputs)
    assert ch.concentration(maps).tolist() == [0.25, 1, 0, 0.8]
    assert ch.magnitude(maps).tolist() == [2, 3, 0, 5]


def test_groups() -> None:
    score = torch.tensor([0.1, 0.9, 0.5, 0.5, 0.3, 0.7, 0.2])
    best, worst = ch.extremes(score, 3)
    assert best.tolist() == [1, 5, 2] and sorted(worst.tolist()) == [0, 4, 6]

    control = torch.tensor([10.0, 9, 8, 7, 3, 2, 1])  # pairs 0-1, 2-3, 4-5; channel 6 has no partner
    good, bad = ch.matched(score, control, 2)
    assert (good.tolist(), bad.tolist()) == ([1, 5], [0, 4])
    for count in (0, 4):
        with pytest.raises(InputError, match=f"{count} good and {count} bad channels cannot be taken from 7"):
            ch.extremes(score, count)
        with pytest.raises(InputError, match=f"{count} good and {count} bad channels cannot be taken from 7"):
            ch.matched(score, control, count)


def test_separable_vectors_cluster_perfectly_and_shuffled_labels_do_not(needs_sklearn: None) -> None:
    torch.manual_seed(0)
    labels = torch.arange(200) % 10
    vectors = 10 * torch.eye(10)[labels] + 0.1 * torch.randn(200, 10)
    found = ch.cluster(vectors, labels)
    assert found.ari == 1 and found.silhouette == found.classes > 0.9
    wrong = ch.cluster(vectors, labels[torch.randperm(200)])
    assert abs(wrong.ari) < 0.1 and wrong.silhouette == found.silhouette and wrong.classes < 0.1


def test_a_channel_that_is_off_has_no_clusters(needs_sklearn: None) -> None:
    labels = torch.arange(40) % 10
    off = ch.cluster(torch.zeros(40, 8), labels)
    assert off.ari == 0 and math.isnan(off.silhouette) and math.isnan(off.classes)
    mostly_off = torch.zeros(40, 8)
    mostly_off[0, 0] = 1
    assert abs(ch.cluster(mostly_off, labels).ari) < 0.2


def test_what_cannot_be_clustered(needs_sklearn: None) -> None:
    labels = torch.arange(40) % 10
    for vectors, given in (
        (torch.rand(39, 4), labels),
        (torch.rand(40, 4), labels * 0),
        (torch.rand(10, 4), labels[:10]),
    ):
        with pytest.raises(InputError, match="cannot be put into 10 clusters"):
            ch.cluster(vectors, given)
    with pytest.raises(InputError, match="NaN"):
        ch.cluster(torch.full((40, 4), torch.nan), labels)


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(FwdkernError, match=r"pip install 'fwdkern\[evaluate\]'"):
        ch.cluster(torch.rand(40, 4), torch.arange(40) % 10)


def test_labels_must_fit_the_model() -> None:
    images, labels = blobs(8, seed=5)
    with pytest.raises(InputError, match="labels run from 0 to 4; the model has 4 classes"):
        ch.correct(blob_network(), images, labels.clamp_max(0).index_fill(0, torch.tensor([1]), 4))
    with pytest.raises(InputError, match="7 labels do not fit"):
        ch.correct(blob_network(), images, labels[:7])


def test_where_channels_are_seen() -> None:
    net = fwdkern.fuse(digits_net(), torch.rand(2, 1, 64, 64))
    # `join` ends in an addition, so its channels have no activation of their own.
    assert ch.prunable(net, digits_net()) == ["edges.1", "strokes.1", "bend.1", "parts.1"]
    assert ch.active_layer(net, "join") == net.layer("join").name

    model = resnet20().eval()
    net = fwdkern.fuse(model, torch.rand(2, 3, 32, 32))
    inner = [f"layer{stage}.{block}.bn1" for stage in (1, 2, 3) for block in range(3)]
    assert ch.prunable(net, model) == ["bn1", *inner]
    assert ch.active_layer(net, "layer3.2.bn1") == "layer3.2.relu"
    assert ch.active_layer(net, "layer3.2") == net.layer("layer3.2").name


def test_real_network() -> None:
    model, (images, labels) = data.resnet20(), data.cifar_photos(24)
    images = images.contiguous(memory_format=torch.channels_last)
    maps = ch.channel_maps(fwdkern.fuse(model, images), images, "layer1.1.relu")
    score = ch.concentration(maps)
    assert ((score == 0) | ((score > 0.25) & (score < 1))).all() and score.unique().numel() > 8
    strong, _ = ch.extremes(ch.magnitude(maps), 8)
    right, less = (ch.correct(m, images, labels).sum() for m in (model, ch.pruned(model, {"layer1.1.bn1": strong})))
    assert less < right
