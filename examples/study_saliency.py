"""Ways from relevance to a saliency map, compared on the half of the images that no report uses.

    python examples/study_saliency.py IMAGES ANNOTATIONS --model tests.networks.squeezenet:squeezenet1_1 --weights FILE

Prints a Markdown table. Superpixels need `pip install 'fwdkern[evaluate]'`. The defaults of fwdkern.saliency.Saliency
were chosen by it; docs/evaluation.md holds what it printed.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn
from torch.nn import functional as F

from fwdkern import FusedModel, fuse
from fwdkern.baselines import GradCAM, GradCAMPlusPlus, Method
from fwdkern.cli import console
from fwdkern.cli.options import CropOption, MeanOption, ModelOption, ResizeOption, StdOption, WeightsOption
from fwdkern.cli.session import open_session
from fwdkern.evaluation import Records, read_images, rows, run
from fwdkern.evaluation.run import batches
from fwdkern.metrics.masking import mask
from fwdkern.saliency import RawRelevance, Saliency, last_positions, smoothed

_MEASURES = ("drop-softmax-half", "increase-softmax-half", "drop-softmax-whole", "increase-softmax-whole", "energy")
_RIVALS = 20  # the highest other classes stand for all of them


class OfPixels:
    """Some function of the relevance of the pixels ``[B, H, W]``."""

    def __init__(self, model: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
        self._net: FusedModel | None = None
        self._model, self._change = model, change

    def attribute(self, inputs: Tensor, target: Any = None) -> Tensor:
        self._net = self._net or fuse(self._model, inputs)
        relevance = self._net.attribute(inputs, target, bias="separate")
        return self._change(relevance.scores[:, 0])


class Contrast:
    """The class's relevance minus that of the others, weighted by their probability, smoothed."""

    def __init__(self, model: nn.Module, deviation: float) -> None:
        self._net: FusedModel | None = None
        self._model, self.deviation = model, deviation

    def attribute(self, inputs: Tensor, target: Tensor) -> Tensor:
        self._net = self._net or fuse(self._model, inputs)
        with torch.no_grad():
            scores = self._net(inputs).scatter(1, target[:, None], -torch.inf)
        weights, others = scores.softmax(1).topk(min(_RIVALS, scores.shape[1] - 1), dim=1)
        maps = self._net.attribute(inputs, torch.cat([target[:, None], others], 1), bias="separate").scores
        rivals = (maps[:, 1:] * (weights / weights.sum(1, keepdim=True))[:, :, None, None]).sum(1)
        return smoothed(maps[:, 0] - rivals, self.deviation)


