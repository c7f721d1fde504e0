"""From a file, which may be anybody's, to a network: checked first, then built."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import fwdkern.graph.onnx.operators  # noqa: F401
from fwdkern.errors import CaptureError, FwdkernError, InputError, UnsupportedOperatorError
from fwdkern.graph.capture import quiet
from fwdkern.graph.onnx.batch import open_batch
from fwdkern.graph.onnx.constants import MOST_ENTRIES, to_array, to_numbers, to_tensor
from fwdkern.graph.onnx.functions import inline
from fwdkern.graph.onnx.names import name_nodes
from fwdkern.graph.onnx.network import Bounded, Call, InputSpec, OnnxNetwork, Step, example_input
from fwdkern.graph.onnx.operators.logic import TYPES
from fwdkern.graph.onnx.patterns import join_functions
from fwdkern.graph.onnx.registry import OPERATORS, Node

OPSETS = range(7, 26)
MOST_BYTES = 2**31 - 1
MOST_NODES = 100_000
_STANDARD = ("", "ai.onnx")


def is_onnx(name: object) -> TypeGuard[str | Path]:
    """Whether this names an ONNX file."""
    return isinstance(name, (str, Path)) and str(name).lower().endswith(".onnx")


def read_onnx(path: str | Path) -> OnnxNetwork:
    """Read an ONNX file as a torch module in evaluation mode. Nothing in the file is executed as code.

    Raises:
        InputError: there is no such file, it is damaged, too large, or not a network of one input; or the package
            onnx is missing.
        UnsupportedOperatorError: it holds operators that are not read; the message lists all.
        CaptureError: a node cannot run on the shapes that the file declares.
    """
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise InputError("The package onnx is not installed; run: pip install 'fwdkern[onnx]'") from error
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no ONNX file {path}.")
    if path.stat().st_size > MOST_BYTES:
        raise InputError(f"{path} has {path.stat().st_size} bytes; ONNX files of at most {MOST_BYTES} are read.")
    try:
        model = onnx.ModelProto.FromString(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error}).") from error
    except Exception as error:  # the classes differ between releases of protobuf
        raise InputError(f"{path} is not an ONNX file, or it is damaged ({error}).") from error
    try:
        return _built(model)
    except FwdkernError as error:
        raise type(error)(f"{path}: {error}") from error


def _built(model: Any) -> OnnxNetwork:
    if not model.graph.node or not model.graph.output:
        raise InputError("this is not an ONNX file, or its graph is empty")
    _refuse_bytes(model)
    opset = _opset(model)
    _refuse_external(model)
    _refuse_unknown(model)
    model = inline(model, MOST_NODES)
    _refuse_unknown(model)
    _check(model)
    return _Builder(model.graph, opset).network()


def _opset(model: Any) -> int:
    versions = [entry.version for entry in model.opset_import if entry.domain in _STANDARD]
    if len(versions) != 1 or versions[0] not in OPSETS:
        given = versions[0] if versions else "none"
        raise InputError(
            f"the file's opset is {given}; {OPSETS[0]} to {OPSETS[-1]} are read. onnx.version_converter.convert_"
            "version can change it"
        )
    return int(versions[0])


def _all_nodes(model: Any) -> Iterator[Any]:
    yield from model.graph.node
    for function in model.functions:
        yield from function.node


def _refuse_bytes(model: Any) -> None:
    """Text that is not UTF-8 comes out of protobuf as bytes."""
    texts = [value.name for part in (model.graph.input, model.graph.output, model.graph.initializer) for value in part]
    for node in _all_nodes(model):
        texts += [node.name, node.op_type, node.domain, *node.input, *node.output]
        texts += [attribute.name for attribute in node.attribute]
    for function in model.functions:
        texts += [function.name, function.domain]
    wrong = next((text for text in texts if not isinstance(text, str)), None)
    if wrong is not None:
        raise InputError(f"the file is damaged: the name {wrong[:80]!r} is not text")


def _refuse_external(model: Any) -> None:
    """Data outside the file is refused before anything looks at it."""
    if model.graph.sparse_initializer:
        raise InputError("the file holds sparse tensors, which are not read")
    for tensor in model.graph.initializer:
        if tensor.data_location or tensor.external_data:
            to_array(tensor, f"tensor {tensor.name!r}")
    for node in _all_nodes(model):
        for attribute in node.attribute:
            if attribute.t.data_location or attribute.t.external_data:
                to_array(attribute.t, f"a tensor of node {node.name!r}")


def _refuse_unknown(model: Any) -> None:
    """Raise UnsupportedOperatorError with every operator that is not read."""
    local = {(function.domain, function.name) for function in model.functions}
    found: dict[str, list[str]] = {}
    for node in _all_nodes(model):
        if (node.domain, node.op_type) in local and not any(a.g.node or a.graphs for a in node.attribute):
            continue
        if node.domain not in _STANDARD:
            what = f"{node.domain[:80]}.{node.op_type[:80]} (of another domain)"
        elif node.op_type in OPERATORS or node.op_type == "Constant":
            continue
        elif node.op_type in ("If", "Loop", "Scan", "SequenceMap"):
            what = f"{node.op_type} (control flow)"
        elif "Quantize" in node.op_type or "Integer" in node.op_type or node.op_type.startswith("QLinear"):
            what = f"{node.op_type} (quantised)"
        else:
            what = node.op_type[:80] or "a node without an operator"
        found.setdefault(what, []).append(node.name[:80] or (node.output[0][:80] if node.output else "?"))
    if found:
        lines = [
            f"{what}: {', '.join(at[:3])}{f' and {len(at) - 3} more' if len(at) > 3 else ''}"
            for what, at in found.items()
        ]
        raise UnsupportedOperatorError(
            f"{len(found)} operators of the ONNX file are not read: " + "; ".join(lines) + ". "
            f"These are: {', '.join(sorted(OPERATORS))}"
        )


def _check(model: Any) -> None:
    """The package's own check of structure, types of attributes, order and unique names."""
    import onnx

    if len(model.graph.node) > MOST_NODES:
        raise InputError(f"the file has {len(model.graph.node)} nodes; at most {MOST_NODES} are read")
    # What files say about shapes behind the input is not used, and need not be there.
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.shape.SetInParent()
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # ValidationError, and protobuf's own for text that is not UTF-8
        raise InputError(f"the file is not valid ONNX: {' '.join(str(error).split())[:400]}") from error


