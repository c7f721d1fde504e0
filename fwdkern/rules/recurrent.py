"""Recurrent layers and cells: gates are frozen, a tanh is its ratio, the path of the state is then linear.

Freezing the gates of an LSTM is the rule of Arras, Montavon, Müller & Samek, "Explaining Recurrent Neural Network
Predictions in Sentiment Analysis" (2017), who give a gate no relevance and what it gates all of it; the ratio
f(z) / z takes the place of their epsilon rule, and makes the scores sum to the unit's value.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from fwdkern.ops.recurrent_freeze import GATES, recurrent_freeze, step
from fwdkern.ops.recurrent_scan import recurrent_scan
from fwdkern.rules.frozen import Frozen
from fwdkern.rules.registry import Call, Live, NoRule, plain, register

aten = torch.ops.aten

PARTS = ("output", "h_n", "c_n")
# Which of a weight's rows lead into the state past no gate, as multiples of the hidden size.
_CANDIDATE = {"rnn_tanh": 0, "rnn_relu": 0, "lstm": 2, "gru": 2}


@dataclass(frozen=True)
class Weights:
    """One direction of one layer: ``into`` [gates · H, D], ``recurrent`` [gates · H, P], their biases [gates · H] or
    None, and of an LSTM with a projection ``project`` [P, H], else None, and P is H."""

    into: Tensor
    recurrent: Tensor
    bias_into: Tensor | None
    bias_recurrent: Tensor | None
    project: Tensor | None

    @property
    def exposed(self) -> Tensor:
        """From what the state exposes to the gates, past the projection: [gates · H, H]."""
        return self.recurrent if self.project is None else self.recurrent @ self.project


class Direction:
    """One direction of one layer, frozen at an input: an affine recurrence of the state.

    Args:
        kind: of the cell; x: [B, T, D]; h, c: the initial state, [B, P] and [B, H], c None but for an LSTM; lengths:
        int64 [B]; descending: from the last step to the first.
    """

    def __init__(
        self,
        kind: str,
        weights: Weights,
        x: Tensor,
        h: Tensor,
        c: Tensor | None,
        lengths: Tensor,
        descending: bool,
    ) -> None:
        self.project, self.descending, self.lengths = weights.project, descending, lengths
        driven = x @ weights.into.mT
        if weights.bias_into is not None:
            driven += weights.bias_into
        start, exposed = h if c is None else c, weights.exposed
        begun = bool(h.any()) or bool(start.any())
        first = h @ weights.recurrent.mT if begun else h.new_zeros(len(h), len(weights.recurrent))
        fields = recurrent_freeze(driven, exposed, weights.bias_recurrent, first, start, lengths, kind, descending)
        self.state, self.gain = fields["state"], fields["gain"]  # [B, T, H]
        self.keep, self.expose, self.feed = fields.get("keep"), fields.get("expose"), fields.get("feed", self.gain)
        hidden = self.state.shape[2]
        own = slice(_CANDIDATE[kind] * hidden, (_CANDIDATE[kind] + 1) * hidden)
        self.into, self.weight = weights.into[own], _rows_of(exposed, own)
        self.bias = torch.zeros_like(self.state)
        if weights.bias_into is not None:
            self.bias.addcmul_(self.gain, weights.bias_into[own])
        if weights.bias_recurrent is not None:
            self.bias.addcmul_(self.feed, weights.bias_recurrent[own])
        if not begun:
            return
        # The initial state is a constant that enters at the first step that is not padding.
        at = torch.arange(len(x), device=x.device), (lengths - 1).clamp_min(0) if descending else 0
        self.bias[at] += self.feed[at] * first[:, own]
        if self.keep is not None:
            self.bias[at] += self.keep[at] * start

    @property
    def last(self) -> Tensor:
        """The step [B] after which the direction ends."""
        return torch.zeros_like(self.lengths) if self.descending else (self.lengths - 1).clamp_min(0)

    def shown(self, states: Tensor, overwrite: bool = False) -> Tensor:
        """Of states (or their maps) [..., B, T, H], which are not read again if ``overwrite``, what others see,
        [..., B, T, P]."""
        if self.expose is not None:
            states = states.mul_(self.expose) if overwrite else states * self.expose
        return states if self.project is None else states @ self.project.mT

    def hidden(self, maps: Tensor) -> Tensor:
        """The transpose of ``shown``."""
        if self.project is not None:
            maps = maps @ self.project
        return maps if self.expose is None else maps * self.expose

    def offset(self) -> Tensor:
        """States [B, T, H] that the biases and the initial state alone make."""
        return self._scan(self.bias.clone()[None], torch.ones(1, self.bias.shape[1], dtype=torch.bool))[0]

    def forward(self, maps: Tensor) -> Tensor:
        """Maps of the states [S, B, T, H] from those of the inputs [S, B, T, D], without the bias."""
        there = (maps != 0).any(-1)  # [S, B, T]
        if 2 * int(there.sum()) > there.numel():
            states = maps @ self.into.mT
            states *= self.gain
        else:
            # Of a token's slice all other steps are 0.
            states = maps.new_zeros(*maps.shape[:-1], len(self.into))
            _, example, moment = where = there.nonzero(as_tuple=True)
            states[where] = (maps[where] @ self.into.mT) * self.gain[example, moment]
        return self._scan(states, there.any(1).cpu())

    def reverse(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """From cotangents of the states [K, B, T, H], which are overwritten, those of the inputs [K, B, T, D] and the
        bias mass [K, B]."""
        there = (maps != 0).any(-1).any(1).cpu()
        shift = 1 if self.descending else -1
        keep = None if self.keep is None else self.keep.roll(shift, 1)
        gain = torch.ones_like(self.gain) if self.expose is None else self.expose
        back = not self.descending
        recurrent_scan(maps, self.weight, True, keep, self.feed, gain, active_slices(there, back), back)
        mass = (maps * self.bias).flatten(2).sum(2)
        return (maps * self.gain) @ self.into, mass

    def _scan(self, states: Tensor, there: Tensor) -> Tensor:
        active = active_slices(there, self.descending)
        return recurrent_scan(
            states.contiguous(), self.weight, False, self.keep, self.expose, self.feed, active, self.descending
        )


# Parts of weights that are cut once, so that a part is one tensor to those who keep something by it.
_parts: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def _rows_of(weight: Tensor, rows: slice) -> Tensor:
    if rows == slice(0, len(weight)):
        return weight
    known = _parts.get(weight)
    if known is None or known.data_ptr() != weight[rows].data_ptr():
        known = _parts[weight] = weight.detach()[rows]
    return known


def active_slices(there: Tensor, descending: bool) -> Tensor:
    """For every step the hull of the slices that have been anything but 0 so far, int64 [T, 2].

    there: bool [S, T], where a slice is anything but 0 before the recurrence.
    """
    begun = (there.flip(1) if descending else there).cummax(1).values  # [S, T]
    count = len(begun)
    number = torch.arange(count)[:, None]
    low = number.where(begun, count).amin(0)
    high = (number + 1).where(begun, 0).amax(0)
    hull = torch.stack([low.minimum(high), high], 1)
    return (hull.flip(0) if descending else hull).contiguous()


def _beside(parts: list[Tensor]) -> Tensor:
    """What the directions of a layer show, as its output."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


