"""GradCAM++: channels of a layer, weighted by their positive gradients."""

import torch
from torch import Tensor

from fwdkern.baselines.gradcam import GradCAM


class GradCAMPlusPlus(GradCAM):
    """Chattopadhay et al. 2018, https://arxiv.org/abs/1710.11063, in its closed form.

    With S the class score, A a channel of the layer's output, g = dS/dA and sums over the channel's positions,

        w = sum alpha relu(g),   alpha = g^2 / (2 g^2 + g^3 sum A).

    The paper takes Y = exp(S), whose derivatives are exp(S) g, exp(S) g^2 and exp(S) g^3 in a network of ReLUs. In
    alpha the factor exp(S) cancels. In w it would multiply all of an image's map alike, and overflow for scores above
    88 in float32: it is left out, so that these maps are the paper's up to a positive factor for each image.

    The closed form stands on ReLUs below and above the layer: A >= 0, as after a ReLU, keeps alpha in (0, 1/2].

    Arguments and errors are GradCAM's.
    """

    def weights(self, value: Tensor, slope: Tensor) -> Tensor:
        """Weights ``[B, K]`` of channels with output and gradient ``[B, K, h, w]``.

        Where g <= 0, relu(g) is 0 and alpha does not matter. Where g > 0, g^2 is divided out, since it would
        underflow for small gradients: alpha = 1 / (2 + g sum A). With negative A this can have a pole, where the paper
        defines no alpha; a position that meets it exactly counts nothing.
        """
        below = 2 + slope * value.sum((2, 3), keepdim=True)
        counts = (slope > 0) & (below != 0)
        return torch.where(counts, slope / below, 0).sum((2, 3))
