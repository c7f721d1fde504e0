"""Input times gradient."""

from torch import Tensor, nn

from fwdkern.baselines.method import Target, check_arguments, input_gradient


class InputXGradient:
    """Shrikumar et al. 2016, https://arxiv.org/abs/1605.01713: pixel times the class score's gradient by it.

    Args:
        model: in evaluation mode.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def attribute(self, inputs: Tensor, target: Target = None) -> Tensor:
        """Signed maps ``[B, H, W]``, summed over the input's channels.

        Raises:
            InputError: an argument cannot be used, or the model cannot be differentiated.
        """
        x = check_arguments(self.model, inputs)
        return (x * input_gradient(self.model, x, target)).sum(1)
