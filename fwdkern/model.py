"""The front door: fuse a model, ask for maps."""

import difflib
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from fwdkern.engine import replay
from fwdkern.engine.attribution import Job, Request, check, union_boxes
from fwdkern.engine.checks import TOKEN_DTYPES, check_input, check_tokens
from fwdkern.engine.decomposition import Contributions, contributions, decompose
from fwdkern.engine.dense import receptive_boxes
from fwdkern.engine.features import parse_features
from fwdkern.engine.memory import parse_bytes, release
from fwdkern.engine.options import parse_options
from fwdkern.engine.planner import Plan
from fwdkern.engine.rounding import rounding
from fwdkern.engine.tape import Tape, record
from fwdkern.engine.units import WeightedSum, parse_place, parse_target, parse_units
from fwdkern.errors import DeviceMemoryError, InputError, LayerError
from fwdkern.graph import SOFTMAX, Layer, Network, build_network
from fwdkern.graph.capture import check_evaluation_mode
from fwdkern.graph.onnx import OnnxNetwork, example_input, is_onnx, open_batch, read_onnx
from fwdkern.relevance import Relevance
from fwdkern.report import describe


def fuse(
    model: nn.Module | str | Path, example_inputs: Tensor | tuple[Tensor, ...] | None = None, fold: bool = True
) -> "FusedModel":
    """Capture a model and swap its layers for drop-in modules that can carry relevance maps.

    Args:
        model: in evaluation mode; it is left as it was, weights that need no folding are shared with it. The result
            is a snapshot: fuse again after changing weights. Or the path of an ONNX file.
        example_inputs: one input batch ``[B, ...]`` of the shape that will be explained (any other image size is
            captured again by itself), or a tuple that holds it. Integers are tokens ``[B, T]``, which one embedding
            layer reads; their maps are about its output. Of an ONNX file that declares its input's size it may be
            left out.
        fold: whether a layer becomes one with the batch norm that alone reads it, which is faster, but leaves no value
            between them that could be asked for.

    Raises:
        InputError: the model is in training mode, or there is not exactly one input, numbers or tokens; or the ONNX
            file is damaged or does not fit the inputs.
        CaptureError: torch.export cannot capture the model.
        UnsupportedOperatorError: the ONNX file holds operators that are not read.
    """
    if is_onnx(model):
        model = read_onnx(model)
    if isinstance(model, OnnxNetwork) and example_inputs is None:
        example_inputs = example_input(model)
    if not isinstance(model, nn.Module):
        raise InputError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    example = _one_input(example_inputs)
    if isinstance(model, OnnxNetwork) and None in model.spec.shape[1:]:
        open_batch(model, example.shape[1:])
    return FusedModel(model, example, fold)


class _Source:
    """The user's model and its state at the time of ``fuse``; copies of a fused network refer to the same one."""

    def __init__(self, model: nn.Module, weights: Iterable[str], fold: bool) -> None:
        self.model, self.fold = model, fold
        state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        names = list(weights)
        # Training changes running statistics without counting a version; it counts its batches beside them.
        names += [f"{name.removesuffix('running_mean')}num_batches_tracked" for name in names if "running_mean" in name]
        watched = ((name, state[name]) for name in names if name in state)
        # Tensors made in inference mode count no versions.
        self.versions = [
            (name, tensor, tensor._version, _storage(tensor)) for name, tensor in watched if not tensor.is_inference()
        ]
        self.modules = list(model.named_modules())

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Source":
        return self

    def changes(self) -> list[str]:
        """Weights and statistics that were written to or replaced since ``fuse``, and replaced modules."""
        state = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        changed = [
            name
            for name, tensor, version, storage in self.versions
            if state.get(name) is not tensor or tensor._version != version or _replaced(storage, _storage(tensor))
        ]
        now = dict(self.model.named_modules())
        return changed + [name for name, module in self.modules if now.get(name) is not module]

    def refuse_changes(self) -> None:
        """Raise InputError if there are changes."""
        if changed := self.changes():
            raise InputError(
                f"{len(changed)} weights or modules of the model changed after fuse (first: {changed[0]!r}), and some "
                "were folded into others, so this network would be neither the old nor the new one: call fwdkern.fuse "
                "again"
            )

    @torch.no_grad()
    def agrees(self, network: Network, x: Tensor) -> bool:
        """Whether a network captured at another length gives the model's own output at tokens ``x`` ``[B, T]``.

        torch.export fixes the length of whatever passes a recurrent layer, though the graph may run at any.
        """
        try:
            check_evaluation_mode(self.model)
            given = x.to(self._weight(x).device)
            found, expected = tree_leaves(network.run(x)), tree_leaves(self.model(given))
            return len(found) == len(expected) and all(map(_near, found, expected))
        except Exception:  # a graph with another length inside fails in any of torch's ways
            return False

    def _weight(self, otherwise: Tensor) -> Tensor:
        """A tensor of the model's dtype and on its device."""
        return next((p for p in self.model.parameters() if p.is_floating_point()), otherwise)

    def capture(self, x: Tensor, like: Tensor) -> Network:
        """The model as it runs on inputs of the shape of ``x``, moved to the dtype and the device of ``like``."""
        weight = self._weight(x)
        x = x.detach().to(weight.device)
        network = build_network(self.model, x.to(weight.dtype) if x.is_floating_point() else x, self.fold)
        network.module.to(like.device, like.dtype if like.is_floating_point() else None)
        return network


