"""Attention: the weights that a softmax makes are frozen, and the result is linear in the values.

The rule is that of Ali et al. 2022 (XAI for Transformers: Better Explanations through Conservative Propagation,
section 4), who detach the attention weights.
"""

import torch
from torch import Tensor

from fwdkern.rules.frozen import Diagonal, Frozen
from fwdkern.rules.matmul import Contraction, product_letters
from fwdkern.rules.registry import Call, Live, NoRule, plain, register

aten = torch.ops.aten


class Attention(Contraction):
    """weights @ values.

    Args:
        weights: ``[B, ..., heads, queries, keys]``, frozen; shape: of the values ``[B, ..., heads, keys, D]``, which
            may have fewer heads, each then serving as many of the others.
        causal: whether queries see no later keys.
    """

    def __init__(self, weights: Tensor, shape: torch.Size, causal: bool) -> None:
        self.causal, self.final = causal, torch.Size([*weights.shape[:-1], shape[-1]])
        left, right, out = product_letters(weights.dim(), len(shape))
        result = self.final
        if len(shape) > 3 and shape[-3] != weights.shape[-3]:
            weights = weights.unflatten(-3, (shape[-3], -1))
            left, out = (f"{letters[:-2]}h{letters[-2:]}" for letters in (left, out))
            result = torch.Size([*weights.shape[:-1], shape[-1]])
        super().__init__(right, left, out, weights, shape, result)

    def forward(self, *maps: Tensor) -> Tensor:
        return super().forward(*maps).reshape(-1, *self.final)

    def reverse(self, maps: Tensor) -> tuple[Tensor, ...]:
        return super().reverse(maps.reshape(-1, *self.result))

    def reach(self, *boxes: Tensor) -> Tensor:
        if not self.causal:
            return super().reach(*boxes).reshape(4, *self.final)
        seen = boxes[0].cummax(-2).values.amax(-1, keepdim=True)
        queries = torch.arange(self.final[-2], device=seen.device).clamp_max(self.shape[-2] - 1)
        seen = seen.index_select(-2, queries)
        if self.result != self.final:
            seen = seen.repeat_interleave(self.final[-3] // self.shape[-3], -3)
        return seen.expand(4, *self.final)


def attention_weights(query: Tensor, key: Tensor, mask: Tensor | None, causal: bool, scale: float) -> Tensor:
    """softmax(q kᵀ · scale + mask), ``[..., heads, queries, keys]``; a query that may see no key has weights of 0."""
    if query.dim() > 3 and query.shape[-3] != key.shape[-3]:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
    scores = (query * scale) @ key.mT
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype is torch.bool else scores + mask
    return scores.softmax(-1).masked_fill(scores.amax(-1, keepdim=True) == -torch.inf, 0)


@register("attention", aten.scaled_dot_product_attention.default)
def attention(call: Call) -> Frozen:
    """scaled_dot_product_attention(query, key, value, mask, dropout, is_causal, scale, enable_gqa): the weights are
    frozen, and with them what they depend on: queries, keys and mask."""
    query, key, value = call.args[:3]
    mask, causal = call.argument(3, "attn_mask"), call.argument(5, "is_causal", False)
    if call.argument(4, "dropout_p", 0.0):
        raise NoRule("attention that drops weights at random")
    if not isinstance(value, Live):
        raise NoRule("attention whose values do not depend on the input")
    scale = call.argument(6, "scale")
    scale = plain(query).shape[-1] ** -0.5 if scale is None else scale
    weights = attention_weights(plain(query), plain(key), plain(mask), causal, scale)
    # Masks and values may be broadcast.
    lead = call.output.shape[: weights.dim() - 2]
    frozen = Attention(weights.expand(*lead, -1, -1), value.value.shape, causal)
    frozen.operands = (sum(isinstance(operand, Live) for operand in (query, key)),)
    return frozen


class Softmax(Diagonal):
    """Every output is linear in the score above it: the exponential takes the ratio rule, the sum below is frozen.

    With c the largest score, p the largest output and d = z - c, softmax(z) = p · e^d = p · (1 + r · d), where
    r = (e^d - 1) / d is the ratio; p and c are frozen too.
    """

    def __init__(self, z: Tensor, output: Tensor, dim: int) -> None:
        self.z, self.output, self.dim, self.shape = z, output, dim, output.shape

    # Made when they are asked for: mostly a product freezes all of a softmax.
    @property
    def scale(self) -> Tensor:
        d = self.z - self.z.amax(self.dim, keepdim=True)
        ratio = torch.where(d == 0, 1, d.expm1() / d.masked_fill(d == 0, 1))
        return self.output.amax(self.dim, keepdim=True) * ratio.masked_fill(d == -torch.inf, 0)

    def forward(self, *maps: Tensor) -> Tensor:
        scale = self.scale
        return torch.where(scale == 0, 0, maps[0] * scale)  # a masked score is infinite

    @property
    def offset(self) -> Tensor:  # type: ignore[override]
        return self.output - self.scale * self.z.masked_fill(self.z == -torch.inf, 0)


@register("softmax", aten.softmax.int, aten._softmax.default, aten._safe_softmax.default)
def softmax(call: Call) -> Frozen:
    """softmax(z, dim): what multiplies it freezes it; read otherwise, ``Softmax``."""
    z = plain(call.args[0])
    if call.args[1] % z.dim() == 0:
        raise NoRule("a softmax over the batch dimension mixes examples")
    return Softmax(z, call.output, call.args[1])
