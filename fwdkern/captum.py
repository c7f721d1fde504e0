"""Captum's interface: classes with the arguments and results of captum 0.9, https://captum.ai, without its autograd.

``ForwardRelevance`` stands for captum's ``InputXGradient``, ``LayerForwardRelevance`` for ``LayerGradientXActivation``
and ``NeuronForwardRelevance`` for ``NeuronGradient`` times the input. On networks of ReLUs they return the same
numbers; elsewhere coefficients are frozen by fwdkern's rules, so that results still sum to what they explain.

Attributions are R, the part of a value that comes from the input. The part β that comes from biases belongs to no input
element and is left out, as in captum's methods; ``return_convergence_delta=True`` takes it into account:

    delta = Σ attributions − (value − β)

which is captum's sign, and zero but for rounding. β takes the place of the model's output at a baseline of zeros.

What differs from captum: the model is a module of one input tensor in evaluation mode, or a ``FusedModel``; where it
ends in a softmax, the logits below are explained; in a ``FusedModel`` a layer that was folded into the batch norm
behind it cannot be named (name the batch norm, or fuse with ``fold=False``); and ``internal_batch_size`` and
``return_convergence_delta`` are there for all three classes.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fwdkern.errors import InputError
from fwdkern.graph.capture import check_evaluation_mode
from fwdkern.model import FusedModel, fuse
from fwdkern.relevance import Relevance

Target = int | tuple[int, ...] | Tensor | list[int] | list[tuple[int, ...]] | None
Selector = int | tuple[int | slice, ...] | Callable[[Tensor], Tensor]
Layer = nn.Module | str


class _Part(NamedTuple):
    """Attributions of some inputs ``[b, ...]`` and their deltas ``[b]``."""

    attributions: Tensor
    delta: Tensor


def _captum(attribute: Callable[..., Any]) -> Callable[..., Any]:
    """A method as captum's own are: its NoiseTunnel calls ``attribute.__wrapped__``."""

    @functools.wraps(attribute)
    def method(*args: Any, **keywords: Any) -> Any:
        return attribute(*args, **keywords)

    return method


class _Attribution:
    attribute: Callable[..., Any]
    _fold = True  # whether batch norms may become part of the layers before them

    def __init__(self, model: nn.Module) -> None:
        if not isinstance(model, nn.Module):
            raise InputError(
                f"model must be a torch.nn.Module or a FusedModel, got {type(model).__name__}: make a function the "
                "forward of a module"
            )
        self.forward_func = model
        self._fused: tuple[FusedModel, object] | None = None

    @property
    def multiplies_by_inputs(self) -> bool:
        """Captum's name for attributions that are in the unit of what they explain, not in that of a gradient."""
        return True

    def has_convergence_delta(self) -> bool:
        """Yes: ``return_convergence_delta`` and ``compute_convergence_delta`` are there."""
        return True

    def compute_convergence_delta(
        self,
        attributions: Tensor | tuple[Tensor, ...],
        start_point: Tensor | tuple[Tensor, ...] | float | None,
        end_point: Tensor | tuple[Tensor, ...],
        target: Any = None,
        additional_forward_args: object = None,
    ) -> Tensor:
        """Σ attributions − (value at ``end_point`` − β), ``[B]``.

        Args:
            start_point: None or zeros; target: what ``attribute`` was given as its second argument.
        """
        start = _bare(start_point)
        if start is not None and torch.as_tensor(start).any():
            raise InputError("start_point must be None or zeros: attributions are relative to an input of zeros")
        found = self.attribute(_bare(end_point), target, additional_forward_args, return_convergence_delta=True)
        if isinstance(found, list):
            raise InputError(f"deltas are of one layer's attributions, this method has {len(found)} layers")
        own, delta = found
        return _bare(attributions).flatten(1).sum(1) - own.flatten(1).sum(1) + delta

    def _network(self, x: Tensor) -> FusedModel:
        """The model fused, at its first call and after a change of its weights, dtype or device."""
        model = self.forward_func
        if isinstance(model, FusedModel):
            return model
        check_evaluation_mode(model)
        weight = next(model.parameters(), x)
        state = weight.dtype, weight.device
        if self._fused is None or self._fused[0].outdated or self._fused[1] != state:
            self._fused = fuse(model, x, self._fold), state
        return self._fused[0]

    def _run(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        explain: Callable[[FusedModel, Tensor, slice], _Part],
        additional_forward_args: object,
        return_convergence_delta: bool,
        internal_batch_size: int | None,
    ) -> Any:
        """Explain inputs some at a time; the result is a tuple where the inputs are."""
        x = _one_tensor(inputs, additional_forward_args)
        parts = [explain(self._network(x), x[part], part) for part in _slices(len(x), internal_batch_size)]
        attributions: Any = torch.cat([part.attributions for part in parts])
        if isinstance(inputs, tuple):
            attributions = (attributions,)
        return (attributions, torch.cat([part.delta for part in parts])) if return_convergence_delta else attributions


