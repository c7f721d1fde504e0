"""Recurrent layers in a captured graph: one operator a result, and batch first, as all rules want it."""

import operator
from typing import Any

import torch
from torch import fx

from fwdkern.rules.recurrent import PARTS, lstm_cell, recurrent

aten = torch.ops.aten

_KINDS = {
    aten.lstm.input: "lstm",
    aten.gru.input: "gru",
    aten.rnn_tanh.input: "rnn_tanh",
    aten.rnn_relu.input: "rnn_relu",
}
CELLS = {lstm_cell, aten.gru_cell.default, aten.rnn_tanh_cell.default, aten.rnn_relu_cell.default}
# Operators of one tensor for which its first two dimensions are alike.
_BLIND = {
    aten.linear.default,
    aten.relu.default,
    aten.tanh.default,
    aten.sigmoid.default,
    aten.gelu.default,
    aten.dropout.default,
    aten.clone.default,
    aten.contiguous.default,
}
_ALONG = {aten.select.int, aten.squeeze.dim, aten.squeeze.dims, aten.mean.dim, aten.sum.dim_IntList}


def batch_first(module: fx.GraphModule) -> None:
    """Rewrite recurrent layers into one operator a result, batch first, and move what undoes it out of the way.

    Torch's states are [layers, B, H] and its sequences mostly [T, B, D], but the rules want the batch in front. So
    each layer gets swaps of its first two dimensions around it, and swaps sink below the operators that read them
    until they meet another swap, or an operator that picks or sums one of the two dimensions.
    """
    found = _split(module)
    if found:
        while _sink_one(module):
            pass
    module.graph.eliminate_dead_code()


def _split(module: fx.GraphModule) -> bool:
    """One operator a result; returns whether there was any."""
    found = False
    node: Any
    for node in list(module.graph.nodes):
        if node.target is not operator.getitem:
            continue
        source, index = node.args
        if source.target is aten.lstm_cell.default:
            weights = [*source.args[2:], None, None][:4]
            _insert(module, node, lstm_cell, (*source.args[:2], *weights, index), node.meta["val"])
        elif source.target in _KINDS:
            _layer(module, node, source, PARTS[index])
        else:
            continue
        found = True
    return found


def _layer(module: fx.GraphModule, node: fx.Node, source: Any, part: str) -> None:
    x, state, weights, has_biases, layers, _, _, bidirectional, first = source.args
    kind = _KINDS[source.target]
    if not first:
        x = _swap(module, node, x, x.meta["val"].transpose(0, 1))
    args = (x, state if kind == "lstm" else [state], weights, kind, has_biases, layers, bidirectional, part)
    value = node.meta["val"]
    if part == "output" and first:
        _insert(module, node, recurrent, args, value)
        return
    with module.graph.inserting_before(node):
        new = module.graph.call_function(recurrent, args)
    new.meta = {**node.meta, "val": value.transpose(0, 1)}
    node.replace_all_uses_with(_swap(module, node, new, value))
    module.graph.erase_node(node)


def _insert(module: fx.GraphModule, node: fx.Node, target: Any, args: tuple[Any, ...], value: Any) -> fx.Node:
    """Put another operator in a node's place."""
    with module.graph.inserting_before(node):
        new = module.graph.call_function(target, args)
    new.meta = {**node.meta, "val": value}
    node.replace_all_uses_with(new)
    module.graph.erase_node(node)
    return new


def _swap(module: fx.GraphModule, before: fx.Node, source: fx.Node, value: Any) -> fx.Node:
    with module.graph.inserting_before(before):
        node = module.graph.call_function(aten.transpose.int, (source, 0, 1))
    node.meta = {**before.meta, "val": value}
    return node


def _is_swap(node: Any) -> bool:
    """Whether a node swaps the first two dimensions and leaves the others."""
    if getattr(node, "op", "") != "call_function":
        return False
    if node.target is aten.t.default:
        return bool(node.meta["val"].dim() == 2)
    rank = node.meta["val"].dim() if isinstance(node.meta.get("val"), torch.Tensor) else 0
    if node.target is aten.transpose.int:
        return {dim % rank for dim in node.args[1:3]} == {0, 1}
    if node.target is aten.permute.default:
        return [dim % rank for dim in node.args[1]] == [1, 0, *range(2, rank)]
    return False


def _sink_one(module: fx.GraphModule) -> bool:
    """Move one swap below one reader; returns whether there was one that can be moved."""
    node: Any
    for node in module.graph.nodes:
        read: list[Any] = [*node.args, None, None]
        swapped = read[1] if node.target is aten.embedding.default else read[0]
        if not _is_swap(swapped):
            continue
        below = swapped.args[0]
        value = node.meta.get("val")
        if _is_swap(node):
            node.replace_all_uses_with(below)
            module.graph.erase_node(node)
            return True
        if node.target is aten.embedding.default:
            args = (node.args[0], below, *node.args[2:])
        elif node.target is aten.flip.default:
            rank = value.dim()
            args = (below, [{0: 1, 1: 0}.get(dim % rank, dim % rank) for dim in node.args[1]])
        elif node.target in _BLIND and value.dim() == swapped.meta["val"].dim():
            args = (below, *node.args[1:])
        elif node.target in _ALONG:
            picked = _picked(node, swapped.meta["val"].dim())
            if picked is None:
                continue
            _insert(module, node, node.target, (below, *picked), value)
            return True
        else:
            continue
        with module.graph.inserting_before(node):
            new = module.graph.call_function(node.target, args, node.kwargs)
        new.meta = {**node.meta, "val": value.transpose(0, 1)}
        node.replace_all_uses_with(_swap(module, node, new, value))
        module.graph.erase_node(node)
        return True
    return False


def _picked(node: Any, rank: int) -> tuple[Any, ...] | None:
    """The arguments behind the tensor of an operator along one dimension, so that it acts below a swap; None if the
    swap would still show: the operator must do away with the first dimension, which is not the batch."""
    dims, rest = node.args[1], node.args[2:]
    single = isinstance(dims, int)
    given = [dim % rank for dim in ([dims] if single else dims or [])]
    keeps = node.target in (aten.mean.dim, aten.sum.dim_IntList) and bool(rest and rest[0])
    if given != [0] or keeps or node.kwargs:
        return None
    return (1 if single else [1], *rest)
