import pytest
import torch

from fwdkern.engine.window import Window, crop
from tests import SEEDS


def random_fields(count: int, units: int, image: tuple[int, int], seed: int) -> torch.Tensor:
    """[count, 4, units]: y0, x0, y1, x1, some of them empty."""
    random = torch.Generator().manual_seed(seed)
    sides = [torch.randint(size + 1, (2, count, units), generator=random).sort(0).values for size in image]
    fields = torch.stack([sides[0][0], sides[1][0], sides[0][1], sides[1][1]], 1)
    return fields.masked_fill((torch.rand(count, 1, units, generator=random) < 0.1), 0)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("count", [1, 3])
def test_windows_hold_their_fields(count: int, seed: int) -> None:
    image = (7, 9)
    fields = random_fields(count, 11, image, seed)
    window = Window(fields, image)
    y, x = window.origin[..., 0], window.origin[..., 1]
    assert (y >= 0).all() and (x >= 0).all()
    assert (y + window.size[0] <= image[0]).all() and (x + window.size[1] <= image[1]).all()
    assert (y <= fields[:, 0]).all() and (x <= fields[:, 1]).all()
    assert (y + window.size[0] >= fields[:, 2]).all() and (x + window.size[1] >= fields[:, 3]).all()
    extent = (fields[:, 2:] - fields[:, :2]).amax((0, 2)).clamp_min(1)
    assert window.size == tuple(extent.tolist())
    for example in range(count):
        assert torch.equal(window.of(example)[0], window.origin[example])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shared", [False, True])
def test_crop_and_place_are_slices(shared: bool, seed: int) -> None:
    image, batch, units = (6, 8), 2, 5
    fields = random_fields(1 if shared else batch, units, image, seed)
    window = Window(fields, image)
    maps = torch.randn(batch, units, *image)
    expected = torch.stack(
        [
            torch.stack(
                [maps[b, k, y : y + window.size[0], x : x + window.size[1]] for k, (y, x) in enumerate(corners)]
            )
            for b, corners in enumerate(window.origin.expand(batch, -1, -1).tolist())
        ]
    )
    assert torch.equal(window.crop(maps.flatten(2), 0, units), expected)
    assert torch.equal(window.crop(maps.flatten(2)[:, 1:3], 1, 3), expected[:, 1:3])
    assert torch.equal(crop(maps.flatten(2), window.origin, window.size, image[1]), expected)
    placed = torch.zeros(batch, units, *window.size)
    for start in range(0, 48, 13):
        window.place(maps.flatten(2)[:, :, start : start + 13], start, placed)
    assert torch.equal(placed, expected)


def test_units_that_see_nothing_have_one_pixel() -> None:
    window = Window(torch.zeros(1, 4, 2, dtype=torch.int64), (5, 5))
    assert window.size == (1, 1) and not window.origin.any()
