"""Mask: the smallest region whose blurring makes the class score vanish, found by gradient descent."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fwdkern.baselines.method import Target, check_arguments, gradient, recording, run
from fwdkern.engine.units import parse_class
from fwdkern.errors import InputError

_SIDE = 224  # pixels of the paper's images; lengths are given at this side and scaled to others
_LEFT = 0.01  # of what blurring the whole image takes away from the probability, this may be left by the first mask


class Mask:
    """Fong & Vedaldi 2017, https://arxiv.org/abs/1704.03296, section 4: the deletion game, played by Adam.

    A mask m in [0, 1] on a coarse grid is spread over the image by Gaussians, ``M``, and mixes the image with a blurred
    copy, ``M x + (1 - M) blur(x)``. With p the target's softmax probability, the objective of one image is

        p(shifted mix) + l1_coeff sum |1 - m| + tv_coeff sum |grad m|^tv_beta

    The image moves under the mask by some pixels in every iteration. The mask begins as the smallest centred circle
    that takes away 99 % of what blurring the whole image takes away from p, or covers the whole image. The defaults
    are the paper's (section 4.3); lengths scale with the shorter side, which is 224 there. Images of a batch are
    optimised together and do not influence each other.

    Args:
        model: in evaluation mode.
        iterations: steps of Adam, each a forward and a backward pass of the model.
        learning_rate: of Adam.
        l1_coeff, tv_coeff, tv_beta: as above.
        grid: cells of the mask along the shorter side.
        blur: standard deviation of the image's blur, in pixels at a side of 224.
        spread: standard deviation of a cell's Gaussian, likewise.
        jitter: the image moves by one of this many whole pixels along each axis, likewise.
        softmax: off where the model itself ends in a softmax.
        seed: of the movement.
        progress: called after every iteration with the number done and their total.
    """

    def __init__(
        self,
        model: nn.Module,
        iterations: int = 300,
        learning_rate: float = 0.1,
        l1_coeff: float = 1e-4,
        tv_coeff: float = 1e-2,
        tv_beta: float = 3.0,
        grid: int = 28,
        blur: float = 10.0,
        spread: float = 5.0,
        jitter: int = 4,
        softmax: bool = True,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        for name, value, least in (
            ("iterations", iterations, 1),
            ("l1_coeff", l1_coeff, 0),
            ("tv_coeff", tv_coeff, 0),
            ("tv_beta", tv_beta, 1),
            ("grid", grid, 2),
            ("jitter", jitter, 0),
        ):
            if not value >= least:
                raise InputError(f"{name}={value} must be at least {least}")
        for name, value in (("learning_rate", learning_rate), ("blur", blur), ("spread", spread)):
            if not value > 0:
                raise InputError(f"{name}={value} must be more than 0")
        self.model, self.iterations, self.learning_rate = model, iterations, learning_rate
        self.l1_coeff, self.tv_coeff, self.tv_beta = l1_coeff, tv_coeff, tv_beta
        self.grid, self.blur, self.spread, self.jitter = grid, blur, spread, jitter
        self.softmax, self.seed, self.progress = softmax, seed, progress

    def attribute(self, inputs: Tensor, target: Target = None) -> Tensor:
        """Maps ``[B, H, W]`` of 1 - M: 1 where the image must be blurred, 0 where it stays.

        Raises:
            InputError: an argument cannot be used, or the model cannot be differentiated.
        """
        x = check_arguments(self.model, inputs)
        with recording():
            x = x.clone()
            with torch.no_grad():
                classes = parse_class(target, run(self.model, x))
            scale = min(x.shape[2:]) / _SIDE
            mixture = _Mixture(x, self.grid, self.blur * scale, self.spread * scale, round(self.jitter * scale))
            mask = self._circle(mixture, classes).requires_grad_()  # [B, h, w]
            optimiser = torch.optim.Adam([mask], self.learning_rate)
            for done, shift in enumerate(self._shifts(mixture.jitter), 1):
                probabilities = self._probabilities(mixture.mix(mask, shift))
                score = gradient(probabilities, classes, mask, "the input")
                penalty = self.l1_coeff * (1 - mask).abs().sum() + self.tv_coeff * variation(mask, self.tv_beta).sum()
                mask.grad = score + torch.autograd.grad(penalty, mask)[0]
                optimiser.step()
                with torch.no_grad():
                    mask.clamp_(0, 1)
                if self.progress is not None:
                    self.progress(done, self.iterations)
            return (1 - mixture.spread(mask.detach())).clamp(0, 1).to(x.dtype)

    def _probabilities(self, x: Tensor) -> Tensor:
        """``[B, classes]``."""
        scores = run(self.model, x)
        return scores.softmax(1) if self.softmax else scores

    def _shifts(self, jitter: int) -> list[tuple[int, int]]:
        """Where the image is cut out of its padded copy, for every iteration; the same for all images."""
        source = torch.Generator().manual_seed(self.seed)
        shifts = torch.randint(max(jitter, 1), (self.iterations, 2), generator=source)
        return [(y, x) for y, x in shifts.tolist()]

    def _circle(self, mixture: "_Mixture", classes: Tensor) -> Tensor:
        """The masks to begin with ``[B, h, w]``."""
        height, width = mixture.cells
        y, x = (torch.arange(size, device=classes.device) - (size - 1) / 2 for size in (height, width))
        distance = torch.hypot(y[:, None], x)  # in cells
        mask = mixture.constant(0)
        searched = torch.arange(len(mask), device=classes.device)  # images without a circle so far

        def probability(masks: Tensor) -> Tensor:
            return self._probabilities(mixture.mix(masks, mixture.centre, searched)).gather(1, classes[searched, None])[
                :, 0
            ]

        with torch.no_grad():
            whole, blurred = probability(mixture.constant(1)), probability(mask)
            low = blurred + _LEFT * (whole - blurred)
            for radius in range(1, math.ceil(math.hypot(height, width) / 2)):
                circle = (distance > radius).to(mask.dtype)
                found = probability(circle.expand(len(searched), -1, -1)) <= low[searched]
                mask[searched[found]] = circle
                searched = searched[~found]
                if not len(searched):
                    break
        return mask


class _Mixture:
    """Images and their blurred copies, mixed by masks.

    Args:
        x: images ``[B, C, H, W]``; grid: cells along their shorter side; blur, spread: standard deviations in pixels;
        jitter: pixels that the image can move over.
    """

    def __init__(self, x: Tensor, grid: int, blur: float, spread: float, jitter: int) -> None:
        sizes, side = x.shape[2:], min(x.shape[2:])
        dtype = torch.promote_types(x.dtype, torch.float32)
        cells = [round(min(grid, side) * size / side) for size in sizes]
        self.cells, self.sizes, self.jitter = (cells[0], cells[1]), sizes, jitter
        self.centre = (jitter // 2, jitter // 2)
        # [H, h] and [W, w]: what each cell is to each pixel.
        self.rows, self.columns = (
            gaussians(size, count, spread).to(x.device, dtype) for size, count in zip(sizes, cells, strict=True)
        )
        down, across = (gaussians(size, size, blur).to(x.device, dtype) for size in sizes)
        blurred = (down @ x.to(dtype) @ across.T).to(x.dtype)
        self.blurred, self.detail = (self._padded(part, x) for part in (blurred, x - blurred))

    def _padded(self, part: Tensor, like: Tensor) -> Tensor:
        """Border pixels repeated, so that the image can move; in the images' memory format."""
        channels_last = like.is_contiguous(memory_format=torch.channels_last)
        padded = F.pad(part, (self.jitter // 2,) * 4, mode="replicate")
        return padded.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)

    def constant(self, value: float) -> Tensor:
        """One mask for each image, ``[B, h, w]``."""
        return self.rows.new_full((len(self.blurred), *self.cells), value)

    def spread(self, mask: Tensor) -> Tensor:
        """Masks ``[B, h, w]`` over the image's pixels, ``[B, H, W]``."""
        return self.rows @ mask @ self.columns.T

    def mix(self, mask: Tensor, shift: tuple[int, int], images: slice | Tensor = slice(None)) -> Tensor:
        """Mixtures of some images ``[n, C, H, W]`` by masks ``[n, h, w]``: 1 keeps the image, 0 blurs it."""
        y, x = (slice(start, start + size) for start, size in zip(shift, self.sizes, strict=True))
        weights = self.spread(mask)[:, None].to(self.blurred.dtype)
        return torch.addcmul(self.blurred[images, :, y, x], weights, self.detail[images, :, y, x])


def gaussians(size: int, count: int, deviation: float) -> Tensor:
    """Weights ``[size, count]`` of ``count`` evenly spaced Gaussians at ``size`` pixels; those of a pixel sum to 1."""
    pixels = torch.arange(size, dtype=torch.float64) + 0.5
    centres = (torch.arange(count, dtype=torch.float64) + 0.5) * size / count
    return (-0.5 * ((pixels[:, None] - centres) / deviation) ** 2).softmax(1)


def variation(mask: Tensor, beta: float) -> Tensor:
    """Total variation of masks ``[B, h, w]``: neighbours' differences to the power beta, summed over each mask."""
    down, across = mask.diff(dim=1), mask.diff(dim=2)
    return down.abs().pow(beta).sum((1, 2)) + across.abs().pow(beta).sum((1, 2))