class ForwardRelevance(_Attribution):
    """What each input element adds to one output, as captum's ``InputXGradient``.

    Args:
        model: in evaluation mode; it is fused with the inputs of the first call, again after a change of its weights.
            Or a FusedModel.
    """

    @_captum
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: Target = None,
        additional_forward_args: object = None,
        return_convergence_delta: bool = False,
        internal_batch_size: int | None = None,
    ) -> Any:
        """Attributions in the shape of the inputs.

        Args:
            inputs: ``[B, *shape]``, or a tuple that holds it; tokens ``[B, T]`` get one score each.
            target: None where the model returns one number for each input; a class, ``[B]`` classes or a list of them
                for an output ``[B, classes]``; for more dimensions a tuple of coordinates, or a list of B tuples.
            additional_forward_args: must be None.
            return_convergence_delta: return deltas ``[B]`` too.
            internal_batch_size: explain so many inputs at a time.

        Returns:
            Attributions, a tuple if the inputs are one; with ``return_convergence_delta`` a pair of them and deltas.
        """
        return self._run(
            inputs,
            lambda net, x, part: _explain(net, x, _part_of(target, part)),
            additional_forward_args,
            return_convergence_delta,
            internal_batch_size,
        )


class LayerForwardRelevance(_Attribution):
    """What each unit of a layer brings to one output: its value times its weight, as ``LayerGradientXActivation``.

    Args:
        model: as in ``ForwardRelevance``.
        layer: a module of the model, or a name from ``net.layers``; a list of them for a list of results.
    """

    _fold = False

    def __init__(self, model: nn.Module, layer: Layer | list[Layer]) -> None:
        super().__init__(model)
        self.layer = layer

    @_captum
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: Target = None,
        additional_forward_args: object = None,
        attribute_to_layer_input: bool = False,
        return_convergence_delta: bool = False,
        internal_batch_size: int | None = None,
    ) -> Any:
        """Attributions in the shape of the layer's output ``[B, ...]``, or of its input.

        The other arguments are those of ``ForwardRelevance.attribute``. β is here what reaches the output without
        passing the layer: biases behind it and paths around it.
        """

        def one(layer: Layer) -> Any:
            return self._run(
                _bare(inputs),
                lambda net, x, part: _explain_layer(
                    net, x, _part_of(target, part), net.place(layer, attribute_to_layer_input)
                ),
                additional_forward_args,
                return_convergence_delta,
                internal_batch_size,
            )

        return [one(layer) for layer in self.layer] if isinstance(self.layer, list) else one(self.layer)


class NeuronForwardRelevance(_Attribution):
    """What each input element adds to a neuron of a layer: captum's ``NeuronGradient`` times the input.

    Args:
        model: as in ``ForwardRelevance``.
        layer: a module of the model, or a name from ``net.layers``.
    """

    _fold = False

    def __init__(self, model: nn.Module, layer: Layer) -> None:
        super().__init__(model)
        self.layer = layer

    @_captum
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        neuron_selector: Selector,
        additional_forward_args: object = None,
        attribute_to_neuron_input: bool = False,
        return_convergence_delta: bool = False,
        internal_batch_size: int | None = None,
    ) -> Any:
        """Attributions in the shape of the inputs.

        Args:
            neuron_selector: the neuron's coordinates in the layer's output without the batch, an int where that has
                one dimension. A tuple with slices means the sum of what they select: ``net.attribute_units`` returns
                independent units instead. A function from the layer's output to ``[B]`` is replaced by its
                derivative there, which autograd finds.
            attribute_to_neuron_input: the neuron is one of the layer's input.

        The other arguments are those of ``ForwardRelevance.attribute``.
        """
        return self._run(
            inputs,
            lambda net, x, part: _explain_neuron(
                net, x, net.place(self.layer, attribute_to_neuron_input), neuron_selector
            ),
            additional_forward_args,
            return_convergence_delta,
            internal_batch_size,
        )


def _explain(net: FusedModel, x: Tensor, target: Any) -> _Part:
    return _part(net.attribute(x, _fitting(net, x, target), _elements(x), bias="separate"))


def _explain_layer(net: FusedModel, x: Tensor, target: Any, layer: str) -> _Part:
    target = _fitting(net, x, target)
    if layer == "input":
        return _part(net.attribute(x, target, "channels", bias="separate"))
    found = net.contributions(x, target, layer)
    return _Part(found.shares, -found.delta)


