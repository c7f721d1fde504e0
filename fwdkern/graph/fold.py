"""Simplifications of a captured graph that change no value: constants, identities, batch norm."""

import operator
from typing import Any

import torch
from torch import Tensor, fx

from fwdkern.graph.capture import add_constant
from fwdkern.graph.nodes import is_whole_slice
from fwdkern.rules.normalisation import batch_norm_affine

aten = torch.ops.aten

_IDENTITIES = {
    aten.clone.default,
    aten.alias.default,
    aten.detach.default,
    aten.detach_.default,
    aten.contiguous.default,
    aten.dropout.default,
    aten.lift_fresh_copy.default,
    aten._to_copy.default,
    aten.to.dtype,
    aten.to.dtype_layout,
    aten.to.device,
    aten.feature_dropout.default,
}
# Operators that read the shape of their operand and none of its values.
SHAPE_ONLY = {
    aten.sym_size.int,
    aten.ones_like.default,
    aten.zeros_like.default,
    aten.full_like.default,
    aten.new_zeros.default,
    aten.new_ones.default,
    aten.new_full.default,
}
_CONVOLUTIONS = {
    aten.conv1d.default,
    aten.conv2d.default,
    aten.conv3d.default,
    aten.conv_transpose1d.default,
    aten.conv_transpose2d.input,
    aten.conv_transpose3d.input,
}
_TRANSPOSED = {aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input}


def is_tensor(node: fx.Node) -> bool:
    """Whether the node's value is one tensor."""
    return isinstance(node.meta.get("val"), Tensor) or node.op == "placeholder"


def depends_on(graph: fx.Graph, source: fx.Node) -> set[fx.Node]:
    """A node and those whose values, not merely whose shapes, depend on it."""
    dependent = {source}
    for node in graph.nodes:
        if node.target not in SHAPE_ONLY and dependent.intersection(node.all_input_nodes):
            dependent.add(node)
    return dependent


def drop_identities(module: fx.GraphModule) -> dict[fx.Node, fx.Node]:
    """Remove operators that return their input; the result says which node stands for a removed one."""
    stand_in: dict[fx.Node, fx.Node] = {}
    for node in list(module.graph.nodes):
        if node.target is aten.view.default or node.target is aten._unsafe_view.default:
            # A copy that made the memory contiguous may go below, after which only reshape is sure to work.
            node.target = aten.reshape.default
        if node.target not in _IDENTITIES and not is_whole_slice(node):
            continue
        source = node.args[0]
        old, new = source.meta.get("val"), node.meta.get("val")
        if isinstance(old, Tensor) and isinstance(new, Tensor) and (old.dtype, old.device) == (new.dtype, new.device):
            node.replace_all_uses_with(source)
            stand_in[node] = source
            module.graph.erase_node(node)
    return {node: _follow(target, stand_in) for node, target in stand_in.items()}


def _follow(node: fx.Node, stand_in: dict[fx.Node, fx.Node]) -> fx.Node:
    while node in stand_in:
        node = stand_in[node]
    return node


def fold_constants(module: fx.GraphModule) -> int:
    """Compute every operator whose arguments are all constants; returns how many there were."""
    graph, count = module.graph, 0
    values: dict[fx.Node, Any] = {}
    for node in list(graph.nodes):
        if node.op == "get_attr":
            values[node] = getattr(module, node.target)
        elif node.op == "call_function" and all(source in values for source in node.all_input_nodes):
            tags = getattr(node.target, "tags", ())
            if torch.Tag.nondeterministic_seeded in tags:
                continue
            args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: values[n])
            with torch.no_grad():
                values[node] = node.target(*args, **kwargs)
            if node.target is not operator.getitem:
                count += 1
            if isinstance(values[node], Tensor):
                with graph.inserting_before(node):
                    constant = add_constant(graph, module, f"folded_{node.name}", values[node])
                values[constant] = values[node]
                node.replace_all_uses_with(constant)
    graph.eliminate_dead_code()
    return count


def fold_batch_norm(module: fx.GraphModule) -> dict[fx.Node, fx.Node]:
    """Fold every batch norm that alone reads a convolution or linear layer into its weights.

    The batch norm's node stays, as the convolution; the result maps it to the convolution that it swallowed.
    """
    graph = module.graph
    folded: dict[fx.Node, fx.Node] = {}
    for node in list(graph.nodes):
        if node.target is not aten.batch_norm.default:
            continue
        source, *parameters = node.args[:5]
        training, eps = node.args[5], node.args[7]
        linear = source.target is aten.linear.default and source.meta["val"].dim() == 2
        if training or len(source.users) != 1 or not (linear or source.target in _CONVOLUTIONS):
            continue
        constants = [*parameters, *source.args[1:3]]
        if any(isinstance(n, fx.Node) and n.op != "get_attr" for n in constants):
            continue
        scale_bias, weight, bias = (
            parameters,
            source.args[1],
            source.args[2] if len(source.args) > 2 else None,
        )
        tensors = [getattr(module, n.target) if n is not None else None for n in scale_bias]
        gamma, beta, mean, variance = tensors
        assert mean is not None and variance is not None
        scale, offset = batch_norm_affine(mean, variance, gamma, beta, eps)
        old_weight = getattr(module, weight.target)
        old_bias = getattr(module, bias.target) if bias is not None else None
        groups = source.args[6] if source.target in _CONVOLUTIONS and len(source.args) > 6 else 1
        with torch.no_grad():
            new_weight = _scaled_weight(old_weight, scale, source.target in _TRANSPOSED, groups)
            new_bias = offset if old_bias is None else offset + old_bias * scale
        with graph.inserting_before(source):
            weight_node = add_constant(graph, module, f"{weight.target}_folded", new_weight)
            bias_node = add_constant(graph, module, f"{weight.target}_folded_bias", new_bias)
        node.target = source.target
        node.args = (source.args[0], weight_node, bias_node, *source.args[3:])
        node.kwargs = dict(source.kwargs)
        folded[node] = source
        graph.erase_node(source)
    graph.eliminate_dead_code()
    return folded


def _scaled_weight(weight: Tensor, scale: Tensor, transposed: bool, groups: int) -> Tensor:
    if not transposed:
        return weight * scale.view(-1, *[1] * (weight.dim() - 1))
    # Transposed weights are [C_in, C_out / groups, ...]: the outputs of a group scale that group's inputs' rows.
    per_group = scale.view(groups, 1, -1, *[1] * (weight.dim() - 2))
    return (weight.unflatten(0, (groups, -1)) * per_group).flatten(0, 1)
