import pytest
import torch

from fwdkern.digits import canvases, digits_net
from fwdkern.digits.drawing import _boxes, _draw, _handwriting
from fwdkern.errors import InputError


@pytest.fixture
def collection():
    return pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed").load_digits()


@pytest.mark.usefixtures("collection")
def test_held_out_accuracy():
    test = canvases(300, seed=2024)
    with torch.no_grad():
        read = digits_net()(test.images).argmax(1)
    assert (read == test.labels).float().mean() >= 0.9


@pytest.mark.usefixtures("collection")
def test_shapes_and_ranges():
    drawn = canvases(21, seed=5)
    assert len(drawn) == 21
    assert drawn.images.shape == (21, 1, 64, 64) and drawn.images.dtype == torch.float32
    assert drawn.images.min() >= 0 and drawn.images.max() <= 1
    assert drawn.labels.dtype == torch.int64 and drawn.labels.tolist() == [i % 10 for i in range(21)]
    assert drawn.boxes.shape == (21, 4) and drawn.boxes.dtype == torch.int64


@pytest.mark.usefixtures("collection")
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("split", ["train", "test"])
def test_boxes_hold_exactly_the_ink_and_the_ink_is_seen(seed, split):
    [(drawn, ink)] = _draw(100, torch.Generator().manual_seed(seed), split)
    for image, coverage, (x0, y0, x1, y1) in zip(drawn.images, ink, drawn.boxes.tolist(), strict=True):
        visible = coverage[0] > 0.05
        assert 0 <= x0 < x1 <= 64 and 0 <= y0 < y1 <= 64
        assert visible[y0:y1, x0:x1].sum() == visible.sum()
        assert all(edge.any() for edge in (visible[y0], visible[y1 - 1], visible[:, x0], visible[:, x1 - 1]))
        assert 12 <= y1 - y0 <= 36
        assert image[0][coverage[0] > 0.99].mean() > 0.7
        rim = torch.cat([coverage[0, 0], coverage[0, -1], coverage[0, :, 0], coverage[0, :, -1]])
        assert rim.max() == 0


def test_boxes_of_a_known_drawing():
    ink = torch.zeros(2, 1, 64, 64)
    ink[0, 0, 10, 3:7] = 1
    ink[0, 0, 20, 5] = 0.5
    ink[1] = 1
    assert _boxes(ink).tolist() == [[3, 10, 7, 21], [0, 0, 64, 64]]


@pytest.mark.usefixtures("collection")
def test_same_arguments_same_canvases():
    first, again, other = canvases(12, seed=7), canvases(12, seed=7), canvases(12, seed=8)
    assert torch.equal(first.images, again.images) and torch.equal(first.boxes, again.boxes)
    assert not torch.equal(first.images, other.images)


@pytest.mark.usefixtures("collection")
def test_global_generator_is_left_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    canvases(2, seed=0)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.usefixtures("collection")
def test_more_canvases_than_one_chunk():
    drawn = canvases(300, seed=3)
    assert drawn.images.shape == (300, 1, 64, 64)
    assert drawn.labels.tolist() == [i % 10 for i in range(300)]


@pytest.mark.parametrize("split, kept", [("train", slice(0, 1347)), ("test", slice(1347, 1797))])
def test_a_split_sees_only_its_own_scans(collection, monkeypatch, split, kept):
    pixels, labels = _handwriting()
    assert len(collection.images) == len(pixels) == 1797
    assert len({scan.tobytes() for scan in collection.images}) == 1797
    blanked = torch.zeros_like(pixels)
    blanked[kept] = pixels[kept]
    expected = canvases(40, 11, split)
    monkeypatch.setattr("fwdkern.digits.drawing._handwriting", lambda: (blanked, labels))
    assert torch.equal(canvases(40, 11, split).images, expected.images)


@pytest.mark.parametrize("n", [0, -3, 2.0, "4", True, None])
def test_wrong_count(n):
    with pytest.raises(InputError, match=r"^n is .*at least 1"):
        canvases(n, 0)


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, None, False])
def test_wrong_seed(seed):
    with pytest.raises(InputError, match=r"^seed is .*expected an int from 0"):
        canvases(1, seed)


def test_wrong_split():
    with pytest.raises(InputError, match=r"split is 'validation'; expected 'train' or 'test'"):
        canvases(1, 0, "validation")
