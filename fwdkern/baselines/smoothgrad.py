"""SmoothGrad: the gradient, averaged over noisy copies of the image."""

import torch
from torch import Tensor, nn

from fwdkern.baselines.method import Target, check_arguments, generators, input_gradient, recording, run
from fwdkern.engine.units import parse_class
from fwdkern.errors import InputError


class SmoothGrad:
    """Smilkov et al. 2017, https://arxiv.org/abs/1706.03825.

    The absolute value of the mean gradient over ``nt_samples`` copies of the image with Gaussian noise, summed over
    the input's channels. The class is the noiseless image's.

    Args:
        model: in evaluation mode.
        nt_samples: copies; the paper sees little change beyond 50.
        noise: the noise's standard deviation as a fraction of the image's range, max - min; the paper takes 0.1 to 0.2.
        seed: of the noise, which is another one for every image and the same in every batch.
    """

    def __init__(self, model: nn.Module, nt_samples: int = 25, noise: float = 0.15, seed: int = 0) -> None:
        if nt_samples < 1:
            raise InputError(f"nt_samples={nt_samples} must be at least 1")
        if not noise >= 0:
            raise InputError(f"noise={noise} must be 0 or more")
        self.model, self.nt_samples, self.noise, self.seed = model, nt_samples, noise, seed

    def attribute(self, inputs: Tensor, target: Target = None) -> Tensor:
        """Maps ``[B, H, W]``, at least 0.

        Raises:
            InputError: an argument cannot be used, or the model cannot be differentiated.
        """
        x = check_arguments(self.model, inputs)
        with recording():
            with torch.no_grad():
                classes = parse_class(target, run(self.model, x))
            deviation = self.noise * (x.amax((1, 2, 3), keepdim=True) - x.amin((1, 2, 3), keepdim=True))
            sources = generators(x, self.seed)
            total = torch.zeros_like(x)
            for _ in range(self.nt_samples):
                noise = torch.stack([torch.randn(x.shape[1:], generator=source) for source in sources])
                total += input_gradient(self.model, x + deviation * noise.to(x), classes)
            return (total / self.nt_samples).abs().sum(1)