def _near(found: Any, expected: Any) -> bool:
    """Whether two outputs are the same but for rounding in their types; a length in a formula changes far more."""
    if not isinstance(found, Tensor) or not isinstance(expected, Tensor):
        return bool(found == expected)
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    return found.shape == expected.shape and torch.allclose(
        found.cpu().double(), expected.cpu().double(), 0, 1e-3 * scale
    )


def _storage(tensor: Tensor) -> tuple[torch.dtype, torch.device, int]:
    return tensor.dtype, tensor.device, tensor.data_ptr()


def _replaced(before: tuple[Any, ...], now: tuple[Any, ...]) -> bool:
    """Whether ``tensor.data`` was given other values; moved to another device or type they are still the same."""
    return before[:2] == now[:2] and before[2] != now[2]


def _one_input(example_inputs: Any) -> Tensor:
    inputs = example_inputs if isinstance(example_inputs, (tuple, list)) else (example_inputs,)
    if len(inputs) != 1 or not isinstance(inputs[0], Tensor):
        given = ", ".join(type(value).__name__ for value in inputs)
        raise InputError(f"example_inputs must be one tensor [B, ...], got ({given})")
    x = inputs[0]
    if x.dim() < 2 or x.numel() == 0:
        raise InputError(f"example_inputs must be a batch [B, ...] that is not empty, got shape {list(x.shape)}")
    if not x.is_floating_point() and (x.dtype not in TOKEN_DTYPES or x.dim() != 2):
        raise InputError(
            f"example_inputs must be floating point, or tokens [B, T] of int64 or int32, got {x.dtype} of shape "
            f"{list(x.shape)}"
        )
    return x.detach()


