"""One plain forward pass, remembered: every operator's value and what it is once frozen at this input."""

import operator
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx

from fwdkern.errors import UnsupportedOperatorError
from fwdkern.graph import SHAPE_ONLY, Network, enclosing_path
from fwdkern.graph.fold import depends_on
from fwdkern.nn.layer import RelevanceLayer
from fwdkern.rules import Call, Frozen, Live, NoRule, find_rule, known_operators
from fwdkern.rules.frozen import Constant
from fwdkern.rules.gates import GATE_KEEPING, GATES

# Layers that an error names.
_LISTED = 20


@dataclass(frozen=True)
class Step:
    """One operator at one input.

    Attributes:
        name: the layer's name; value: its output ``[B, *shape]``, on the meta device if not kept.
        parents: indices of the steps that it reads.
        frozen: the frozen operator, the reason why there is none, or None where nobody will ask for it.
    """

    name: str
    value: Tensor
    parents: tuple[int, ...]
    frozen: Frozen | str | None


@dataclass
class Tape:
    """The steps of one forward pass in order; step 0 is the input ``[B, *shape]``, which has no operator.

    ``geometry`` remembers receptive fields and what follows from them: they depend on shapes alone, so that all tapes
    of a network share them. ``sequence``: the input is [B, T, D], its positions are steps in time.
    """

    steps: list[Step] = field(default_factory=list)
    geometry: dict[Any, Any] = field(default_factory=dict)
    sequence: bool = False

    @property
    def input(self) -> Tensor:
        return self.steps[0].value

    def find(self, name: str) -> int:
        """Index of the step that made a layer's value."""
        return next(i for i, step in enumerate(self.steps) if step.name == name)

    def ancestors(self, targets: Iterable[int]) -> list[int]:
        """Indices of the steps that the targets depend on, the targets among them, ascending.

        Raises:
            UnsupportedOperatorError: one of them has no rule.
        """
        needed: set[int] = set()
        stack = list(targets)
        while stack:
            step = stack.pop()
            if step not in needed:
                needed.add(step)
                stack.extend(self.steps[step].parents)
        reasons = [s.frozen for s in (self.steps[i] for i in sorted(needed)) if isinstance(s.frozen, str)]
        if reasons:
            raise UnsupportedOperatorError(self._refusal(list(dict.fromkeys(reasons))))
        return sorted(needed)

    def obstacles(self) -> list[tuple[str, ...]]:
        """For every step the names of the steps without a rule that it depends on, itself among them."""
        found: list[tuple[str, ...]] = []
        for step in self.steps:
            own = (step.name,) if isinstance(step.frozen, str) else ()
            found.append(tuple(dict.fromkeys([name for p in step.parents for name in found[p]] + list(own))))
        return found

    def _refusal(self, reasons: list[str]) -> str:
        free = [s.name for s, behind in zip(self.steps, self.obstacles(), strict=True) if not behind][1:]
        listed = ", ".join(free[-_LISTED:])
        if len(free) > _LISTED:
            listed = f"{len(free)}, the last of them {listed}"
        return (
            f"{len(reasons)} operator{'s' if len(reasons) > 1 else ''} on the way cannot be explained:\n  "
            + "\n  ".join(reasons)
            + f"\nLayers that can still be explained, as they do not depend on these: {listed or 'none'}.\nAn operator "
            "gets a rule with fwdkern.rules.register, a smooth function of each element with "
            "fwdkern.rules.register_smooth. Operators with a rule: " + ", ".join(known_operators())
        )


