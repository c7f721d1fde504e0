"""From a model to the graph that fwdkern runs: captured, simplified, its layers swapped for drop-in modules."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.utils._pytree import tree_unflatten

from fwdkern.errors import CaptureError
from fwdkern.graph.capture import Capture, capture
from fwdkern.graph.fold import depends_on, drop_identities, fold_batch_norm, fold_constants, is_tensor
from fwdkern.graph.names import module_paths, name_nodes, operator_name
from fwdkern.graph.recurrent import CELLS
from fwdkern.nn.conv import RelevanceConv2d, RelevanceConvTranspose2d
from fwdkern.nn.elementwise import (
    RelevanceAvgPool2d,
    RelevanceBatchNorm2d,
    RelevanceMaxPool2d,
    RelevanceReLU,
)
from fwdkern.nn.layer import RelevanceLayer
from fwdkern.nn.linear import RelevanceLinear
from fwdkern.nn.operator import Operator
from fwdkern.rules import find_rule
from fwdkern.rules.normalisation import batch_norm_affine
from fwdkern.rules.recurrent import recurrent

aten = torch.ops.aten

SOFTMAX = ("softmax", "log_softmax")
_ACTIVATIONS = {aten.relu.default, aten.relu6.default, aten.hardtanh.default, aten.leaky_relu.default}
_LAYERS: dict[Any, Any] = {
    aten.conv2d.default: RelevanceConv2d,
    aten.conv_transpose2d.input: RelevanceConvTranspose2d,
    aten.linear.default: RelevanceLinear,
}
_OPERATORS: dict[Any, Any] = {
    aten.max_pool2d.default: RelevanceMaxPool2d,
    aten.avg_pool2d.default: RelevanceAvgPool2d,
    aten.adaptive_avg_pool2d.default: RelevanceAvgPool2d,
    **dict.fromkeys(_ACTIVATIONS, RelevanceReLU),
}


@dataclass(frozen=True)
class Layer:
    """One operator of the parsed network.

    Attributes:
        name: module path, or module path and operator; shape: output shape without the batch; parents: names of the
        layers that it reads, ``"input"`` for the network's input; rule: how its coefficients are frozen, None where
        no rule exists; module: the drop-in module that runs it, "" if it runs as a plain operator.
    """

    name: str
    operator: str
    shape: tuple[int, ...]
    parents: tuple[str, ...]
    rule: str | None
    module: str = ""


@dataclass
class Network:
    """A fused graph.

    Attributes:
        module: runs the plain forward pass; every node that makes a layer carries ``meta["layer"]``.
        layers: the parsed network in order of execution.
        aliases: other names under which a layer is known (blocks, dropouts), ``"input"`` for an embedding of tokens;
        absorbed: names of layers that were
        folded into another one and have no values any more.
        output: name of the layer whose value the network returns, None if it returns several.
        geometry: what the engine has found out about receptive fields, which depend on shapes alone.
        captured: what is known from the capture.
        vocabulary: how many tokens the embedding knows whose output counts as the input, None for other inputs.
        sequence: whether the input is [B, T, D], steps in time of D numbers each.
    """

    module: fx.GraphModule
    layers: list[Layer]
    aliases: dict[str, str]
    absorbed: dict[str, str]
    output: str | None
    captured: Capture
    constants: int
    vocabulary: int | None = None
    sequence: bool = False
    index: dict[str, Layer] = field(init=False)
    geometry: dict[Any, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.index = {layer.name: layer for layer in self.layers}

    @property
    def batch(self) -> int | None:
        """The only batch size the graph serves, None for all."""
        return self.captured.batch

    def run(self, x: Tensor) -> Any:
        """The model's own output at ``x`` ``[B, *shape]``."""
        value = self.module(x)
        structure, dims = self.captured.structure, self.captured.batch_dims
        leaves = [value] if structure is None else value
        leaves = [leaf.movedim(0, dim) if dim else leaf for leaf, dim in zip(leaves, dims, strict=True)]
        return leaves[0] if structure is None else tree_unflatten(leaves, structure)


