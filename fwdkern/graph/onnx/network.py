"""The module that a file becomes: its nodes as submodules, run in order."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from fwdkern.errors import CaptureError, FwdkernError, InputError
from fwdkern.graph.onnx.constants import MOST_ENTRIES, to_tensor
from fwdkern.graph.onnx.operators.recurrent import Steps
from fwdkern.graph.onnx.operators.shapes import array, result_size
from fwdkern.graph.onnx.registry import OPERATORS, SHAPE_OPERATORS, Node

# Arrays of numbers stand for shapes, which are short.
_LONGEST_SHAPE = 2**16


@dataclass(frozen=True)
class InputSpec:
    """The input that a file declares: a size for each dimension, None where it is open."""

    name: str
    dtype: torch.dtype
    shape: tuple[int | None, ...]


class Step(nn.Module):
    """One node with its constant inputs.

    Args:
        node: what to run; inputs: for each input its constant value, or None where it is computed or left out;
        dtype: the network's floating point type; shared: parameters by the identity of their arrays, so that a
        weight which several nodes read is held once.
    """

    def __init__(
        self, node: Node, inputs: Sequence[np.ndarray | None], dtype: torch.dtype, shared: dict[int, nn.Parameter]
    ) -> None:
        super().__init__()
        self.node, self.operator = node, OPERATORS[node.kind]
        self.arrays: dict[int, np.ndarray] = {}
        self.tensors: dict[int, str] = {}
        for position, value in enumerate(inputs):
            if value is None:
                continue
            if value.size <= _LONGEST_SHAPE or position in self.operator.plain:
                self.arrays[position] = value
            if position in self.operator.plain:
                continue
            name = _INPUTS.get(node.kind, ())[position : position + 1] or (f"input_{position}",)
            self.tensors[position] = name[0]
            if value.dtype.kind == "f":
                if id(value) not in shared:
                    shared[id(value)] = nn.Parameter(to_tensor(value), requires_grad=False)
                self.register_parameter(name[0], shared[id(value)])
            else:
                self.register_buffer(name[0], to_tensor(value))
        if self.operator.typed:
            self.register_buffer("float_like", torch.empty(0, dtype=dtype), persistent=False)

    def forward(self, *inputs: Any) -> Any:
        """Run the node; computed inputs are given in their order, None for those that are constant or left out."""
        try:
            return self._run(inputs)
        except (FwdkernError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
            raise CaptureError(
                f"node {self.node.name} ({self.node.kind}) of the ONNX file cannot run: {first}"
            ) from error

    def _run(self, inputs: tuple[Any, ...]) -> Any:
        if inputs and isinstance(inputs[0], Steps):
            found = inputs[0].through(self.node, self.arrays.get(1, inputs[1] if len(inputs) > 1 else None))
            if found is not None:
                return found
        inputs = tuple(x.tensor() if isinstance(x, Steps) else x for x in inputs)
        on_shapes = SHAPE_OPERATORS.get(self.node.kind)
        if on_shapes is not None and self._only_numbers(inputs):
            parts = [self.arrays.get(i, x) for i, x in enumerate(inputs)]
            try:
                # Before it is made: it could fill the memory.
                _refuse_long(result_size(self.node, *parts))
                result = array(on_shapes(self.node, *parts))
                _refuse_long(result.size)
                if any(isinstance(v, int) and not -(2**63) <= v < 2**63 for v in result.flat):
                    raise InputError("a size of more than 64 bits")
                return result
            except NotImplementedError:
                pass
            except InputError as error:
                raise InputError(f"node {self.node.name} ({self.node.kind}) of the ONNX file makes {error}") from error
        device = next((x.device for x in inputs if isinstance(x, Tensor)), None)
        # The inputs of a node are of one type; after model.double() numbers made of shapes are to follow the others.
        floats = [x.dtype for x in (*inputs, *self.parameters()) if isinstance(x, Tensor) and x.is_floating_point()]
        values = [self._value(i, x, device, floats[0] if floats else None) for i, x in enumerate(inputs)]
        if not self.operator.typed:
            return self.operator.run(self.node, *values)
        made = self.operator.run(self.node, *values, dtype=self.float_like.dtype)
        return made.to(self.float_like.device) if not values or device is None else made

    def _only_numbers(self, inputs: tuple[Any, ...]) -> bool:
        """Whether every input is an array of numbers, at least one of them computed."""
        live = [x for x in inputs if x is not None]
        known = all(isinstance(x, np.ndarray) for x in live) and all(i in self.arrays for i in self.tensors)
        return bool(live) and known

    def _value(self, position: int, given: Any, device: torch.device | None, dtype: torch.dtype | None) -> Any:
        if position in self.operator.plain:
            value = self.arrays.get(position, given)
            if isinstance(value, Tensor):
                raise CaptureError(
                    f"node {self.node.name} ({self.node.kind}) of the ONNX file takes input {position} from values of "
                    "the network's input; only its shape may decide that"
                )
            return value
        if position in self.tensors:
            return getattr(self, self.tensors[position])
        if isinstance(given, np.ndarray):
            if any(isinstance(v, (torch.SymInt, torch.SymFloat)) for v in given.flat):
                flat = torch.stack([torch.scalar_tensor(v, dtype=torch.int64, device=device) for v in given.flat])
                return flat.reshape(given.shape)
            made = to_tensor(given).to(device)
            return made.to(dtype) if made.is_floating_point() else made
        return given


def _refuse_long(size: int) -> None:
    if size > _LONGEST_SHAPE:
        raise InputError(f"a shape of {size} numbers")


_NORM = ("x", "weight", "bias", "running_mean", "running_var")
_INPUTS: dict[str, tuple[str, ...]] = {
    "Conv": _NORM[:3],
    "ConvTranspose": _NORM[:3],
    "Gemm": _NORM[:3],
    "MatMul": _NORM[:2],
    "PRelu": _NORM[:2],
    "BatchNormalization": _NORM,
    "InstanceNormalization": _NORM[:3],
    "GroupNormalization": _NORM[:3],
    "LayerNormalization": _NORM[:3],
    "RMSNormalization": _NORM[:2],
    "Gather": ("weight", "indices"),
}


@dataclass(frozen=True)
class Call:
    """A step in its place: names of computed inputs, names of results, and values that nobody reads afterwards."""

    path: str
    inputs: tuple[str | None, ...]
    outputs: tuple[str, ...]
    last: tuple[str, ...] = ()


class OnnxNetwork(nn.Module):
    """A network read from an ONNX file: in evaluation mode, of ATen operators, one submodule for each node.

    Attributes:
        spec: the declared input; batch: the only batch size that the file serves, None for all.
    """

    def __init__(
        self,
        spec: InputSpec,
        calls: Sequence[Call],
        steps: Sequence[Step],
        constants: dict[str, Tensor],
        outputs: tuple[str, ...],
    ) -> None:
        super().__init__()
        self.spec, self.outputs = spec, outputs
        self.batch = spec.shape[0] if spec.shape else None
        self.calls, self.steps = tuple(calls), tuple(steps)
        self.results = {name: f"_result_{number}" for number, name in enumerate(constants)}
        for name, value in constants.items():
            self.register_buffer(self.results[name], value)
        for call, step in zip(calls, steps, strict=True):
            _add(self, call.path, step)
        self.eval()

    def forward(self, x: Tensor) -> Any:
        """The outputs of the file at ``x`` of the declared shape: a tensor, or a tuple where there are several."""
        self._check(x)
        values: dict[str, Any] = {self.spec.name: x}
        for call, step in zip(self.calls, self.steps, strict=True):
            made = step(*(None if name is None else values[name] for name in call.inputs))
            results = made if isinstance(made, tuple) else (made,)
            if len(results) < len(call.outputs):
                raise CaptureError(
                    f"node {step.node.name} ({step.node.kind}) of the ONNX file has {len(results)} results"
                )
            values.update(zip(call.outputs, results, strict=False))
            for name in call.last:
                values.pop(name, None)
        found = [getattr(self, self.results[n]) if n in self.results else _tensor(values[n], x) for n in self.outputs]
        return found[0] if len(found) == 1 else tuple(found)

    def _check(self, x: Tensor) -> None:
        expected = (self.batch, *self.spec.shape[1:])
        fits = x.dim() == len(expected) and all(
            want is None or have == want for want, have in zip(expected, x.shape, strict=True)
        )
        if not fits:
            raise InputError(f"the ONNX file's input {self.spec.name} is {self.shape_text()}, got {list(x.shape)}")
        if x.is_floating_point() != self.spec.dtype.is_floating_point:
            raise InputError(f"the ONNX file's input {self.spec.name} is {self.spec.dtype}, got {x.dtype}")

    def shape_text(self) -> str:
        """The input's shape as messages give it."""
        sizes = ["batch" if self.batch is None else str(self.batch)]
        sizes += ["any" if size is None else str(size) for size in self.spec.shape[1:]]
        return f"[{', '.join(sizes)}]"


