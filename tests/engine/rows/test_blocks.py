import pytest
import torch

from fwdkern.engine.features import Features, parse_features
from fwdkern.engine.rows.blocks import SLICES, make_blocks


def features_of(kind: str, x: torch.Tensor) -> Features:
    height, width = x.shape[2:]
    stripes = (torch.arange(height * width) // 2).view(height, width)
    scattered = torch.randint(5, (height, width), generator=torch.Generator().manual_seed(0)) * min(3, height - 1)
    return parse_features({"stripes": stripes, "scattered": scattered}.get(kind, kind), x)


@pytest.mark.parametrize("side", [1, 4, 8, 100])
@pytest.mark.parametrize("size", [(1, 1), (5, 19), (24, 30)])
@pytest.mark.parametrize("kind", ["pixels", "channels", "stripes", "scattered"])
def test_each_slice_once_and_inside_its_rectangle(kind: str, size: tuple[int, int], side: int) -> None:
    x = torch.zeros(1, 3, *size)
    features = features_of(kind, x)
    blocks = make_blocks(features, (3, *size), features.labels[0], side)
    labels = features.labels[0].view(3, *size)
    ids = torch.cat([block.ids for block in blocks])
    assert len(ids.unique()) == len(ids)
    assert set(labels.flatten().tolist()) <= set(ids.tolist()) <= set(range(features.count))
    for block in blocks:
        assert (block.ids[1:] > block.ids[:-1]).all()
        own = torch.isin(labels, block.ids).any(0)
        y0, y1, x0, x1 = block.rectangle
        assert own[y0:y1, x0:x1].any() and own.sum() == own[y0:y1, x0:x1].sum()
        if kind in ("stripes", "scattered"):
            assert len(block.ids) <= SLICES
        else:
            # Rows go to results as whole tiles, pixels in order.
            assert labels[:, y0:y1, x0:x1].flatten().unique().tolist() == block.ids.tolist()
            assert y1 - y0 <= side and x1 - x0 <= side


@pytest.mark.parametrize("width", [1, 700])
def test_vectors_are_cut_by_number(width: int) -> None:
    x = torch.zeros(1, width)
    features = parse_features("pixels", x)
    blocks = make_blocks(features, (width,), features.labels[0], 8)
    assert torch.cat([block.ids for block in blocks]).tolist() == list(range(width))
    assert {block.rectangle for block in blocks} == {(0, 1, 0, width)}