def build_network(model: nn.Module, example: Tensor, fold: bool) -> Network:
    """Capture ``model`` at the shape of ``example`` ``[B, ...]``, simplify, and swap its layers.

    ``fold``: whether batch norms become part of the layers before them, which then have no values of their own.
    """
    captured = capture(model, example)
    module = captured.module
    constants = fold_constants(module)
    reached = depends_on(module.graph, _source(module))
    calls = [node for node in module.graph.nodes if node.op == "call_function" and node in reached and is_tensor(node)]
    names, results = name_nodes(calls)
    folded = fold_batch_norm(module) if fold else {}
    stand_in = drop_identities(module)
    source = _source(module)
    live = depends_on(module.graph, source)
    names = {**names, source: "input"}
    nodes = [
        node
        for node in module.graph.nodes
        if node.op == "call_function" and node in live and node is not source and is_tensor(node)
    ]
    layers = []
    for node in nodes:
        node.meta["layer"] = names[node]
        layers.append(
            Layer(
                names[node],
                operator_name(node.target) + ("+batch_norm" if node in folded else ""),
                _shape(node),
                tuple(dict.fromkeys(names[p] for p in node.all_input_nodes if p in live and p in names)),
                found[0] if (found := find_rule(node.target)) else None,
            )
        )
    alive = set(nodes)
    aliases = {}
    own = {names[node] for node in nodes}
    for path, node in results.items():
        target = stand_in.get(node, node)
        if (target in alive or target is source) and path not in own:
            aliases[path] = names[target]
    absorbed = {names[source]: names[node] for node, source in folded.items()}
    returned = _returned(module, names, alive)
    vocabulary = _constant(module, source.args[0]).shape[0] if source.op == "call_function" else None
    sequence = _is_sequence(module, source)
    swapped = _swap(module, names)
    module.graph.eliminate_dead_code()
    module.recompile()
    module.delete_all_unused_submodules()
    _drop_unused_buffers(module)
    _forget_tracing(module)
    layers = [replace(layer, module=swapped.get(layer.name, "")) for layer in layers]
    layers = [_explained_below(layer) if layer.name == returned else layer for layer in layers]
    return Network(module, layers, aliases, absorbed, returned, captured, constants, vocabulary, sequence)


def _shape(node: fx.Node) -> tuple[int, ...]:
    """The shape of a node's value without the batch."""
    try:
        return tuple(int(size) for size in node.meta["val"].shape[1:])
    except GuardOnDataDependentSymNode:
        raise CaptureError(
            f"the shape of the output of node {node.name} ({node.target}) in {enclosing_path(node)} depends on values: "
            "a bool index or repeat counts in a tensor. Use integer indices, or torch.where"
        ) from None


def _source(module: fx.GraphModule) -> fx.Node:
    """The node whose value maps are about: the input, or the embedding of an input that is tokens."""
    placeholder = next(node for node in module.graph.nodes if node.op == "placeholder")
    if placeholder.meta["val"].is_floating_point():
        return placeholder
    reading = depends_on(module.graph, placeholder)
    calls: list[Any] = [node for node in module.graph.nodes if node.target is aten.embedding.default]
    found = [node for node in calls if node.args[1] in reading]
    # Beside the tokens themselves a model may embed what it counts from them, such as their positions.
    found = [node for node in found if node.args[1] is placeholder] or found
    if len(found) != 1 or found[0].args[0].op != "get_attr":
        raise CaptureError(
            f"an input of {placeholder.meta['val'].dtype} is read as tokens, which one embedding layer must turn into "
            f"vectors; this model has {len(found)} such layers. Give it vectors as input instead"
        )
    found[0].meta["source"] = True
    return found[0]


def _is_sequence(module: fx.GraphModule, source: fx.Node) -> bool:
    """Whether the input is [B, T, D]: embedded tokens, or the input of a model with recurrent layers."""
    if source.op == "call_function":
        return True
    recurs = any(node.target is recurrent or node.target in CELLS for node in module.graph.nodes)
    return recurs and source.meta["val"].dim() == 3


def _explained_below(layer: Layer) -> Layer:
    """A softmax at the end has no rule of its own: its maps are those of the logits that it reads."""
    return replace(layer, rule=f"explained below, at {layer.parents[0]}") if layer.operator in SOFTMAX else layer


def _forget_tracing(module: fx.GraphModule) -> None:
    """Drop what the tracer left on the nodes: it is large, and it can be neither copied nor pickled."""
    for node in module.graph.nodes:
        node.meta = {key: node.meta[key] for key in ("layer", "nn_module_stack", "source") if key in node.meta}
    module.meta.clear()