class OverPatches:
    """The relevance summed over squares."""

    def __init__(self, model: nn.Module, side: int) -> None:
        self._net: FusedModel | None = None
        self._model, self.side = model, side

    def attribute(self, inputs: Tensor, target: Any = None) -> Tensor:
        self._net = self._net or fuse(self._model, inputs)
        rows_, columns = (torch.arange(size) // self.side for size in inputs.shape[2:])
        labels = rows_[:, None] * (int(columns[-1]) + 1) + columns  # [H, W]
        scores = self._net.attribute(inputs, target, labels, bias="separate").scores[:, 0]  # [B, patches]
        return scores[:, labels]


class OfShares:
    """The shares of a layer's units, stretched to the image; smoothed over some pixels, if any."""

    def __init__(self, model: nn.Module, layer: str | None, deviation: float = 0) -> None:
        self._net: FusedModel | None = None
        self._model, self.layer, self.deviation = model, layer, deviation

    def attribute(self, inputs: Tensor, target: Any = None) -> Tensor:
        self._net = self._net or fuse(self._model, inputs)
        shares = self._net.contributions(inputs, target, self.layer or last_positions(self._net)).shares
        stretched = F.interpolate(shares.sum(1, keepdim=True), inputs.shape[2:], mode="bilinear", antialias=True)
        maps = mask(stretched[:, 0], "whole")
        return smoothed(maps, self.deviation) if self.deviation else maps


class OverSuperpixels:
    """The relevance summed over superpixels (SLIC, Achanta et al. 2012), a pixel's part of its sum."""

    def __init__(self, model: nn.Module, count: int) -> None:
        self._net: FusedModel | None = None
        self._model, self.count = model, count

    def attribute(self, inputs: Tensor, target: Any = None) -> Tensor:
        self._net = self._net or fuse(self._model, inputs)
        labels = torch.stack([self._superpixels(image) for image in inputs])  # [B, H, W]
        scores = self._net.attribute(inputs, target, labels, bias="separate").scores[:, 0]  # [B, superpixels]
        flat = labels.flatten(1)
        sizes = torch.zeros_like(scores).scatter_add_(1, flat, torch.ones_like(flat, dtype=scores.dtype))
        return (scores / sizes.clamp_min(1)).gather(1, flat).view_as(labels)

    def _superpixels(self, image: Tensor) -> Tensor:
        from skimage.segmentation import slic

        low, high = image.min(), image.max()
        scaled = ((image - low) / (high - low).clamp_min(1e-6)).numpy()
        return torch.from_numpy(slic(scaled, self.count, channel_axis=0, start_label=0))


def variants(model: nn.Module, middle: str, black: list[float]) -> dict[str, Method]:
    """Methods by what they do. ``middle``: of about twice the last layer's resolution; ``black``: a black input."""
    return {
        "GradCAM": GradCAM(model),
        "GradCAM++": GradCAMPlusPlus(model),
        "pixels, raw": RawRelevance(model),
        "pixels, absolute, σ 16": OfPixels(model, lambda maps: smoothed(maps.abs(), 16)),
        "pixels, positive before σ 16": OfPixels(model, lambda maps: smoothed(maps.clamp_min(0), 16)),
        **{
            f"pixels, σ {pixels}": OfPixels(model, lambda maps, pixels=pixels: smoothed(maps, pixels))
            for pixels in (8, 16, 32)
        },
        "pixels, squares of 16": OverPatches(model, 16),
        "pixels, squares of 32": OverPatches(model, 32),
        **{f"pixels, {count} superpixels": OverSuperpixels(model, count) for count in (50, 200)},
        "pixels against other classes, σ 32": Contrast(model, 32),
        "shares of the middle layer": OfShares(model, middle),
        "shares of the middle layer, σ 16": OfShares(model, middle, 16),
        "shares of the last layer": OfShares(model, None),
        "shares of the last layer, σ 16": OfShares(model, None, 16),
        "the default, asked with grey": Saliency(model),
        "the default, asked with black": Saliency(model, baselines=black),
    }


def main(
    images: Path,
    annotations: Path,
    middle: Annotated[str, typer.Option(help="A layer of about twice the last one's resolution.")],
    out: Annotated[Path, typer.Option(help="Rows of single images; a stopped study goes on.")] = Path("study"),
    model: ModelOption = "digits",
    weights: WeightsOption = None,
    resize: ResizeOption = None,
    crop: CropOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
) -> None:
    """Compare ways from relevance to saliency on the even half of annotated images, with their labels as targets."""
    session = open_session(model, weights, None, "cpu", resize, None, crop, mean, std)
    examples = read_images(images, annotations, "even")
    methods = variants(session.named.model, middle, session.preprocessing.black)
    records = Records(out, {"model": model, "images": images.name})
    with console.progress(batches(len(examples)) * len(methods)) as steps:
        run(
            session.named.model,
            methods,
            examples,
            session.preprocessing,
            records,
            "label",
            progress=lambda name: steps.done(),
        )
    print("| map | " + " | ".join(_MEASURES) + " |\n|---|" + "--:|" * len(_MEASURES))
    for row in rows(records):
        print(f"| {row.method} | " + " | ".join(f"{row.cells[name].mean:.1f}" for name in _MEASURES) + " |")


if __name__ == "__main__":
    typer.run(main)
