"""Matrices as the recurrent kernels read them, made once for each weight."""

import torch.nn.functional as F
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

# By the weight: the version and address that it was packed at, and what was made of it then.
_packed: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def in_panels(weight: Tensor, width: int, transposed: bool = False) -> Tensor:
    """A matrix [N, K], or its transpose [K, N], in panels of ``width`` outputs: [panels, inputs, width], 0-padded."""
    stamp = None if weight.is_inference() else (weight._version, weight.data_ptr())
    known = _packed.get(weight)
    if known is None or known[0] != stamp:
        known = _packed[weight] = (stamp, {})
    key = width, transposed
    if stamp is None or key not in known[1]:
        matrix = weight.detach() if transposed else weight.detach().mT  # [inputs, outputs]
        wide = F.pad(matrix, (0, -matrix.shape[1] % width))
        known[1][key] = wide.unflatten(1, (-1, width)).transpose(0, 1).contiguous()
    return known[1][key]