def _returned(module: fx.GraphModule, names: dict[fx.Node, str], alive: set[fx.Node]) -> str | None:
    output = next(node for node in module.graph.nodes if node.op == "output")
    tensors = [value for value in output.all_input_nodes if value in names]
    return names[tensors[0]] if len(tensors) == 1 and tensors[0] in alive else None


def _swap(module: fx.GraphModule, names: dict[fx.Node, str]) -> dict[str, str]:
    """Replace layers, with the activation and the max pool that alone read them, by drop-in modules."""
    swapped: dict[str, str] = {}
    for node in list(module.graph.nodes):
        if node.op != "call_function" or "layer" not in node.meta:
            continue
        layer = _drop_in(module, node)
        if layer is None:
            continue
        chain = _followers(node) if not isinstance(layer, (RelevanceMaxPool2d, RelevanceAvgPool2d)) else [node]
        layer.then = tuple(_operator(module, n) for n in chain[1:])
        layer.names = tuple(names[n] for n in chain)
        target = _add_layer(module, layer)
        with module.graph.inserting_before(node):
            call = module.graph.call_module(target, (node.args[0],))
        call.meta = dict(chain[-1].meta)
        chain[-1].replace_all_uses_with(call)
        for member in reversed(chain):
            module.graph.erase_node(member)
        swapped.update(dict.fromkeys(layer.names, type(layer).__name__))
    return swapped


def _add_layer(module: fx.GraphModule, layer: RelevanceLayer) -> str:
    """Put a drop-in module under ``layers``, by its name as far as a submodule may be called so."""
    if not hasattr(module, "layers"):
        module.add_module("layers", nn.Module())
    layers = module.get_submodule("layers")
    name = layer.names[0].replace(".", "_").replace("@", "_at_")
    while hasattr(layers, name):
        name += "_"
    layers.add_module(name, layer)
    return f"layers.{name}"


def _drop_in(module: fx.GraphModule, node: fx.Node) -> RelevanceLayer | None:
    if any(isinstance(n, fx.Node) and n.op != "get_attr" for n in node.args[1:]) or node.kwargs:
        return None
    if not isinstance(node.args[0], fx.Node) or node.target not in {*_LAYERS, *_OPERATORS, aten.batch_norm.default}:
        return None
    arguments = [_constant(module, argument) for argument in node.args[1:]]
    if node.target in _LAYERS:
        if node.meta["val"].dim() != arguments[0].dim() and node.target is not aten.linear.default:
            return None
        return _LAYERS[node.target](*arguments)
    if node.target in _OPERATORS:
        return _OPERATORS[node.target](_operator(module, node))
    if node.target is aten.batch_norm.default and not arguments[4]:
        weight, bias, mean, variance, eps = *arguments[:4], arguments[6]
        return RelevanceBatchNorm2d(*batch_norm_affine(mean, variance, weight, bias, eps))
    return None


def _constant(module: fx.GraphModule, argument: Any) -> Any:
    """What an argument that does not depend on the input stands for; lists as plain lists, which can be compiled."""
    if isinstance(argument, fx.Node):
        return getattr(module, str(argument.target))
    return [_constant(module, item) for item in argument] if isinstance(argument, list) else argument


def _operator(module: fx.GraphModule, node: fx.Node) -> Operator:
    arguments = tuple(_constant(module, argument) for argument in node.args[1:])
    return Operator(node.target, arguments, {key: _constant(module, value) for key, value in node.kwargs.items()})


def _followers(node: fx.Node) -> list[fx.Node]:
    chain = [node]
    if node.target not in _ACTIVATIONS:
        follower = _only_reader(node)
        if follower is not None and follower.target in _ACTIVATIONS:
            chain.append(follower)
    follower = _only_reader(chain[-1])
    if follower is not None and follower.target is aten.max_pool2d.default:
        chain.append(follower)
    return chain


def _only_reader(node: fx.Node) -> fx.Node | None:
    readers = list(node.users)
    if len(readers) == 1 and "layer" in readers[0].meta and readers[0].args[0] is node:
        return readers[0] if not any(isinstance(a, fx.Node) for a in readers[0].args[1:]) else None
    return None


def _drop_unused_buffers(module: fx.GraphModule) -> None:
    used = {node.target for node in module.graph.nodes if node.op == "get_attr"}
    for name in [name for name in module._buffers if name not in used]:
        delattr(module, name)


def enclosing_path(node: fx.Node) -> str:
    """Path of the innermost module around a node, for messages."""
    paths = module_paths(node)
    return paths[-1] if paths and paths[-1] else "the model itself"
