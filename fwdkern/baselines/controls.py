"""Maps that know nothing of the model: a method that does not beat them has found nothing."""

import torch
from torch import Tensor, nn

from fwdkern.baselines.method import Target, check_arguments, generators
from fwdkern.errors import InputError


class AllOnes:
    """The same for every pixel. The model and the target are not used."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def attribute(self, inputs: Tensor, target: Target = None) -> Tensor:
        """Maps ``[B, H, W]`` of ones.

        Raises:
            InputError: the inputs are no images.
        """
        x = check_arguments(self.model, inputs)
        return x.new_ones(len(x), *x.shape[2:])


class CentreGaussian:
    """A Gaussian in the image's centre: photographers put their subject there. The target is not used.

    Args:
        model: in evaluation mode; only its dtype and device are used.
        sigma: standard deviation as a fraction of the image's height, and of its width.
    """

    def __init__(self, model: nn.Module, sigma: float = 0.25) -> None:
        if not sigma > 0:
            raise InputError(f"sigma={sigma} must be more than 0")
        self.model, self.sigma = model, sigma

    def attribute(self, inputs: Tensor, target: Target = None) -> Tensor:
        """Maps ``[B, H, W]`` in (0, 1].

        Raises:
            InputError: the inputs are no images.
        """
        x = check_arguments(self.model, inputs)
        rows, columns = (self._profile(size).to(x) for size in x.shape[2:])
        return (rows[:, None] * columns).expand(len(x), -1, -1).contiguous()

    def _profile(self, size: int) -> Tensor:
        """``[size]``."""
        place = (torch.arange(size, dtype=torch.float64) + 0.5) / size - 0.5
        return torch.exp(-0.5 * (place / self.sigma) ** 2)


class Random:
    """Independent uniform numbers. The model and the target are not used.

    Args:
        model: in evaluation mode; only its dtype and device are used.
        seed: the numbers follow from it and the image's values, so that they are the same in every batch.
    """

    def __init__(self, model: nn.Module, seed: int = 0) -> None:
        self.model, self.seed = model, seed

    def attribute(self, inputs: Tensor, target: Target = None) -> Tensor:
        """Maps ``[B, H, W]`` in [0, 1).

        Raises:
            InputError: the inputs are no images.
        """
        x = check_arguments(self.model, inputs)
        maps = [torch.rand(x.shape[2:], generator=source, dtype=torch.float64) for source in generators(x, self.seed)]
        return torch.stack(maps).to(x)