class _Recorder(fx.Interpreter):
    """Runs the graph; wraps every value that depends on the input so that rules can tell it from a constant."""

    def __init__(self, module: fx.GraphModule, keep: Collection[str] | None, freeze: set[fx.Node]) -> None:
        super().__init__(module)
        self.tape = Tape()
        self.keep, self.freeze = keep, freeze

    def placeholder(self, target: Any, args: Any, kwargs: Any) -> Any:
        value = super().placeholder(target, args, kwargs)
        if not value.is_floating_point():
            return value  # tokens: maps are about their embedding
        return self._add("input", value, (), None)

    def run_node(self, n: fx.Node) -> Any:
        self._node = n
        return super().run_node(n)

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        layer = self.fetch_attr(target)
        assert isinstance(layer, RelevanceLayer)
        (live,) = args
        if not isinstance(live, Live):
            return layer(live)
        if self._node not in self.freeze:
            return self._add(layer.names[-1], layer(live.value), (live.step,), None)
        for name, stage in zip(layer.names, layer.freeze(live.value, self.keep), strict=True):
            live = self._add(name, stage.output, (live.step,), stage.frozen)
        return live

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if "source" in self._node.meta:
            return self._add("input", super().call_function(target, args, kwargs), (), None)
        operands: list[Live] = []
        plain_args, plain_kwargs = _strip((args, kwargs), operands)
        output = super().call_function(target, plain_args, plain_kwargs)
        if not operands or target in SHAPE_ONLY:
            return output
        frozen = self._freeze(Call(target, args, kwargs, output)) if self._node in self.freeze else None
        read = operands
        if isinstance(frozen, Frozen) and frozen.operands is not None:
            read = [operands[i] for i in frozen.operands]
        parents = tuple(operand.step for operand in read)
        # A value without a map of its own can only switch or scale others.
        gate = target in GATES or isinstance(frozen, Constant)
        gate = gate or (target in GATE_KEEPING and all(operand.gate for operand in operands))
        # Whatever depends on the input is recorded: an unrecorded value would pass for a constant.
        name = self._node.meta.get("layer", self._node.name)
        if isinstance(output, (tuple, list)):
            return [self._add(f"{name}[{i}]", part, parents, frozen) for i, part in enumerate(output)]
        if not isinstance(output, Tensor):
            return Live(output, self._add(name, torch.as_tensor(output), parents, frozen).step)
        return replace(self._add(name, output, parents, frozen), gate=gate)

    def _freeze(self, call: Call) -> Frozen | str:
        if call.target is operator.getitem:
            source = self.tape.steps[call.args[0][call.args[1]].step].frozen
            return source if isinstance(source, str) else f"node {self._node.name} has no relevance rule"
        where = f"node {self._node.name} ({call.target}) in {enclosing_path(self._node)}, output {_shape(call.output)},"
        found = find_rule(call.target)
        if found is None:
            return f"{where} has no relevance rule"
        if any(isinstance(a, Live) and isinstance(a.value, Tensor) and a.value.is_complex() for a in call.args):
            return f"{where} has none for this use: complex numbers have no rules"
        if _mixes_examples(call):
            return f"{where} has none for this use: values of fewer dimensions are spread along the batch"
        try:
            return found[1](call)
        except NoRule as reason:
            return f"{where} has none for this use: {reason}"

    def _add(self, name: str, value: Tensor, parents: tuple[int, ...], frozen: Frozen | str | None) -> Live:
        kept = self.keep is None or name in self.keep or not parents
        # A value that nobody will read leaves its shape and dtype; reading it by mistake fails.
        held = value if kept else torch.empty_like(value, device="meta")
        self.tape.steps.append(Step(name, held, parents, frozen))
        return Live(value, len(self.tape.steps) - 1)


def _mixes_examples(call: Call) -> bool:
    """Whether an operator of each element aligns the batch of one operand with another dimension of the output."""
    if torch.Tag.pointwise not in getattr(call.target, "tags", ()) or not isinstance(call.output, Tensor):
        return False
    values = [each.value for each in call.args if isinstance(each, Live) and isinstance(each.value, Tensor)]
    return any(0 < value.dim() < call.output.dim() and value.shape[0] > 1 for value in values)


def _shape(output: Any) -> str:
    """Shapes without the batch."""
    if isinstance(output, (tuple, list)):
        return " and ".join(_shape(part) for part in output)
    return str(list(output.shape[1:])) if isinstance(output, Tensor) else type(output).__name__


def _strip(value: Any, operands: list[Live]) -> Any:
    """Replace ``Live`` values by their tensors, collecting them in order."""
    if isinstance(value, Live):
        operands.append(value)
        return value.value
    if isinstance(value, (list, tuple)):
        return type(value)(_strip(v, operands) for v in value)
    if isinstance(value, dict):
        return {k: _strip(v, operands) for k, v in value.items()}
    return value


@torch.no_grad()
def record(network: Network, x: Tensor, keep: Collection[str] | None = None, behind: str | None = None) -> Tape:
    """Run ``network`` at ``x`` ``[B, *shape]``, numbers or tokens, and freeze every operator on the way.

    ``keep`` names the layers whose values will be read, None for all; of the others only shapes are remembered.
    ``behind``: freeze only what is needed to pull from the output to this layer, and to the input where a path leads
    around it.
    """
    graph = network.module.graph
    recorder = _Recorder(
        network.module, keep, set(graph.nodes) if behind is None else _nodes_behind(network.module, behind)
    )
    recorder.tape.geometry = network.geometry.setdefault(tuple(x.shape[1:]), {})
    recorder.tape.sequence = network.sequence
    recorder.run(x)
    return recorder.tape


def _nodes_behind(module: fx.GraphModule, name: str) -> set[fx.Node]:
    """The nodes that read a layer, directly or not, and its own; all nodes if some of them read the input otherwise."""
    graph = module.graph
    (layer,) = (node for node in graph.nodes if name in _layer_names(module, node))
    inputs = [node for node in graph.nodes if node.op == "placeholder" or "source" in node.meta]
    live = set().union(*(depends_on(graph, node) for node in inputs))
    behind = depends_on(graph, layer)
    around = any(live.intersection(node.all_input_nodes) - behind for node in behind - {layer} if node.op != "output")
    return set(graph.nodes) if around else behind


def _layer_names(module: fx.GraphModule, node: fx.Node) -> tuple[str, ...]:
    if node.op == "call_module":
        part = module.get_submodule(str(node.target))
        assert isinstance(part, RelevanceLayer)
        return part.names
    return (node.meta.get("layer", node.name),)
