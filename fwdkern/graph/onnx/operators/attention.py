"""Attention in one node, and positions turned into rotations, as opset 23 and later have them."""

import torch
from torch import Tensor
from torch.nn import functional as F

from fwdkern.graph.onnx.registry import Node, operator


@operator("Attention", costly=True)
def attention(
    node: Node,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    lengths: Tensor | None = None,
) -> Tensor:
    """Queries [B, heads, L, E], keys [B, groups, S, E] and values [B, groups, S, D], each group for several heads in
    turn; or the heads beside one another, [B, L, heads · E]."""
    if node.outputs > 1 or past_key is not None or past_value is not None:
        node.refuse("keys and values of the past, or the products of queries and keys")
    if lengths is not None or (node.get("left_window_size", -1), node.get("right_window_size", -1)) != (-1, -1):
        node.refuse("keys of different numbers, or within a window")
    if node.get("softcap", 0.0):
        node.refuse(f"softcap={node.get('softcap')}")
    flat = q.dim() == 3
    if flat:
        heads, groups = node.get("q_num_heads", 0), node.get("kv_num_heads", 0)
        if heads < 1 or groups < 1:
            node.refuse("three dimensions without q_num_heads and kv_num_heads")
        q, k, v = (x.unflatten(2, (count, -1)).transpose(1, 2) for x, count in ((q, heads), (k, groups), (v, groups)))
    if k.shape[1] != q.shape[1]:
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    causal = bool(node.get("is_causal", 0))
    if mask is not None:
        if mask.shape[-1] != k.shape[2]:
            node.refuse(f"a mask of {mask.shape[-1]} keys where there are {k.shape[2]}")
        if causal:
            seen = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
            mask = mask & seen if mask.dtype == torch.bool else mask.masked_fill(~seen, -torch.inf)
        if mask.dtype != torch.bool:
            mask = mask.to(q.dtype)
    y = F.scaled_dot_product_attention(q, k, v, mask, 0.0, causal and mask is None, scale=node.get("scale"))
    return y.transpose(1, 2).flatten(2) if flat else y


@operator("RotaryEmbedding")
def rotary(node: Node, x: Tensor, cos: Tensor, sin: Tensor, places: Tensor | None = None) -> Tensor:
    """Pairs of the first numbers of each head turned by an angle of their place: x [B, heads, L, D] or
    [B, L, heads · D]; tables [places, D / 2], or [B, L, D / 2] where no places [B, L] are given."""
    flat = x.dim() == 3
    if flat:
        if not node.get("num_heads", 0):
            node.refuse("three dimensions without num_heads")
        x = x.unflatten(2, (node.get("num_heads"), -1))
    if places is not None:
        cos, sin = cos[places.long()], sin[places.long()]
    cos, sin = (table.unsqueeze(2 if flat else 1) for table in (cos, sin))
    width = node.get("rotary_embedding_dim", 0) or x.shape[-1]
    turned, kept = x[..., :width], x[..., width:]
    if node.get("interleaved", 0):
        a, b = turned[..., 0::2], turned[..., 1::2]
        turned = torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)
    else:
        a, b = turned.chunk(2, -1)
        turned = torch.cat([a * cos - b * sin, a * sin + b * cos], -1)
    y = torch.cat([turned, kept], -1) if width != x.shape[-1] else turned
    return y.flatten(2) if flat else y
