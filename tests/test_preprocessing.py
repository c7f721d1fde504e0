"""Pictures become inputs by the steps that are printed, and bad files are refused by name."""

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fwdkern.errors import InputError
from fwdkern.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, load_image


def _gradient(height: int, width: int) -> Image.Image:
    rows, columns = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([rows % 256, columns % 256, (rows + columns) % 256], axis=-1).astype(np.uint8))


def _png(width: int, height: int) -> bytes:
    """A PNG header that claims any size, without the pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_normalises_by_mean_and_std() -> None:
    picture = _gradient(5, 7)
    inputs = Preprocessing(3, mean=IMAGENET_MEAN, std=IMAGENET_STD)(picture)
    assert inputs.shape == (3, 5, 7) and inputs.dtype == torch.float32
    values = np.asarray(picture, dtype=np.float64) / 255
    expected = (values - IMAGENET_MEAN) / IMAGENET_STD
    np.testing.assert_allclose(inputs.permute(1, 2, 0).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(40, 60), (60, 40), (32, 32), (33, 97)])
def test_resize_keeps_the_aspect_ratio_and_crop_cuts_the_centre(height: int, width: int) -> None:
    picture = _gradient(height, width)
    resized = Preprocessing(3, resize=32)(picture)
    assert min(resized.shape[1:]) == 32
    assert max(resized.shape[1:]) == max(height, width) * 32 // min(height, width)
    cropped = Preprocessing(3, resize=32, crop=(20, 24))(picture)
    top, left = round((resized.shape[1] - 20) / 2), round((resized.shape[2] - 24) / 2)
    assert torch.equal(cropped, resized[:, top : top + 20, left : left + 24])


def test_size_is_exact_and_display_undoes_the_normalisation() -> None:
    steps = Preprocessing(3, size=(8, 12), mean=(0.2, 0.3, 0.4), std=(0.5, 0.6, 0.7))
    inputs = steps(_gradient(30, 30))
    assert inputs.shape == (3, 8, 12) and steps.output_size == (8, 12)
    plain = Preprocessing(3, size=(8, 12))(_gradient(30, 30))
    torch.testing.assert_close(steps.display(inputs[None])[0], plain)


def test_pixels_and_normalise_are_the_two_halves() -> None:
    steps = Preprocessing(3, resize=20, crop=(16, 18), mean=IMAGENET_MEAN, std=IMAGENET_STD)
    picture = _gradient(37, 53)
    pixels = steps.pixels(picture)
    assert pixels.shape == (3, 16, 18) and pixels.dtype == torch.float32 and pixels.is_contiguous()
    assert pixels.min() >= 0 and pixels.max() <= 1
    assert torch.equal(steps.normalise(pixels), steps(picture))
    batch = pixels.double().expand(2, -1, -1, -1)
    assert steps.normalise(batch).dtype == torch.float64
    torch.testing.assert_close(steps.normalise(batch)[1].float(), steps(picture))


def test_boxes_go_through_resize_and_crop() -> None:
    # 400 x 200 becomes 200 x 100, of which columns 50 to 150 and rows 10 to 90 are left.
    steps = Preprocessing(3, resize=100, crop=(80, 100))
    boxes = [
        [120, 40, 250, 150],  # [60, 20, 125, 75] before the crop
        [121, 41, 250.5, 150.25],
        [0, 0, 400, 200],
        [90, 0, 110, 30],  # cut at the left and at the top
        [-50, 100, 900, 110],  # reaches out of the picture
        [0, 0, 90, 200],  # cropped away
        [500, 300, 600, 400],  # outside the picture
    ]
    expected = [
        [10, 10, 75, 65],
        [10.5, 10.5, 75.25, 65.125],
        [0, 0, 100, 80],
        [0, 0, 5, 5],
        [0, 40, 100, 45],
        [0, 0, 0, 80],
        [100, 80, 100, 80],
    ]
    moved = steps.map_boxes(boxes, (200, 400))
    assert moved.tolist() == expected and moved.dtype == torch.float64
    assert steps.map_boxes(torch.tensor(boxes), (200, 400)).tolist() == expected


def test_boxes_where_sides_round_or_shrink_differently() -> None:
    # The longer side becomes floor(333 * 100 / 201) = 165 pixels.
    x0, y0, x1, y1 = Preprocessing(3, resize=100).map_boxes([[33.3, 20.1, 333, 201]], (201, 333))[0].tolist()
    assert (x0, y0, x1, y1) == pytest.approx((16.5, 10, 165, 100))
    assert Preprocessing(3, size=(50, 20)).map_boxes([[10, 10, 30, 20]], (100, 200)).tolist() == [[1, 5, 3, 10]]
    assert Preprocessing(3).map_boxes([[1, 2, 3, 4]], (9, 9)).tolist() == [[1, 2, 3, 4]]
    assert Preprocessing(3).map_boxes([], (9, 9)).shape == (0, 4)


@pytest.mark.parametrize(
    "steps",
    [
        Preprocessing(1, resize=64, crop=(56, 60)),
        Preprocessing(1, resize=97, crop=(90, 90)),
        Preprocessing(1, size=(64, 48)),
        Preprocessing(1, resize=400, crop=(384, 400)),
    ],
    ids=["down", "little", "aspect ratio", "up"],
)
def test_a_box_is_where_the_input_shows_it(steps: Preprocessing) -> None:
    height, width = 200, 261
    for x0, y0, x1, y1 in [(91, 60, 170, 111), (80, 81, 124, 142)]:
        picture = np.zeros((height, width), dtype=np.uint8)
        picture[y0:y1, x0:x1] = 255
        shown = steps.pixels(Image.fromarray(picture))[0].double()
        left, top, right, bottom = steps.map_boxes([[x0, y0, x1, y1]], (height, width))[0].tolist()
        centres_y, centres_x = (torch.arange(size) + 0.5 for size in shown.shape)
        mass = shown.sum()
        assert mass.item() == pytest.approx((right - left) * (bottom - top), rel=0.01)
        assert ((shown.sum(0) * centres_x).sum() / mass).item() == pytest.approx((left + right) / 2, abs=0.05)
        assert ((shown.sum(1) * centres_y).sum() / mass).item() == pytest.approx((top + bottom) / 2, abs=0.05)


@pytest.mark.parametrize("boxes", [[1, 2, 3, 4], [[1, 2, 3]], torch.zeros(2, 5)])
def test_other_boxes_are_refused(boxes: list) -> None:
    with pytest.raises(InputError, match=r"boxes must be \[n, 4\]"):
        Preprocessing(3).map_boxes(boxes, (5, 5))


def test_boxes_need_the_pictures_size() -> None:
    with pytest.raises(InputError, match="must be positive"):
        Preprocessing(3, resize=8).map_boxes([[0, 0, 1, 1]], (0, 5))
    with pytest.raises(InputError, match="does not fit in a picture of 5×7"):
        Preprocessing(3, crop=(6, 6)).map_boxes([[0, 0, 1, 1]], (5, 7))


def test_grey_input_has_one_channel() -> None:
    assert Preprocessing(1)(_gradient(4, 4)).shape == (1, 4, 4)


def test_description_names_every_step() -> None:
    text = Preprocessing(3, resize=256, crop=(224, 224), mean=(0.5,), std=(0.25,)).describe()
    for part in ("RGB", "256", "centre crop 224×224", "/ 255", "0.5, 0.5, 0.5", "0.25"):
        assert part in text
    assert "no normalisation" in Preprocessing(1).describe()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 4}, "4 input channels"),
        ({"channels": 3, "mean": (0.1, 0.2)}, "mean has 2 numbers"),
        ({"channels": 3, "std": (1.0, 0.0, 1.0)}, "must be positive"),
        ({"channels": 3, "resize": 8, "size": (8, 8)}, "give one"),
    ],
)
def test_wrong_settings_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Preprocessing(**arguments)


def test_crop_larger_than_the_picture_is_refused() -> None:
    with pytest.raises(InputError, match="does not fit in a picture of 5×7"):
        Preprocessing(3, crop=(6, 6))(_gradient(5, 7))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_reads_the_three_formats(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture.{suffix}"
    _gradient(16, 24).save(path)
    picture = load_image(path)
    assert picture.size == (24, 16) and picture.mode == "RGB"


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held sideways
    path = tmp_path / "sideways.jpg"
    _gradient(16, 24).save(path, exif=exif, quality=95)
    assert load_image(path).size == (16, 24)


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    path = tmp_path / "transparent.png"
    rgba = np.zeros((2, 3, 4), dtype=np.uint8)
    rgba[0, :, 3] = 255  # first row: opaque black, second: fully transparent
    Image.fromarray(rgba).save(path)
    pixels = np.asarray(load_image(path))
    assert (pixels[0] == 0).all() and (pixels[1] == 255).all()


def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    Image.fromarray(np.array([[0, 257 * 100, 65535]], dtype=np.uint16)).save(path)
    assert np.asarray(load_image(path)).tolist() == [[0, 100, 255]]


def test_decompression_bomb_is_refused(tmp_path: Path) -> None:
    for side in (11_000, 60_000):  # below and above Pillow's own limit
        path = tmp_path / f"bomb{side}.png"
        path.write_bytes(_png(side, side))
        with pytest.raises(InputError, match=rf"bomb{side}.png has .*at most 100 million"):
            load_image(path)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    whole = io.BytesIO()
    _gradient(64, 64).save(whole, format="PNG")
    cut, text = tmp_path / "cut.png", tmp_path / "text.png"
    cut.write_bytes(whole.getvalue()[:-30])
    text.write_text("not a picture")
    for path, message in [
        (cut, "cut.png cannot be read"),
        (text, "text.png is not a PNG, JPEG or WebP"),
        (tmp_path / "absent.png", "no file .*absent.png"),
        (tmp_path, "is a folder"),
    ]:
        with pytest.raises(InputError, match=message):
            load_image(path)


def test_other_formats_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "picture.gif"
    _gradient(4, 4).save(path)
    with pytest.raises(InputError, match="is not a PNG, JPEG or WebP"):
        load_image(path)