class FusedModel(nn.Module):
    """A network whose plain output is the model's and whose every unit can be mapped; made by ``fuse``."""

    def __init__(self, model: nn.Module, example: Tensor, fold: bool) -> None:
        super().__init__()
        network = build_network(model, example, fold)
        self.network = network.module
        self.eval()
        # Not a submodule: the model's parameters are not this module's.
        self._source = _Source(model, network.captured.weights, fold)
        self._primary = network
        self._captured: dict[tuple[int, ...], Network] = {}
        self._input_shape = tuple(example.shape[1:])
        self._fields: dict[tuple[tuple[int, ...], str], Tensor] = {}
        self._replays = replay.Replays()

    def forward(self, x: Tensor) -> Any:
        """The model's own output."""
        if not torch.compiler.is_compiling():
            self._source.refuse_changes()
        return self._network_for(x).run(x)

    @property
    def outdated(self) -> bool:
        """Whether the model's weights changed after ``fuse``, so that this network refuses to run."""
        return bool(self._source.changes())

    @property
    def layers(self) -> list[Layer]:
        """The parsed network in order of execution."""
        return self._primary.layers

    def layer(self, name: str | nn.Module) -> Layer:
        """One layer by name, by the name of a block whose result it is, or by the model's module itself.

        Raises:
            LayerError: there is none; the message names the closest.
        """
        network = self._primary
        given = self._path(name) if isinstance(name, nn.Module) else name
        name = network.aliases.get(given, given)
        if name in network.index:
            return network.index[name]
        if name in network.absorbed:
            raise LayerError(
                f"layer {name!r} was folded into {network.absorbed[name]!r}, which holds both their values: "
                f"ask for {network.absorbed[name]!r}, or fuse with fold=False"
            )
        known = [*network.index, *network.aliases]
        close = difflib.get_close_matches(str(given), known, 3, 0.5)
        raise LayerError(
            f"no layer is called {given!r}"
            + (f"; close: {', '.join(map(repr, close))}" if close else "")
            + f". net.layers lists all {len(network.layers)}"
        )

    def obstacles(self, inputs: Tensor) -> dict[str, tuple[str, ...]]:
        """What cannot be explained at these inputs: by the name of each such layer, the layers without a rule that it
        depends on, which may be itself."""
        tape, _ = self._record(inputs, "ieee")
        pairs = zip(tape.steps, tape.obstacles(), strict=True)
        return {step.name: behind for step, behind in pairs if behind}

    def place(self, layer: str | nn.Module, of_input: bool = False) -> str:
        """Name of the layer that makes a module's output, or the one value that the module reads; ``"input"`` for the
        input, numbers or embedded tokens.

        Raises:
            LayerError: there is none, or what the module reads is several values or was folded away.
        """
        network = self._primary
        path = self._path(layer) if isinstance(layer, nn.Module) else layer
        if not of_input:
            return "input" if "input" in (path, network.aliases.get(path)) else self.layer(path).name

        def inside(name: str) -> bool:
            return name == path or name.startswith(f"{path}.")

        folded = {network.absorbed[name]: name for name in network.absorbed}
        members = [each for each in network.layers if inside(each.name) or inside(folded.get(each.name, each.name))]
        if not members:
            return self.place(path)  # a module that changes nothing
        read = {parent for each in members for parent in each.parents if not inside(parent)}
        cut = [folded[each.name] for each in members if each.name in folded and not inside(folded[each.name])]
        if cut or len(read) != 1:
            what = f"was folded into it with {cut[0]!r}" if cut else f"is not one value but {len(read)}"
            raise LayerError(f"what {path!r} reads {what}: name the layer that makes it")
        return read.pop()

    def _path(self, module: nn.Module) -> str:
        root = self._source.model
        paths = [path for path, each in root.named_modules(remove_duplicate=False) if each is module]
        if not paths:
            raise LayerError(f"{type(module).__name__} is not a module of this {type(root).__name__}")
        again = re.compile(re.escape(paths[0]) + r"[^@]*@\d+")  # the second call of it, or of a part
        if len(paths) > 1 or any(again.fullmatch(name) for name in (*self._primary.index, *self._primary.aliases)):
            raise LayerError(f"module {paths[0]!r} is called several times: give the name of one call, from net.layers")
        return paths[0]

    @property
    def output_shape(self) -> tuple[int, ...] | None:
        """The shape of the output without the batch, None where the network does not return one tensor."""
        name = self._primary.output
        return None if name is None else self._primary.index[name].shape

    def report(self) -> str:
        """What was swapped, folded and left, and which backend serves each op where the weights are, as text."""
        reference = next(iter(self.network.parameters()), torch.empty(0))
        return describe(self._primary, reference.device)

    def attribute(
        self,
        inputs: Tensor,
        target: int | list[Any] | Tensor | str | None = None,
        features: str | Tensor = "pixels",
        bias: str = "uniform",
        mode: str = "auto",
        backend: str = "auto",
        memory: int | str = "2GiB",
        strict: bool = False,
        storage: str = "float32",
        precision: str = "ieee",
    ) -> Relevance:
        """Maps of class scores.

        Args:
            inputs: ``[B, *shape]``.
            target: None for each input's top class, a class for all, ``[B]`` one class each (a list likewise),
                ``[B, K]`` several each (for a single input a list ``[K]`` will do), or ``"all"``. Where the network
                returns no ``[B, classes]`` but ``[B, *shape]``: one unit's coordinates for all, or ``[B, rank]``. A
                batch that is not returned first is taken as if it were.
            features: ``"pixels"`` (channels summed), ``"channels"`` (kept apart), or an integer label map
                ``[H, W]`` or ``[B, H, W]`` of segments numbered from 0. Of sequences ``"pixels"`` are their steps,
                ``"tokens"``, and segments ``[T]`` or ``[B, T]``.
            bias: bias mass spread evenly (``"uniform"``, the thesis), over each unit's receptive field
                (``"receptive_field"``), or left out of the maps (``"separate"``).
            mode: ``"auto"``, ``"forward"`` or ``"reverse"``; results agree to rounding.
            backend: ``"auto"``, ``"torch"`` (dense, any device and dtype), ``"cpu"`` (compiled active rows), or
                ``"triton"`` or ``"cuda"`` (active rows on a GPU).
            memory: most that is held beside the result, as ``"2GiB"`` or bytes.
            strict: raise instead of warn where a map does not sum to its unit's value.
            storage: ``"bfloat16"`` holds active rows in half the memory; maps are then right to some 1e-2 of their
                largest entries.
            precision: what a GPU's tensor cores may round factors to: ``"ieee"`` nothing, ``"tf32"`` or ``"bf16"``.

        Returns:
            Relevance with scores ``[B, K, *features]``.
        """
        options = parse_options(bias, mode, "dense", backend, memory, strict, storage, precision)
        x, network = self._checked(inputs)
        layer, note = _class_layer(network)
        asked = replay.ask(network, layer, x, target, features, options)
        finished = None if asked is None else self._replays.serve(asked, layer)
        if finished is None:
            tape = self._tape(network, x, [layer], precision)
            request = _class_request(tape, layer, target)
            job = Job(network, tape, [request], parse_features(features, tape.input, tape.sequence), options)
            (result,) = self._run(job)
            if asked is not None:
                self._replays.seen(asked, job.plan.chosen)
        else:
            result = check(finished, "dense", options)
        result.note = note
        return result

    def attribute_units(
        self,
        inputs: Tensor,
        layer: str,
        units: str | Tensor = "all",
        features: str | Tensor = "pixels",
        bias: str = "uniform",
        mode: str = "auto",
        layout: str = "dense",
        backend: str = "auto",
        memory: int | str = "2GiB",
        strict: bool = False,
        storage: str = "float32",
        precision: str = "ieee",
    ) -> Relevance:
        """Maps of a layer's units.

        Args:
            layer: a name from ``net.layers``.
            units: ``"all"``, ``"channels"`` (the sum over each channel's positions), or coordinates ``[K, rank]``.
            layout: ``"dense"``, or ``"window"`` for maps cropped to the size of the largest receptive field;
                ``origin`` ``[B, K, 2]`` of the result says where each lies. Outside its window a map is β/N.

        The other arguments are those of ``attribute``.
        """
        name = self.layer(layer).name
        options = parse_options(bias, mode, layout, backend, memory, strict, storage, precision)
        tape, network = self._record(inputs, precision, name)
        request = _unit_request(tape, name, units)
        return self._run(Job(network, tape, [request], parse_features(features, tape.input, tape.sequence), options))[0]

    def attribute_sum(
        self,
        inputs: Tensor,
        layer: str | nn.Module,
        weights: Tensor | Callable[[Tensor], Tensor],
        features: str | Tensor = "pixels",
        bias: str = "uniform",
        memory: int | str = "2GiB",
        strict: bool = False,
    ) -> Relevance:
        """The map of one weighted sum of a layer's units, at the cost of one unit's.

        Args:
            layer: a name from ``net.layers``, or ``"input"``.
            weights: ``[*shape]`` or ``[B, *shape]``, or a function that makes them from the layer's value
                ``[B, *shape]``.
            bias: ``"uniform"`` or ``"separate"``.

        The other arguments are those of ``attribute``. K is 1, and ``units`` of the result are the weights.
        """
        if bias == "receptive_field":
            raise InputError('bias="receptive_field" has no meaning for a sum; use "uniform" or "separate"')
        name = self.place(layer)
        options = parse_options(bias, "reverse", "dense", "torch", memory, strict)
        tape, network = self._record(inputs, options.precision, name)
        step = tape.find(name)
        value = tape.steps[step].value
        request = Request(step, WeightedSum.of(weights(value) if callable(weights) else weights, value, name), name)
        return self._run(Job(network, tape, [request], parse_features(features, tape.input, tape.sequence), options))[0]

    def iter_units(
        self,
        inputs: Tensor,
        layer: str,
        units: str | Tensor = "all",
        memory: int | str = "2GiB",
        features: str | Tensor = "pixels",
        bias: str = "uniform",
        mode: str = "auto",
        layout: str = "dense",
        backend: str = "auto",
        strict: bool = False,
        storage: str = "float32",
        precision: str = "ieee",
    ) -> Iterator[Relevance]:
        """``attribute_units`` in parts whose maps together with the work on them stay within ``memory``."""
        name = self.layer(layer).name
        half = max(parse_bytes(memory) // 2, 1)
        options = parse_options(bias, mode, layout, backend, half, strict, storage, precision)
        tape, network = self._record(inputs, precision, name)
        parsed = parse_features(features, tape.input, tape.sequence)
        whole = _unit_request(tape, name, units)
        # Beside a part's maps the check holds a float64 copy of some of them.
        each = 2 * len(tape.input) * tape.input.element_size() * Job(network, tape, [whole], parsed, options).map_size
        count = whole.units.count
        size = count if whole.units.flat is None else max(1, half // each)

        def parts() -> Iterator[Relevance]:
            for start in range(0, count, size):
                part = whole
                if size < count:
                    part = Request(whole.step, whole.units.part(start, min(start + size, count)), name)
                yield self._run(Job(network, tape, [part], parsed, options))[0]

        return parts()  # wrong arguments have raised by now, not at the first part

    def attribute_layers(
        self,
        inputs: Tensor,
        layers: Iterable[str],
        features: str | Tensor = "pixels",
        bias: str = "uniform",
        layout: str = "dense",
        backend: str = "auto",
        memory: int | str = "2GiB",
        strict: bool = False,
        storage: str = "float32",
        precision: str = "ieee",
    ) -> dict[str, Relevance]:
        """Maps of every unit of several layers in one forward-mode pass; keys are the names as given."""
        if isinstance(layers, str):
            raise InputError(f"layers must be several names, got {layers!r}: use [{layers!r}] or attribute_units")
        asked = {name: self.layer(name).name for name in layers}
        if not asked:
            raise InputError("layers: no layer was asked for")
        options = parse_options(bias, "forward", layout, backend, memory, strict, storage, precision)
        tape, network = self._record(inputs, precision, *asked.values())
        requests = [_unit_request(tape, name, "all") for name in dict.fromkeys(asked.values())]
        results = self._run(Job(network, tape, requests, parse_features(features, tape.input, tape.sequence), options))
        by_name = {result.layer: result for result in results}
        return {name: by_name[layer] for name, layer in asked.items()}

    def decompose(
        self,
        inputs: Tensor,
        target: int | list[Any] | Tensor | None,
        layer: str,
        top: int = 16,
        features: str | Tensor = "pixels",
        bias: str = "uniform",
        backend: str = "auto",
        memory: int | str = "2GiB",
    ) -> Relevance:
        """A class map as a sum of unit maps: V_class = Σ_u g_u · V_u + rest (design section 3).

        Args:
            target: one class per input, as in ``attribute``; layer: whose units; top: how many of them, by |g_u · a_u|.
            bias: ``"uniform"`` or ``"separate"``.

        Returns:
            Relevance whose rows are g_u · V_u for the strongest units first and then the rest; ``outputs`` are
            g_u · a_u, ``units`` ``[B, top, rank]``. The rows sum to the class map.
        """
        if not isinstance(top, int) or top < 1:
            raise InputError(f"top={top!r} is not a positive number of units")
        if bias == "receptive_field":
            raise InputError('bias="receptive_field" has no meaning for the rest row; use "uniform" or "separate"')
        name = self.layer(layer).name
        options = parse_options(bias, "auto", "dense", backend, memory, False)
        tape, network = self._record(inputs, options.precision, name, None)
        request = _class_request(tape, _class_layer(network)[0], target)
        own = _unit_request(tape, name, "all")
        with rounding(options.precision, tape.input.device):
            return decompose(
                network, tape, request, own, top, parse_features(features, tape.input, tape.sequence), options
            )

    def contributions(self, inputs: Tensor, target: int | list[Any] | Tensor | None, layer: str) -> Contributions:
        """What each unit of a layer brings to a class score: its value times its weight in the score.

        Args:
            target: one class per input, as in ``attribute``; layer: whose units.

        Returns:
            Contributions with shares ``[B, *shape]``; with the rest they sum to the scores.
        """
        name = self.layer(layer).name
        tape, network = self._record(inputs, "ieee", name, None, behind=name)
        request = _class_request(tape, _class_layer(network)[0], target)
        with rounding("ieee", tape.input.device):
            return contributions(tape, request, _unit_request(tape, name, "all"))

    def plan(
        self,
        inputs: Tensor,
        layer: str | None = None,
        units: str | Tensor = "all",
        target: int | list[Any] | Tensor | str | None = None,
        features: str | Tensor = "pixels",
        mode: str = "auto",
        layout: str = "dense",
        backend: str = "auto",
        memory: int | str = "2GiB",
        storage: str = "float32",
        precision: str = "ieee",
    ) -> Plan:
        """How ``attribute`` (without ``layer``) or ``attribute_units`` would serve a request; print it for a table of
        engines, modes, multiply counts, predicted seconds and bytes."""
        options = parse_options("uniform", mode, layout, backend, memory, False, storage, precision)
        name = None if layer is None else self.layer(layer).name
        tape, network = self._record(inputs, precision, name)
        if name is None:
            request = _class_request(tape, _class_layer(network)[0], target)
        else:
            request = _unit_request(tape, name, units)
        return Job(network, tape, [request], parse_features(features, tape.input, tape.sequence), options).plan

    def tape(self, inputs: Tensor) -> Tape:
        """One forward pass with every layer's value and frozen operator kept, for many requests about one input."""
        x, network = self._checked(inputs)
        return record(network, x)

    @property
    def class_layer(self) -> tuple[str, str]:
        """The layer of class scores, and what a reader of its maps must know, for example that they are logits.

        Raises:
            InputError: the network does not return one tensor that depends on its input.
        """
        return _class_layer(self._primary)

    def receptive_field(self, layer: str, units: str | Tensor) -> Tensor:
        """Where units look, int64 ``[K, 4]``: y0, x0, y1, x1, half open, clipped to the image.

        Args:
            units: coordinates ``[K, rank]``, ``"all"`` or ``"channels"``.
        """
        name = self.layer(layer).name
        key = (self._input_shape, name)
        if key not in self._fields:
            weights = itertools.chain(self.network.parameters(), self.network.buffers())
            reference = next((weight for weight in weights if weight.is_floating_point()), torch.empty(0))
            dtype = torch.int64 if self._primary.vocabulary else reference.dtype
            blank = torch.zeros(self._primary.batch or 1, *self._input_shape, dtype=dtype, device=reference.device)
            tape = record(self._primary, blank, ())
            step = tape.find(name)
            self._fields[key] = receptive_boxes(tape, [step])[step][:, :1]
        boxes = self._fields[key]
        return union_boxes(parse_units(units, boxes[0], name), boxes).T.contiguous()

    def _network_for(self, x: Tensor) -> Network:
        shape = tuple(x.shape[1:])
        primary = self._primary
        fits = shape == self._input_shape or (not x.is_floating_point() and shape[0] <= primary.captured.longest)
        if fits and primary.batch in (None, x.shape[0]):
            return primary
        key = (x.shape[0], *shape)
        for known in ((0, *shape), key):
            if known in self._captured:
                return self._captured[known]
        if primary.batch is None and not x.is_floating_point() and self._source.agrees(primary, x):
            self._captured[0, *shape] = primary
            return primary
        held = itertools.chain(self.network.parameters(), () if x.is_floating_point() else self.network.buffers())
        network = self._source.capture(x, like=next((each for each in held if each.is_floating_point()), x))
        self._captured[key if network.batch is not None else (0, *shape)] = network
        return network

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # What .to(), .double() and .cuda() do to the network they also do to its captures at other image sizes.
        for network in self._captured.values():
            if network is not self._primary:
                network.module._apply(fn, recurse)
        self._fields.clear()
        self._replays.clear()
        return super()._apply(fn, recurse)

    def _record(
        self, inputs: Tensor, precision: str, *layers: str | None, behind: str | None = None
    ) -> tuple[Tape, Network]:
        """The tape at some inputs, with the values of these layers, None for the one of class scores."""
        x, network = self._checked(inputs)
        names = [_class_layer(network)[0] if name is None else name for name in layers]
        return self._tape(network, x, names, precision, behind), network

    @torch.no_grad()
    def _checked(self, inputs: Tensor) -> tuple[Tensor, Network]:
        """The inputs, if maps can be computed for them, and the network captured at their size."""
        self._source.refuse_changes()
        weight: Tensor | None = next(self.network.parameters(), None)
        if weight is None and isinstance(inputs, Tensor) and inputs.is_floating_point():
            weight = inputs  # a network without weights runs in any dtype and on any device
        dtype, device = (torch.float32, torch.device("cpu")) if weight is None else (weight.dtype, weight.device)
        if self._primary.vocabulary is None:
            x = check_input(inputs, self._input_shape, dtype, device, self._primary.sequence)
        else:
            x = check_tokens(inputs, self._primary.vocabulary, device)
        return x, self._network_for(x)

    def _tape(self, network: Network, x: Tensor, layers: list[str], precision: str, behind: str | None = None) -> Tape:
        try:
            with rounding(precision, x.device):
                return record(network, x, layers, behind)
        except torch.OutOfMemoryError as error:
            given = str(error).split(". ")[0]
        self._replays.clear()
        release(x.device)
        raise DeviceMemoryError(
            f"{x.device} ran out of memory in the plain forward pass of inputs {list(x.shape)}. {given}. What was "
            "taken for it has been given back; ask for fewer inputs at a time"
        )

    def _run(self, job: Job) -> list[Relevance]:
        try:
            return job.run()
        except DeviceMemoryError:
            self._replays.clear()
            raise


def _class_layer(network: Network) -> tuple[str, str]:
    """The layer of class scores, and what a reader of its maps must know."""
    if network.output is None:
        last = ", ".join(repr(layer.name) for layer in network.layers[-3:])
        raise InputError(
            "this network does not return one tensor that depends on its input; use attribute_units with one of its "
            f"layers, of which the last are {last or 'none'}"
        )
    layer = network.index[network.output]
    if layer.operator in SOFTMAX:
        name = layer.parents[0]
        return name, f"the maps explain {name!r}, the logits below {layer.name!r}"
    return layer.name, ""


def _class_request(tape: Tape, layer: str, target: object) -> Request:
    step = tape.find(layer)
    value = tape.steps[step].value
    if not value.is_floating_point():
        below = step
        while tape.steps[below].parents and not tape.steps[below].value.is_floating_point():
            below = tape.steps[below].parents[0]
        raise InputError(
            f"this network returns whole numbers, which layer {layer!r} makes and which have no maps; use "
            f"attribute_units with layer {tape.steps[below].name!r}, the last of the values that they are made of"
        )
    return Request(step, (parse_target if value.dim() == 2 else parse_place)(target, value), layer)


def _unit_request(tape: Tape, name: str, units: str | Tensor) -> Request:
    step = tape.find(name)
    return Request(step, parse_units(units, tape.steps[step].value, name), name)
