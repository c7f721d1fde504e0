"""Drop-in modules: the plain layer, and its maps carried forward or back. ``fwdkern.fuse`` puts them in; they also
work by hand: start with ``seed(x)`` and hand the rows from layer to layer."""

from fwdkern.nn.conv import RelevanceConv2d, RelevanceConvTranspose2d
from fwdkern.nn.elementwise import (
    RelevanceAvgPool2d,
    RelevanceBatchNorm2d,
    RelevanceMaxPool2d,
    RelevanceOperator,
    RelevanceReLU,
)
from fwdkern.nn.layer import RelevanceLayer, Stage
from fwdkern.nn.linear import RelevanceLinear
from fwdkern.nn.operator import Operator
from fwdkern.nn.seed import seed

__all__ = [
    "Operator",
    "RelevanceAvgPool2d",
    "RelevanceBatchNorm2d",
    "RelevanceConv2d",
    "RelevanceConvTranspose2d",
    "RelevanceLayer",
    "RelevanceLinear",
    "RelevanceMaxPool2d",
    "RelevanceOperator",
    "RelevanceReLU",
    "Stage",
    "seed",
]
