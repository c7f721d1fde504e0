"""A model as an ATen graph: torch.export, parameters shared with the model, one output per node."""

import logging
import operator
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind
from torch.utils._pytree import TreeSpec

from fwdkern.errors import CaptureError, InputError, UnsupportedOperatorError
from fwdkern.graph.batch import separate_batch
from fwdkern.graph.decompositions import DECOMPOSITIONS
from fwdkern.graph.nodes import argument
from fwdkern.graph.recurrent import batch_first
from fwdkern.rules.extremum import VALUES
from fwdkern.rules.pooling import FIRST_OF_POOL

aten = torch.ops.aten

# Operators that say something about shapes or types and compute nothing.
_ASSERTIONS = {
    aten._assert_tensor_metadata.default,
    aten._assert_scalar.default,
    aten.sym_constrain_range_for_size.default,
}

_SPLITS = {
    aten.split.Tensor,
    aten.split_with_sizes.default,
    aten.chunk.default,
    aten.tensor_split.sections,
    aten.tensor_split.indices,
}

# They print a failed capture before it is known whether it can be done otherwise; the error says it again.
_NOISY = ("torch.export", "torch.fx.experimental.symbolic_shapes", "torch._subclasses.fake_tensor")


@dataclass(frozen=True)
class Capture:
    """A captured model.

    Attributes:
        module: the graph; it returns one value, or the leaves of a structure, with the batch first.
        batch_dims: for each of them the dimension in which the model itself has the batch.
        structure: how the leaves make up the model's output, None where the output is one tensor.
        weights: names of the model's parameters and buffers that the output depends on.
        batch: the only batch size the graph serves, None for all.
        longest: it serves tokens [B, T] of every T up to this; 0 where T is fixed, or the input is not tokens.
    """

    module: fx.GraphModule
    batch_dims: tuple[int, ...]
    structure: TreeSpec | None
    weights: tuple[str, ...]
    batch: int | None
    longest: float = 0


def check_evaluation_mode(model: nn.Module) -> None:
    """Raise InputError if a part of the model is in training mode."""
    training = [name or type(model).__name__ for name, module in model.named_modules() if module.training]
    if training:
        raise InputError(
            f"the model is in training mode ({training[0]}{' and others' if len(training) > 1 else ''}): "
            "call model.eval() first, since dropout and batch norm act differently there"
        )


def capture(model: nn.Module, example: Tensor) -> Capture:
    """Capture ``model`` in evaluation mode at the shape of ``example`` ``[B, ...]``.

    Raises:
        InputError: the model is in training mode; or it is a file's, and the example does not fit it.
        UnsupportedOperatorError: the file uses an operator in a way that is not read.
        CaptureError: torch.export cannot capture it.
    """
    check_evaluation_mode(model)
    # A batch of 1 would be taken for a constant of the network, and a sentence of one token likewise.
    pair = example if example.shape[0] > 1 else torch.cat([example, example])
    if not pair.is_floating_point() and pair.shape[1] == 1:
        program = _export(model, torch.cat([pair, pair], 1), dynamic=True)
        if isinstance(program, ExportedProgram) and (longer := _lift(program, None)).longest:
            return longer
    program = _export(model, pair, dynamic=True)
    if isinstance(program, ExportedProgram):
        return _lift(program, None)
    program = _export(model, example, dynamic=False)
    if isinstance(program, ExportedProgram):
        return _lift(program, example.shape[0])
    if isinstance(program, (InputError, UnsupportedOperatorError)):
        raise program  # a network read from a file says itself what is wrong
    first = (str(program).strip() or type(program).__name__).splitlines()[0]
    raise CaptureError(
        f"torch.export could not capture {type(model).__name__} for an input of shape {list(example.shape)}: "
        f"{first}. The model must run as model(example) without control flow that depends on values"
        + _other_dtype(model, example)
    ) from program


def _other_dtype(model: nn.Module, example: Tensor) -> str:
    dtypes = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    if not dtypes or example.dtype in dtypes or not example.is_floating_point():
        return ""
    return f"; the example is {example.dtype}, the model's weights are {', '.join(sorted(map(str, dtypes)))}"


def _export(model: nn.Module, example: Tensor, dynamic: bool) -> ExportedProgram | Exception:
    """The model's program with an open or a fixed batch size, or what torch.export raised."""
    shapes = None
    if dynamic:
        shapes = ({0: Dim.DYNAMIC} if example.is_floating_point() else {0: Dim.DYNAMIC, 1: Dim.AUTO},)
    # A new tensor object each time, since torch.export marks the one that it gets as dynamic for good.
    example = example.detach()
    try:
        with quiet(), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(model, (example,), dynamic_shapes=shapes)
            return program.run_decompositions(DECOMPOSITIONS)
    except Exception as error:  # torch.export raises dozens of types
        return error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep torch from printing what failed; the error says it."""
    levels = {name: logging.getLogger(name).level for name in _NOISY}
    try:
        for name in _NOISY:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _lift(program: ExportedProgram, batch: int | None) -> Capture:
    """The program's graph with its parameters, buffers and constants as attributes of one module."""
    graph, root = fx.Graph(), nn.Module()
    env: dict[fx.Node, Any] = {}
    longest: float = 0
    specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
    for node in program.graph.nodes:
        if node.op == "placeholder":
            spec = specs[node.name]
            if spec.kind is InputKind.USER_INPUT:
                env[node] = graph.placeholder(node.name)
                env[node].meta = dict(node.meta)
                given = node.meta["val"]
                if not given.is_floating_point():
                    longest = _longest(program, given.shape[1])
                continue
            value = (
                program.constants[spec.target] if spec.target in program.constants else program.state_dict[spec.target]
            )
            env[node] = add_constant(graph, root, "w_" + spec.target.replace(".", "_"), value)
            env[node].meta["weight"] = spec.target
        elif node.op == "get_attr":
            raise CaptureError(
                f"the model holds control flow (node {node.name}), which has no relevance rule; "
                "rewrite it without torch.cond, torch.map or while_loop"
            )
        elif node.op == "output":
            leaves = [env.get(value, value) for value in _returned_leaves(program, node)]
            structure = program.call_spec.out_spec
            single = structure is None or structure.is_leaf()
            graph.output(leaves[0] if single else tuple(leaves))
        elif node.target not in _ASSERTIONS:
            env[node] = graph.node_copy(node, lambda n: env[n])
    module = fx.GraphModule(root, graph)
    batch_first(module)
    _single_outputs(module)
    _numeric_padding(module)
    batch_dims = separate_batch(module)
    graph.eliminate_dead_code()
    module.recompile()
    weights = tuple(node.meta["weight"] for node in graph.nodes if "weight" in node.meta)
    return Capture(module, batch_dims, None if single else structure, weights, batch, longest)


