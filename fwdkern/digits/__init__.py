"""The embedded default: a small trained network that reads one handwritten digit on a cluttered canvas."""

from fwdkern.digits.drawing import CLASSES, SIDE, Canvases, canvases
from fwdkern.digits.files import digits_net, examples
from fwdkern.digits.network import DigitsNet

__all__ = ["CLASSES", "SIDE", "Canvases", "DigitsNet", "canvases", "digits_net", "examples"]
