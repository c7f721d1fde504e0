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
