"""GradCAM: channels of a layer, weighted by their mean gradient."""

from torch import Tensor, nn

from fwdkern.baselines.layer import Layer, default_layer, layer_gradient, layer_name, upsample
from fwdkern.baselines.method import Target, check_arguments


class GradCAM:
    """Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391, equations 1 and 2.

    The map is ``relu(sum_k a_k A_k)``, where A_k is a channel of the layer's output and a_k the mean over positions of
    the score's gradient by it, stretched bilinearly to the input's size.

    Args:
        model: in evaluation mode.
        layer: a module path or a module, the last layer with a spatial extent if None. ``path@1`` is the second call
            of a module. The attribute ``layer`` names it, after the first call if none was given.

    Raises:
        LayerError: there is no such layer.
    """

    def __init__(self, model: nn.Module, layer: Layer = None) -> None:
        self.model = model
        self.layer = None if layer is None else layer_name(model, layer)

    def attribute(self, inputs: Tensor, target: Target = None) -> Tensor:
        """Maps ``[B, H, W]``, at least 0.

        Raises:
            InputError: an argument cannot be used, the layer returns no map, or the model cannot be differentiated.
        """
        x = check_arguments(self.model, inputs)
        if self.layer is None:
            self.layer = default_layer(self.model, x)
        value, slope = layer_gradient(self.model, self.layer, x, target)
        weights = self.weights(value, slope)
        return upsample((weights[:, :, None, None] * value).sum(1).relu(), x)

    def weights(self, value: Tensor, slope: Tensor) -> Tensor:
        """Weights ``[B, K]`` of channels with output and gradient ``[B, K, h, w]``."""
        return slope.mean((2, 3))