def _longest(program: ExportedProgram, size: int | torch.SymInt) -> float:
    """The largest value that a size may have, inf for any, 0 where it is fixed: by a loop over it, for example."""
    if not isinstance(size, torch.SymInt) or size.node.maybe_as_int() is not None:
        return 0
    bounds = program.range_constraints.get(size.node.expr)
    return torch.inf if bounds is None else float(bounds.upper)


def _returned_leaves(program: ExportedProgram, output: fx.Node) -> list[Any]:
    """What the model returns, without what it writes to its buffers or its input on the way."""
    kinds = [spec.kind for spec in program.graph_signature.output_specs]
    (values,) = output.args
    assert isinstance(values, (tuple, list))
    return [value for value, kind in zip(values, kinds, strict=True) if kind is OutputKind.USER_OUTPUT]


def add_constant(graph: fx.Graph, root: nn.Module, name: str, value: Tensor) -> fx.Node:
    """A node for a tensor stored in ``root`` as a buffer that shares its memory."""
    while hasattr(root, name):
        name += "_"
    root.register_buffer(name, value.detach())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        node = graph.get_attr(name)
    node.meta["val"] = value.detach()
    return node


def _replace(module: fx.GraphModule, node: fx.Node, target: Any, args: tuple[Any, ...]) -> fx.Node:
    with module.graph.inserting_before(node):
        new = module.graph.call_function(target, args)
    new.meta = dict(node.meta)
    node.replace_all_uses_with(new)
    module.graph.erase_node(node)
    return new


def _single_outputs(module: fx.GraphModule) -> None:
    """Rewrite operators with several outputs, whose parts are read by getitem, into one operator a part."""
    for node in list(module.graph.nodes):
        if node.target is not operator.getitem:
            continue
        source, index = node.args
        meta = source.meta["val"]
        target, args = source.target, source.args
        if target in _SPLITS:
            dim = argument(source, 2, "dim", 0) % meta[index].dim()
            start = sum(part.shape[dim] for part in meta[:index])
            stop = start + meta[index].shape[dim]
            _replace(module, node, aten.slice.Tensor, (args[0], dim, start, stop))
        elif target is aten.unbind.int:
            _replace(module, node, aten.select.int, (args[0], argument(source, 1, "dim", 0), index))
        elif target is aten._native_batch_norm_legit_no_training.default and index == 0:
            x, weight, bias, mean, variance, momentum, eps = args
            _replace(
                module,
                node,
                aten.batch_norm.default,
                (x, weight, bias, mean, variance, False, momentum, eps, True),
            )
        elif target is aten.max_pool2d_with_indices.default and index == 0:
            _replace(module, node, aten.max_pool2d.default, args)
        elif target is aten.max_pool3d_with_indices.default and index == 0:
            _replace(module, node, aten.max_pool3d.default, args)
        elif (target in FIRST_OF_POOL or target in VALUES) and index == 0:
            _replace(module, node, FIRST_OF_POOL.get(target) or VALUES[target], args)


def _numeric_padding(module: fx.GraphModule) -> None:
    """Rewrite conv(..., padding="same" | "valid") into a padding operator and a convolution with numbers."""
    overloads = {
        aten.conv1d.padding: aten.conv1d.default,
        aten.conv2d.padding: aten.conv2d.default,
        aten.conv3d.padding: aten.conv3d.default,
    }
    for node in list(module.graph.nodes):
        if node.target not in overloads:
            continue
        x, weight = node.args[:2]
        rank = weight.meta["val"].dim() - 2
        stride, groups = argument(node, 3, "stride", [1] * rank), argument(node, 6, "groups", 1)
        dilation = argument(node, 5, "dilation", [1] * rank)
        total = [0] * rank
        if argument(node, 4, "padding", "valid") == "same":
            total = [d * (k - 1) for d, k in zip(dilation, weight.meta["val"].shape[2:], strict=True)]
        padding = [t // 2 for t in total]
        if any(t % 2 for t in total):
            widths = [side for t in reversed(total) for side in (t // 2, t - t // 2)]
            with module.graph.inserting_before(node):
                x = module.graph.call_function(aten.constant_pad_nd.default, (x, widths))
            x.meta = {**node.meta, "val": aten.constant_pad_nd(node.args[0].meta["val"], widths)}
            padding = [0] * rank
        bias = argument(node, 2, "bias")
        _replace(module, node, overloads[node.target], (x, weight, bias, stride, padding, dilation, groups))
