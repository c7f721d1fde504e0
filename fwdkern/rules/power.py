"""Powers: all factors but one are frozen."""

import torch

from fwdkern.rules.frozen import Diagonal, Frozen
from fwdkern.rules.registry import Call, NoRule, plain, register

aten = torch.ops.aten

_EXPONENTS = {aten.sqrt.default: 0.5, aten.rsqrt.default: -0.5, aten.reciprocal.default: -1, aten.square.default: 2}


@register("power", aten.pow.Tensor_Scalar, *_EXPONENTS)
def power(call: Call) -> Frozen:
    """z^p = z · z^(p − 1), the rule for products: 1 / p of each of p factors. What multiplies a negative power freezes it."""
    z, exponent = plain(call.args[0]), _EXPONENTS.get(call.target)
    if exponent is None:
        exponent = call.args[1]
    if exponent == 0:
        raise NoRule("a power of 0, which does not depend on its base")
    scale = torch.where(z == 0, 0, call.output / z.masked_fill(z == 0, 1)) if exponent != 1 else torch.ones_like(z)
    return Diagonal(scale, None, z.shape)
