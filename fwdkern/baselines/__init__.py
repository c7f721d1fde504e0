"""Saliency maps by other methods, to compare with: each from its paper, all called the same way.

    GradCAM(model, layer).attribute(inputs, target)  # [B, H, W]

`model` is any torch module in evaluation mode, from images [B, C, H, W] to scores [B, classes]; it is left as it was.
`target` is None (each image's top class), one class number for all images, or one for each. The maps are in the
input's dtype, on its device and of its height and width. A map depends on its own image only, not on the others of
its batch. Every method computes in the input's memory format; on a CPU, images in torch.channels_last are faster.

These methods need gradients: this is the only folder of fwdkern that uses autograd.
"""

from collections.abc import Callable

from fwdkern.baselines.controls import AllOnes, CentreGaussian, Random
from fwdkern.baselines.gradcam import GradCAM
from fwdkern.baselines.gradcam_plus_plus import GradCAMPlusPlus
from fwdkern.baselines.input_x_gradient import InputXGradient
from fwdkern.baselines.layer import default_layer
from fwdkern.baselines.mask import Mask
from fwdkern.baselines.method import Method
from fwdkern.baselines.smoothgrad import SmoothGrad

# What a user calls a method: how to make it. Each needs no argument but the model.
METHODS: dict[str, Callable[..., Method]] = {
    "gradcam": GradCAM,
    "gradcam++": GradCAMPlusPlus,
    "mask": Mask,
    "input-x-gradient": InputXGradient,
    "smoothgrad": SmoothGrad,
    "all-ones": AllOnes,
    "centre-gaussian": CentreGaussian,
    "random": Random,
}
# The methods that look at the image's frame alone, or at nothing: what any other must beat.
CONTROLS = ("all-ones", "centre-gaussian", "random")

__all__ = [
    "CONTROLS",
    "METHODS",
    "AllOnes",
    "CentreGaussian",
    "GradCAM",
    "GradCAMPlusPlus",
    "InputXGradient",
    "Mask",
    "Method",
    "Random",
    "SmoothGrad",
    "default_layer",
]