class _Builder:
    """Builds the network from a graph that is checked: folds constants, names nodes, makes steps."""

    def __init__(self, graph: Any, opset: int) -> None:
        self.graph, self.opset = graph, opset
        self.constants = {t.name: to_array(t, f"tensor {t.name!r}") for t in graph.initializer}
        self.spec = self._input()
        self.outputs = tuple(value.name for value in graph.output)
        join_functions(graph, self.constants)
        self.nodes = self._needed()
        self.shared: dict[int, Any] = {}
        self.budget = 4 * MOST_ENTRIES

    def _input(self) -> InputSpec:
        from onnx import TensorProto

        given = [value for value in self.graph.input if value.name not in self.constants]
        if len(given) != 1:
            raise InputError(
                f"the file has {len(given)} inputs ({', '.join(repr(v.name[:80]) for v in given[:8])}); networks of "
                "one input are read: export it with the others fixed"
            )
        tensor = given[0].type.tensor_type
        if tensor.elem_type not in TYPES or tensor.elem_type == TensorProto.BFLOAT16:
            raise InputError(f"the input {given[0].name!r} is no tensor of numbers that are read")
        # Some exporters write an open size as -1.
        sizes = [
            dim.dim_value if dim.HasField("dim_value") and dim.dim_value != -1 else None for dim in tensor.shape.dim
        ]
        if not sizes or any(size is not None and size < 1 for size in sizes):
            raise InputError(f"the input {given[0].name!r} declares the shape {sizes}; a batch [B, ...] is read")
        if np.prod([size or 1 for size in sizes], dtype=np.float64) > MOST_ENTRIES:
            raise InputError(f"the input {given[0].name!r} declares the shape {sizes}, which is too large")
        self.main_type = tensor.elem_type if TYPES[tensor.elem_type].is_floating_point else 1
        return InputSpec(given[0].name, TYPES[tensor.elem_type], tuple(sizes))

    def _needed(self) -> list[Any]:
        """Nodes that an output depends on."""
        wanted, kept = set(self.outputs), []
        for node in reversed(self.graph.node):
            if wanted.intersection(node.output):
                wanted.update(node.input)
                kept.append(node)
        return kept[::-1]

    def network(self) -> OnnxNetwork:
        live, entries = {self.spec.name}, []
        readers = Counter(name for node in self.nodes for name in node.input) + Counter(self.outputs)
        for node in self.nodes:
            parsed = self._parsed(node, live, readers)
            if parsed.kind == "Constant":
                self.constants[node.output[0]] = _constant(parsed)
                continue
            unknown = [name for name in node.input if name and name not in live and name not in self.constants]
            if unknown:
                raise InputError(f"node {parsed.name} reads {unknown[0][:80]!r}, which nothing makes")
            step = Step(parsed, [self.constants.get(name) for name in node.input], TYPES[self.main_type], self.shared)
            if not live.intersection(node.input) and not OPERATORS[parsed.kind].costly:
                self._fold(node, step)
                continue
            live.update(name for name in node.output if name)
            entries.append((node, step))
        calls = self._calls(entries, live)
        fixed = {name: to_tensor(self.constants[name]) for name in self.outputs if name in self.constants}
        network = OnnxNetwork(self.spec, calls, [step for _, step in entries], fixed, self.outputs)
        if None not in self.spec.shape[1:]:
            example = example_input(network)
            _try_shapes(network, example)
            open_batch(network, example.shape[1:])
        return network

    def _parsed(self, node: Any, live: set[str], readers: Counter[str]) -> Node:
        name = (node.name or (node.output[0] if node.output else "") or "without a name")[:200]
        attributes = {a.name: _attribute(a, name) for a in node.attribute}
        if node.op_type == "Cast":
            attributes["main_type"] = self.main_type
        if node.op_type == "Split":
            # The parts are as many as it makes, read or not.
            attributes.setdefault("num_outputs", len(node.output))
        place = self.constants.get(node.input[1]) if node.op_type == "Gather" else None
        if place is not None and place.ndim == 0:
            attributes["place"] = int(place)
        read = [i for i, output in enumerate(node.output) if readers[output]]
        constant = frozenset(i for i, value in enumerate(node.input) if value and value not in live)
        return Node(name, node.op_type, self.opset, attributes, max(read, default=0) + 1, constant)

    def _fold(self, node: Any, step: Step) -> None:
        """Compute a node of constants, once it is known how large its result is."""
        inputs = [None] * len(node.input)
        with torch.no_grad():
            with quiet(), FakeTensorMode(allow_non_fake_inputs=True), Bounded():
                step(*inputs)
            results = step(*inputs)
        for name, value in zip(node.output, results if isinstance(results, tuple) else (results,), strict=False):
            self.constants[name] = to_numbers(value) if isinstance(value, np.ndarray) else _numpy(value)
            self.budget -= self.constants[name].size
        if self.budget < 0:
            raise InputError("the constants of the file are too large once they are computed")

    def _calls(self, entries: list[tuple[Any, Step]], live: set[str]) -> list[Call]:
        reader: dict[str, int] = {}
        for i, (node, _) in enumerate(entries):
            reader.update({name: i for name in [*node.input, *node.output] if name in live})
        last: dict[int, list[str]] = {}
        for name, i in reader.items():
            if name not in self.outputs:
                last.setdefault(i, []).append(name)
        return [
            Call(
                path,
                tuple(name if name in live else None for name in node.input),
                tuple(node.output[: step.node.outputs]),
                tuple(last.get(i, ())),
            )
            for i, ((node, step), path) in enumerate(
                zip(entries, name_nodes([node for node, _ in entries]), strict=True)
            )
        ]


