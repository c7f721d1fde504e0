"""One input of a visitor: an uploaded image, a built-in sample, or a sentence."""

import warnings
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from fwdkern.digits import examples
from fwdkern.errors import InputError
from fwdkern.preprocessing import load_image

SAMPLES = 6
SENTENCES = (
    "A gripping, funny film with a wonderful cast.",
    "The story is dull and it never finds real feeling.",
    "The plot is silly, but the acting is superb.",
)


@dataclass(frozen=True)
class InputSource:
    """What a worker needs to read an input; kind: "image" (path), "sample" (number) or "text" (text)."""

    identity: str
    label: str
    kind: str
    path: str = ""
    number: int = 0
    text: str = ""


def samples() -> list[InputSource]:
    """The built-in pictures of digits."""
    return [
        InputSource(f"sample-{number}", f"sample {number + 1}", "sample", number=number) for number in range(SAMPLES)
    ]


def read_picture(source: InputSource, pixels: int) -> Image.Image:
    """The picture; raises InputError, which names it as the visitor does, for a file that is none or too large."""
    if source.kind == "sample":
        values = examples().images[source.number, 0]
        return Image.fromarray((values * 255).round().byte().numpy())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(source.path, formats=("PNG", "JPEG", "WEBP")) as image:
                size = image.width * image.height
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        size = 0  # load_image says what is wrong
    if size > pixels:
        raise InputError(
            f"{source.label} has {size / 1e6:.0f} million pixels; at most {pixels / 1e6:.0f} million are read: scale "
            "it down first."
        )
    try:
        return load_image(Path(source.path))
    except InputError as error:
        raise InputError(str(error).replace(source.path, source.label)) from None