class Recurrent(Frozen):
    """A stack of recurrent layers, each of one or two directions; one of the parts that torch's layers return.

    Args:
        layers: from the first to the last, the directions of each; part: ``"output"`` [B, T, directions · P], or the
        states after the last step, ``"h_n"`` [B, layers · directions, P] or ``"c_n"`` [B, layers · directions, H].
    """

    def __init__(self, layers: list[list[Direction]], part: str) -> None:
        self.layers, self.part = layers, part

    @cached_property
    def offset(self) -> Tensor:  # type: ignore[override]
        """What biases and initial states make of the part, with all inputs 0."""
        return self._carry(None)[0]

    @cached_property
    def value(self) -> Tensor:
        """The part itself, as the frozen layers ran."""
        states = [[direction.state[None] for direction in layer] for layer in self.layers]
        return self._part(states)[0]

    @property
    def multiplies(self) -> float:
        """Multiply-adds of one slice through all layers, for the whole batch."""
        directions = [direction for layer in self.layers for direction in layer]
        return float(sum(d.state.numel() * (d.into.shape[1] + len(d.weight)) for d in directions))

    def forward(self, *maps: Tensor) -> Tensor:
        return self._carry(maps[0])

    def _carry(self, maps: Tensor | None) -> Tensor:
        """Maps without the biases, or the biases alone, [1, ...], where there are none."""
        biases, all_states = maps is None, []
        for layer in self.layers:
            states = []
            for direction in layer:
                parts = [direction.offset()[None]] if biases else []
                parts += [direction.forward(maps)] if maps is not None else []
                states.append(sum(parts[1:], parts[0]))
            if self.part == "output":
                maps = _beside([d.shown(part, overwrite=True) for d, part in zip(layer, states, strict=True)])
            else:
                all_states.append(states)
                maps = _beside([d.shown(part) for d, part in zip(layer, states, strict=True)])
        assert maps is not None
        return maps if self.part == "output" else self._part(all_states)

    def _part(self, states: list[list[Tensor]]) -> Tensor:
        """The part of states (or their maps) [S, B, T, H]."""
        if self.part == "output":
            return _beside([d.shown(part) for d, part in zip(self.layers[-1], states[-1], strict=True)])
        ends = []
        for layer, parts in zip(self.layers, states, strict=True):
            for direction, part in zip(layer, parts, strict=True):
                whole = part if self.part == "c_n" else direction.shown(part)
                ends.append(whole[:, torch.arange(whole.shape[1], device=whole.device), direction.last])
        return torch.stack(ends, 2)

    def reverse(self, maps: Tensor) -> tuple[Tensor, ...]:
        return (self._pull(maps)[0],)

    def pull(self, maps: Tensor, behind: Sequence[Frozen] = ()) -> tuple[tuple[Tensor, ...], Tensor]:
        for operator in behind:
            (maps,) = operator.reverse(maps)
        pulled, mass = self._pull(maps)
        return (pulled,), mass

    def _pull(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        mass = maps.new_zeros(maps.shape[:2])
        above = maps if self.part == "output" else None  # cotangents of what a layer shows, [K, B, T, directions · P]
        place = sum(len(layer) for layer in self.layers)
        for layer in reversed(self.layers):
            below = None
            place -= len(layer)
            shown = [None] * len(layer) if above is None else above.chunk(len(layer), -1)
            for number, (direction, part) in enumerate(zip(layer, shown, strict=True)):
                end = None if self.part == "output" else maps[:, :, place + number]
                pulled, own = direction.reverse(self._states(direction, part, end))
                mass += own
                below = pulled if below is None else below + pulled
            above = below
        assert above is not None
        return above, mass

    def _states(self, direction: Direction, shown: Tensor | None, end: Tensor | None) -> Tensor:
        """Cotangents of a direction's states [K, B, T, H] from those of what it shows [K, B, T, P] and of its last
        state [K, B, P or H]; None is 0."""
        states = None if shown is None else direction.hidden(shown)
        if states is shown and shown is not None:
            states = shown.clone(memory_format=torch.contiguous_format)
        if end is None:
            assert states is not None
            return states.contiguous()
        example = torch.arange(end.shape[1], device=end.device)
        if self.part == "h_n":
            if direction.project is not None:
                end = end @ direction.project
            if direction.expose is not None:
                end = end * direction.expose[example, direction.last]
        if states is None:
            states = end.new_zeros(len(end), *direction.state.shape)
        states = states.contiguous()
        states[:, example, direction.last] += end
        return states

    def reach(self, *boxes: Tensor) -> Tensor:
        (box,) = boxes
        ends: list[Tensor] = []
        for layer in self.layers:
            seen = box.amax(-1, keepdim=True)  # [4, B, T, 1]
            shown = []
            for direction in layer:
                far = seen.flip(2).cummax(2).values.flip(2) if direction.descending else seen.cummax(2).values
                size = direction.shown(direction.state[:, :1]).shape[-1]
                shown.append(far.expand(*far.shape[:-1], size))
                at = torch.arange(far.shape[1], device=far.device)
                wide = direction.state.shape[-1] if self.part == "c_n" else size
                ends.append(far[:, at, direction.last].expand(-1, -1, wide))
            box = torch.cat(shown, -1)
        return box if self.part == "output" else torch.stack(ends, 2)


def freeze_recurrent(
    kind: str,
    x: Tensor,
    state: Sequence[Tensor],
    weights: list[Weights],
    bidirectional: bool,
    part: str = "output",
    lengths: Tensor | None = None,
) -> Recurrent:
    """A stack of recurrent layers frozen at an input.

    Args:
        x: [B, T, D]; state: the initial h [layers · directions, B, P] and, of an LSTM, c [layers · directions, B, H].
        weights: one for each direction of each layer; lengths: int64 [B], None where nothing is padding.
    """
    if lengths is None:
        lengths = torch.full((len(x),), x.shape[1], device=x.device)
    directions = 2 if bidirectional else 1
    layers: list[list[Direction]] = []
    for first in range(0, len(weights), directions):
        layer = []
        for descending in range(directions):
            at = first + descending
            h, c = state[0][at], state[1][at] if kind == "lstm" else None
            layer.append(Direction(kind, weights[at], x, h, c, lengths, bool(descending)))
        x = _beside([direction.shown(direction.state) for direction in layer])
        layers.append(layer)
    return Recurrent(layers, part)


def unpack_weights(kind: str, tensors: Sequence[Tensor], has_biases: bool) -> list[Weights]:
    """Torch's flat list of a recurrent layer's weights, by layers and directions."""
    count = 4 if has_biases else 2
    # A projection is a fifth tensor, which torch's list of dimensions tells from a bias or the next weight.
    hidden = tensors[0].shape[0] // GATES[kind]
    if tensors[1].shape[1] != hidden:
        count += 1
    found = []
    for i in range(0, len(tensors), count):
        into, recurrent, *rest = tensors[i : i + count]
        bias_into, bias_recurrent = rest[:2] if has_biases else (None, None)
        found.append(Weights(into, recurrent, bias_into, bias_recurrent, rest[-1] if count % 2 else None))
    return found


def recurrent(
    x: Tensor,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    kind: str,
    has_biases: bool,
    layers: int,
    bidirectional: bool,
    part: str,
) -> Tensor:
    """A part of a recurrent layer's result as an operator of its own, batch first: [B, T, ...] or [B, states, ...]."""
    common = has_biases, layers, 0.0, False, bidirectional, True
    if kind == "lstm":
        results = aten.lstm.input(x, list(state), list(weights), *common)
    else:
        overload = {"gru": aten.gru.input, "rnn_tanh": aten.rnn_tanh.input, "rnn_relu": aten.rnn_relu.input}[kind]
        results = overload(x, state[0], list(weights), *common)
    value = results[PARTS.index(part)]
    return value if part == "output" else value.transpose(0, 1)


@register("recurrence", recurrent)
def freeze(call: Call) -> Frozen:
    """recurrent(x, state, weights, kind, has_biases, layers, bidirectional, part)."""
    x, state, tensors, kind, has_biases, _, bidirectional, part = call.args
    if any(isinstance(value, Live) for value in (*state, *tensors)):
        raise NoRule("a recurrent layer whose initial state or weights depend on the input")
    return freeze_recurrent(kind, plain(x), state, unpack_weights(kind, tensors, has_biases), bidirectional, part)


class CellStep(Frozen):
    """One step of a cell, frozen: an affine map of x [B, D], h [B, P] and, of an LSTM, c [B, H].

    Args:
        live: which of x, h, c depend on the network's input; part: 0 for the new h, 1 for the new c.
    """

    def __init__(self, kind: str, weights: Weights, values: Sequence[Any], part: int) -> None:
        x, h, *rest = (plain(value) for value in values)
        self.live = [isinstance(value, Live) for value in values]
        state = rest[0] if rest else h
        driven, recurrent = x @ weights.into.mT, h @ weights.recurrent.mT
        driven = driven if weights.bias_into is None else driven + weights.bias_into
        biased = recurrent if weights.bias_recurrent is None else recurrent + weights.bias_recurrent
        fields = step(kind, driven, biased, state)
        self.gain, self.keep = fields["gain"], fields.get("keep")
        self.feed = fields.get("feed", self.gain)
        self.expose = fields.get("expose") if part == 0 else None
        hidden = self.gain.shape[1]
        own = slice(_CANDIDATE[kind] * hidden, (_CANDIDATE[kind] + 1) * hidden)
        self.into, self.weight, self.separate = weights.into[own], weights.recurrent[own], bool(rest)
        constant = torch.zeros_like(self.gain)
        for bias, factor in ((weights.bias_into, self.gain), (weights.bias_recurrent, self.feed)):
            if bias is not None:
                constant = constant + factor * bias[own]
        fixed = [None if live else value[None] for value, live in zip((x, h, *rest), self.live, strict=True)]
        self.offset = self._shown(self._states(fixed)[0] + constant)

    def _shown(self, states: Tensor) -> Tensor:
        return states if self.expose is None else states * self.expose

    def _states(self, maps: Sequence[Tensor | None]) -> Tensor:
        """Maps of the new state [S, B, H] from those of x, h and c, None for 0."""
        x, h, *rest = maps
        c = rest[0] if self.separate else h
        total = self.gain.new_zeros(1, *self.gain.shape)
        if x is not None:
            total = total + (x @ self.into.mT) * self.gain
        if h is not None:
            total = total + (h @ self.weight.mT) * self.feed
        if c is not None and self.keep is not None:
            total = total + c * self.keep
        return total

    def forward(self, *maps: Tensor) -> Tensor:
        given = iter(maps)
        return self._shown(self._states([next(given) if live else None for live in self.live]))

    def reverse(self, maps: Tensor) -> tuple[Tensor, ...]:
        states = self._shown(maps)
        kept = None if self.keep is None else states * self.keep
        h = (states * self.feed) @ self.weight
        if kept is not None and not self.separate:
            h = h + kept
        pulled = [(states * self.gain) @ self.into, h, kept]
        return tuple(part for part, live in zip(pulled, self.live, strict=False) if live and part is not None)

    def reach(self, *boxes: Tensor) -> Tensor:
        wide = [box.amax(-1, keepdim=True).expand(4, *self.gain.shape) for box in boxes]
        return torch.stack(wide).amax(0)


def _freeze_cell(call: Call, kind: str, values: Sequence[Any], part: int) -> CellStep:
    into, recurrent, bias_into, bias_recurrent = (call.argument(2 + i, name) for i, name in enumerate(_CELL_WEIGHTS))
    return CellStep(kind, Weights(into, recurrent, bias_into, bias_recurrent, None), values, part)


_CELL_WEIGHTS = ("w_ih", "w_hh", "b_ih", "b_hh")


@register("recurrent cell", aten.rnn_tanh_cell.default, aten.rnn_relu_cell.default, aten.gru_cell.default)
def cell(call: Call) -> Frozen:
    """cell(x, h, w_ih, w_hh, b_ih, b_hh)."""
    kinds = {aten.rnn_tanh_cell.default: "rnn_tanh", aten.rnn_relu_cell.default: "rnn_relu"}
    return _freeze_cell(call, kinds.get(call.target, "gru"), call.args[:2], 0)


def lstm_cell(
    x: Tensor,
    state: Sequence[Tensor],
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
    part: int = 0,
) -> Tensor:
    """The new h (part 0) or c (part 1) of an LSTM cell, as an operator of its own."""
    return aten.lstm_cell.default(x, list(state), w_ih, w_hh, b_ih, b_hh)[part]


@register("recurrent cell", lstm_cell)
def freeze_lstm_cell(call: Call) -> Frozen:
    """lstm_cell(x, (h, c), w_ih, w_hh, b_ih, b_hh, part)."""
    return _freeze_cell(call, "lstm", (call.args[0], *call.args[1]), call.argument(6, "part", 0))