def _numpy(value: Tensor) -> np.ndarray:
    return (value.float() if value.dtype == torch.bfloat16 else value).detach().contiguous().numpy()


def _attribute(attribute: Any, node: str) -> Any:
    from onnx import AttributeProto

    kind = attribute.type
    if attribute.ref_attr_name or kind in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
        raise InputError(f"node {node} has the attribute {attribute.name[:80]!r}, which is not read")
    if kind == AttributeProto.INT:
        return attribute.i
    if kind == AttributeProto.FLOAT:
        return attribute.f
    if kind == AttributeProto.STRING:
        return attribute.s.decode("utf-8", "replace")
    if kind == AttributeProto.INTS:
        return list(attribute.ints)
    if kind == AttributeProto.FLOATS:
        return list(attribute.floats)
    if kind == AttributeProto.STRINGS:
        return [text.decode("utf-8", "replace") for text in attribute.strings]
    if kind == AttributeProto.TENSOR:
        return to_array(attribute.t, f"a tensor of node {node}")
    raise InputError(f"node {node} has the attribute {attribute.name[:80]!r} of a type that is not read")


def _constant(node: Node) -> np.ndarray:
    for name, dtype in (("value", None), ("value_float", np.float32), ("value_floats", np.float32)):
        if name in node.attributes:
            return np.asarray(node.attributes[name], dtype)
    for name in ("value_int", "value_ints"):
        if name in node.attributes:
            return np.asarray(node.attributes[name], np.int64)
    raise InputError(f"node {node.name} (Constant) holds no numbers")


def _try_shapes(network: OnnxNetwork, example: Tensor) -> None:
    """Run the network on shapes alone, which computes and allocates nothing."""
    try:
        with quiet(), torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True) as mode, Bounded():
            network(mode.from_tensor(example))
    except FwdkernError:
        raise
    except Exception as error:
        raise CaptureError(f"the network cannot run on an input of shape {list(example.shape)}: {error}") from error
