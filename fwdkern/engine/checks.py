"""Whether an input is one that maps can be computed for."""

import torch
from torch import Tensor

from fwdkern.errors import InputError

TOKEN_DTYPES = (torch.int64, torch.int32)


def check_input(
    x: object, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, sequence: bool = False
) -> Tensor:
    """Refuse what would fail later or mean nothing.

    Args:
        x: the inputs as given; shape: of one example at capture, dtype and device: the network's; sequence: whether
        inputs are [B, T, D], of any T.

    Returns:
        The inputs without their history.

    Raises:
        InputError: says what was given and what is expected.
    """
    if isinstance(x, (tuple, list)) and len(x) == 1:
        x = x[0]
    if not isinstance(x, Tensor):
        raise InputError(f"inputs must be one tensor [B, {_sizes(shape)}], got {type(x).__name__}")
    if x.dim() != len(shape) + 1:
        hint = "; add the batch dimension with inputs.unsqueeze(0)" if x.dim() == len(shape) else ""
        raise InputError(f"inputs must be [B, {_sizes(shape)}], got {list(x.shape)}{hint}")
    if sequence and x.shape[2] != shape[1]:
        raise InputError(f"inputs must be [B, T, {shape[1]}], got {list(x.shape)}")
    if not sequence and len(shape) > 1 and x.shape[1] != shape[0]:
        hint = ""
        if x.shape[-1] == shape[0]:
            hint = "; channels come first here: inputs.movedim(-1, 1)"
        raise InputError(f"inputs must have {shape[0]} channels in dimension 1, got {list(x.shape)}{hint}")
    if x.shape[0] == 0:
        raise InputError(f"inputs hold no example: shape {list(x.shape)}")
    if 0 in x.shape:
        raise InputError(f"inputs are empty: shape {list(x.shape)}")
    if not x.is_floating_point():
        raise InputError(
            f"inputs are {x.dtype}; a network sees numbers after preprocessing: convert with "
            f"inputs.to({dtype}) / 255 and normalise as in training"
        )
    if x.dtype != dtype:
        raise InputError(
            f"inputs are {x.dtype}, the network's weights {dtype}: use inputs.to({dtype}) or net.to({x.dtype})"
        )
    if x.device != device:
        raise InputError(f"inputs are on {x.device}, the network on {device}: use inputs.to({str(device)!r})")
    check_finite(x)
    return x.detach()


def check_tokens(x: object, vocabulary: int, device: torch.device) -> Tensor:
    """Refuse what is not tokens [B, T] numbered from 0 that an embedding of this many knows.

    Raises:
        InputError: says what was given and what is expected.
    """
    if isinstance(x, (tuple, list)) and len(x) == 1:
        x = x[0]
    if not isinstance(x, Tensor):
        raise InputError(f"inputs must be one tensor of tokens [B, T], got {type(x).__name__}")
    if x.dtype not in TOKEN_DTYPES:
        raise InputError(f"inputs are {x.dtype}; this network reads tokens, int64 or int32 [B, T]")
    if x.dim() != 2:
        hint = "; add the batch dimension with inputs.unsqueeze(0)" if x.dim() == 1 else ""
        raise InputError(f"inputs must be tokens [B, T], got {list(x.shape)}{hint}")
    if 0 in x.shape:
        empty = "sequence" if x.shape[1] == 0 else "batch"
        raise InputError(f"inputs are an empty {empty}: shape {list(x.shape)}")
    if x.device != device:
        raise InputError(f"inputs are on {x.device}, the network on {device}: use inputs.to({str(device)!r})")
    wrong = (x < 0) | (x >= vocabulary)
    if wrong.any():
        at = wrong.nonzero()[0].tolist()
        raise InputError(
            f"inputs hold {int(wrong.sum())} unknown tokens, the first is {int(x[tuple(at)])} at {at}; the embedding "
            f"knows 0 to {vocabulary - 1}"
        )
    return x.detach()


def check_finite(x: Tensor) -> None:
    """Refuse NaN and infinity, saying how many there are and where the first is."""
    if x.sum().isfinite():
        return
    wrong = ~torch.isfinite(x)  # none, where finite values have an infinite sum
    if wrong.any():
        kinds = " and ".join(
            f"{int(count)} {name}"
            for name, count in (("NaN", torch.isnan(x).sum()), ("infinite", torch.isinf(x).sum()))
            if count
        )
        raise InputError(f"inputs hold {kinds} values among {x.numel()}, the first at {wrong.nonzero()[0].tolist()}")


def _sizes(shape: tuple[int, ...]) -> str:
    return ", ".join(str(size) for size in shape)