def _add(root: nn.Module, path: str, step: Step) -> None:
    parent = root
    *blocks, leaf = path.split(".")
    for block in blocks:
        # The file may use the names of a module's own attributes.
        while block not in parent._modules and hasattr(parent, block):
            block += "_"
        if block not in parent._modules:
            parent.add_module(block, nn.Module())
        parent = parent._modules[block]  # type: ignore[assignment]
    while hasattr(parent, leaf):
        leaf += "_"
    parent.add_module(leaf, step)


def _tensor(value: Any, x: Tensor) -> Tensor:
    if isinstance(value, Steps):
        return value.tensor()
    return to_tensor(value).to(x.device) if isinstance(value, np.ndarray) else value


class Bounded(TorchDispatchMode):
    """Refuses operators whose result has more entries than a tensor may have; to be used where nothing is computed."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(value, Tensor) and value.numel() > MOST_ENTRIES:
                raise InputError(f"a tensor of shape {list(value.shape)}; at most {MOST_ENTRIES} entries are computed")
        return result


def example_input(model: OnnxNetwork) -> Tensor:
    """Numbers of the declared shape, with a batch of 1 where it is open.

    Raises InputError where other dimensions are open.
    """
    spec = model.spec
    if not spec.shape or None in spec.shape[1:]:
        raise InputError(
            f"the ONNX file's input {spec.name} is {model.shape_text() if spec.shape else 'of no declared shape'}: "
            "give example_inputs of the size that will be explained"
        )
    shape = [1 if size is None else size for size in spec.shape]
    if spec.dtype.is_floating_point:
        return torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(spec.dtype)
    return torch.zeros(shape, dtype=spec.dtype)