def _explain_neuron(net: FusedModel, x: Tensor, layer: str, selector: Selector) -> _Part:
    chosen: list[Tensor] = []

    def weights(value: Tensor) -> Tensor:
        selected, linear = _select(value, selector)
        chosen.append(selected)
        return linear

    found = net.attribute_sum(x, layer, weights, _elements(x), bias="separate")
    # A function's value may differ from the linear part that is explained; the delta says so.
    return _Part(found.scores[:, 0], found.outputs[:, 0] - found.delta[:, 0] - chosen[0])


def _elements(x: Tensor) -> str:
    """Features in the shape of the inputs: their elements, or one score a token."""
    return "channels" if x.is_floating_point() else "tokens"


def _part(found: Relevance) -> _Part:
    return _Part(found.scores[:, 0], -found.delta[:, 0])


def _select(value: Tensor, selector: Selector) -> tuple[Tensor, Tensor]:
    """What a selector takes from a layer's value ``[B, ...]``, as ``[B]``, and its derivative by the value."""
    with torch.inference_mode(False), torch.enable_grad():
        leaf = value.detach().clone().requires_grad_()
        chosen = selector(leaf) if callable(selector) else _units(leaf, selector)
        if not isinstance(chosen, Tensor) or chosen.shape != (len(leaf),) or not chosen.requires_grad:
            given = list(chosen.shape) if isinstance(chosen, Tensor) else type(chosen).__name__
            raise InputError(
                f"neuron_selector must turn the layer's output {list(leaf.shape)} into [{len(leaf)}] numbers that "
                f"depend on it; it returned {given}"
            )
        (linear,) = torch.autograd.grad(chosen.sum(), leaf)
    return chosen.detach(), linear


def _units(value: Tensor, selector: object) -> Tensor:
    """One unit of a layer's value ``[B, ...]``, or the sum over slices, ``[B]``."""
    index = selector if isinstance(selector, tuple) else (selector,)
    if len(index) != value.dim() - 1 or not all(isinstance(each, int | slice) for each in index):
        raise InputError(
            f"neuron_selector={selector!r} does not fit the layer's output {list(value.shape)}: give "
            f"{value.dim() - 1} integers or slices, or a function"
        )
    try:
        return value[(slice(None), *index)].reshape(len(value), -1).sum(1)
    except IndexError as error:
        raise InputError(f"neuron_selector={selector!r} is outside the layer's output: {error}") from error


def _fitting(net: FusedModel, x: Tensor, target: Any) -> Tensor | None:
    """A target in captum's forms as ``net.attribute`` takes it: one place for each input, ``[B, rank]``."""
    shape = net.output_shape
    if target is None:
        if shape is not None and torch.Size(shape).numel() != 1:
            raise InputError(
                f"target=None is for models that return one number for each input; this one returns {list(shape)} "
                "numbers: say which with an int, a tuple of coordinates, or a list or tensor of one for each input"
            )
        return None
    if isinstance(target, Tensor) and target.numel() == 1:
        target = target.item()
    if isinstance(target, int | tuple):
        target = [target] * len(x)
    try:
        chosen = torch.as_tensor(target)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"target={target!r} cannot be read as one unit for each input: {error}") from error
    if chosen.dim() == 0 or len(chosen) != len(x):
        raise InputError(f"target={target!r} does not hold one entry for each of {len(x)} inputs")
    chosen = chosen.view(len(x), -1)
    if shape is not None and chosen.shape[1] != len(shape):
        raise InputError(
            f"target={target!r} holds {chosen.shape[1]} coordinates for each input; the model returns {list(shape)} "
            "numbers for each, and one of them can be explained"
        )
    return chosen


def _part_of(target: Any, part: slice) -> Any:
    """The targets of some inputs; one for all is everybody's."""
    several = isinstance(target, list) or (isinstance(target, Tensor) and target.numel() > 1)
    return target[part] if several else target


def _slices(count: int, size: int | None) -> Iterator[slice]:
    if size is not None and (not isinstance(size, int) or size < 1):
        raise InputError(f"internal_batch_size={size!r} is not a positive number of inputs")
    return (slice(start, start + (size or count)) for start in range(0, count, size or count))


def _one_tensor(inputs: object, additional_forward_args: object) -> Tensor:
    if additional_forward_args is not None:
        raise InputError(
            "additional_forward_args must be None, since models are captured with one input: wrap the model in a "
            "module that holds the other arguments"
        )
    x = _bare(inputs)
    if not isinstance(x, Tensor) or x.dim() == 0 or len(x) == 0:
        given = f"shape {list(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise InputError(f"inputs must be one tensor [B, ...] that is not empty, or a tuple that holds it, got {given}")
    return x


def _bare(value: Any) -> Any:
    """The one tensor of a tuple."""
    if isinstance(value, tuple) and len(value) != 1:
        raise InputError(f"models of one input are explained, got a tuple of {len(value)} tensors")
    return value[0] if isinstance(value, tuple) else value
