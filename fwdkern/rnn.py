"""Drop-in recurrent layers: torch's own, without autograd, whose every step's every unit has scores.

    rnn = RelevanceLSTM.from_torch(lstm)
    output, state = rnn(x)                     # what lstm returns
    result = rnn.attribute(x)                  # scores of the last step's units from every token, [B, H, T]

``fwdkern.fuse`` takes whole models, with the embedding in front and the classifier behind.
"""

from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from fwdkern.engine.attribution import Job, Request
from fwdkern.engine.checks import check_finite, check_input
from fwdkern.engine.features import Features, parse_features
from fwdkern.engine.memory import require_memory
from fwdkern.engine.options import Options, parse_options
from fwdkern.engine.tape import Step, Tape
from fwdkern.engine.thesis import thesis_scores
from fwdkern.engine.units import Units, parse_units
from fwdkern.errors import InputError
from fwdkern.nn.conv import frozen_parameter
from fwdkern.relevance import Relevance
from fwdkern.rules.linear import Linear
from fwdkern.rules.recurrent import CellStep, Recurrent, Weights, freeze_recurrent, unpack_weights
from fwdkern.rules.registry import Live

__all__ = [
    "RelevanceGRU",
    "RelevanceGRUCell",
    "RelevanceLSTM",
    "RelevanceLSTMCell",
    "RelevanceRNN",
    "RelevanceRNNCell",
]


class _Shared(nn.Module):
    """A torch layer whose weights are those of another one."""

    def _share(self, layer: nn.Module) -> Self:
        for name, parameter in layer.named_parameters():
            setattr(self, name, frozen_parameter(parameter))
        return self.eval()


class _Recurrent(_Shared, nn.RNNBase):
    """What the three layers have in common; see ``RelevanceLSTM`` for an example."""

    @torch.no_grad()
    def forward(self, input: Tensor | PackedSequence, hx: Any = None) -> Any:
        """The plain output and final state, as torch's layer returns them, without history."""
        return super().forward(input, hx)

    @torch.no_grad()
    def attribute(
        self,
        inputs: Tensor | PackedSequence,
        units: str | Tensor | None = None,
        *,
        state: Any = None,
        lengths: Tensor | Sequence[int] | None = None,
        head: nn.Linear | None = None,
        features: str | Tensor = "tokens",
        bias: str = "uniform",
        mode: str = "auto",
        rule: str = "ratio",
        output_function: Callable[[Tensor], Tensor] | None = None,
        memory: int | str = "2GiB",
        strict: bool = False,
    ) -> Relevance:
        """Scores of hidden units, or of a linear head's outputs, at any step from every step's input.

        Args:
            inputs: ``[B, T, D]`` (``[T, B, D]`` where ``batch_first`` is off), or packed sequences.
            units: None for all units of each sequence's last step, ``"all"`` for all of all steps, or int ``[K, 2]``,
                step and unit; of a bidirectional layer the second direction's units follow the first's.
            state: the initial state, as the layer takes it; it counts as bias.
            lengths: int ``[B]``, how many steps of each sequence are not padding; None: all. Not for packed sequences.
            head: a linear layer whose outputs are explained in place of the hidden units.
            features: ``"tokens"`` (one score a step), ``"channels"`` (one for each of its D numbers), or an integer
                label map ``[T]`` of segments.
            bias: ``"uniform"`` spreads what biases and the initial state add over all steps, ``"receptive_field"`` over
                those that the unit has seen, ``"separate"`` leaves it out.
            mode: ``"forward"`` carries all steps' scores together, ``"reverse"`` pulls units back; ``"auto"`` takes the
                cheaper.
            rule: ``"ratio"``, whose scores sum to the unit's value, or ``"thesis"``, equation 4 (see
                ``fwdkern.equation4``), for a plain RNN of one layer and direction.
            output_function: with the thesis's rule and a head, g, which acts on each element; by default none.
            memory, strict: as in ``FusedModel.attribute``.

        Returns:
            Relevance with scores ``[B, K, T]``, or ``[B, K, T, D]`` for channels.
        """
        if isinstance(units, str) and units != "all":
            raise InputError(f'units={units!r} is not None, "all" or a tensor of steps and units [K, 2]')
        x, lengths = self._sequences(inputs, lengths)
        request_units = "all" if units is None else units
        frozen = self._freeze(x, state, lengths)
        steps = [Step("input", x, (), None), Step("output", frozen.value, (0,), frozen)]
        if head is not None:
            _check_head(head, frozen.value)
            bias_of_head = None if head.bias is None else head.bias.detach()
            value = nn.functional.linear(frozen.value, head.weight.detach(), bias_of_head)
            steps.append(Step("head", value, (1,), Linear(head.weight.detach(), bias_of_head)))
        tape = Tape(steps, sequence=True)
        value = steps[-1].value
        parsed = _last_units(value, lengths) if units is None else parse_units(request_units, value, steps[-1].name)
        if units is not None and not isinstance(units, str):
            _check_inside(parsed, lengths)
        asked = parse_features(features, x, sequence=True)
        options = parse_options(bias, mode, "dense", "torch", memory, strict)
        request = Request(len(steps) - 1, parsed, steps[-1].name)
        if rule == "thesis":
            return self._thesis(tape, frozen, request, asked, options, output_function)
        if rule != "ratio":
            raise InputError(f'rule={rule!r} is not one of "ratio", "thesis"')
        if output_function is not None:
            raise InputError('output_function belongs to rule="thesis"; the ratio rule explains the head itself')
        return Job(None, tape, [request], asked, options).run()[0]

    @torch.no_grad()
    def forward_relevance(self, x: Tensor, rows: Tensor, state: Any = None) -> tuple[Tensor, Tensor]:
        """Carry the rows of the input's units to those of every step's output (see ``fwdkern.nn``).

        Args:
            x: ``[B, T, D]`` (``[T, B, D]`` where ``batch_first`` is off).
            rows: ``[S + 1, *x.shape]``: S slices of maps, then the bias mass as the last one.

        Returns:
            The plain output, and rows ``[S + 1, *output.shape]``.
        """
        own, carried = (x, rows) if self.batch_first else (x.transpose(0, 1), rows.transpose(1, 2))
        frozen = self._freeze(own, state, self._all(own))
        carried = frozen.forward(carried)
        carried[-1] += frozen.offset
        return self._outward(frozen.value, carried)

    @torch.no_grad()
    def reverse_relevance(self, x: Tensor, rows: Tensor, state: Any = None) -> tuple[Tensor, Tensor]:
        """Pull targets back from every step's output to the input.

        Args:
            rows: ``[K, *output.shape]``, linear forms of the output.

        Returns:
            The pulled targets ``[K, *x.shape]`` and the bias mass ``[K, B]``.
        """
        own, pulled = (x, rows) if self.batch_first else (x.transpose(0, 1), rows.transpose(1, 2))
        (pulled,), mass = self._freeze(own, state, self._all(own)).pull(pulled)
        return pulled if self.batch_first else pulled.transpose(1, 2), mass

    def _outward(self, value: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        return (value, rows) if self.batch_first else (value.transpose(0, 1), rows.transpose(1, 2))

    @property
    def _kind(self) -> str:
        return self.mode.lower()  # "RNN_TANH", "RNN_RELU", "LSTM", "GRU"

    def _all(self, x: Tensor) -> Tensor:
        return torch.full((len(x),), x.shape[1], device=x.device)

    def _sequences(
        self, inputs: Tensor | PackedSequence, lengths: Tensor | Sequence[int] | None
    ) -> tuple[Tensor, Tensor]:
        """Inputs as [B, T, D] and their lengths int64 [B]."""
        weight: Tensor = self._flat_weights[0]  # type: ignore[assignment]
        if isinstance(inputs, PackedSequence):
            if lengths is not None:
                raise InputError("packed sequences carry their lengths: give either, not both")
            if not isinstance(inputs.data, Tensor):
                raise InputError(f"packed sequences hold {type(inputs.data).__name__} as data: they were packed twice")
            x, found = pad_packed_sequence(inputs, batch_first=True)
            lengths = found.to(x.device)
        else:
            x = inputs
            if isinstance(x, Tensor) and not self.batch_first and x.dim() == 3:
                x = x.transpose(0, 1)
        x = check_input(x, (0, self.input_size), weight.dtype, weight.device, sequence=True)
        if lengths is None:
            return x, self._all(x)
        given = torch.as_tensor(lengths, device=x.device)
        if given.is_floating_point() or given.dtype is torch.bool or given.shape != (len(x),):
            raise InputError(
                f"lengths must be {len(x)} integers, one a sequence, got {given.dtype} {list(given.shape)}"
            )
        if int(given.min()) < 1:
            raise InputError(f"lengths: sequence {int(given.argmin())} is empty, its length is {int(given.min())}")
        if int(given.max()) > x.shape[1]:
            raise InputError(
                f"lengths: sequence {int(given.argmax())} has {int(given.max())} steps, the inputs hold {x.shape[1]}"
            )
        return x, given.long()

    def _freeze(self, x: Tensor, state: Any, lengths: Tensor) -> Recurrent:
        if self.training and self.dropout:
            raise InputError("the layer is in training mode, where its dropout is random: call eval() first")
        lstm = self._kind == "lstm"
        given = state if isinstance(state, (tuple, list)) else (state,)
        if state is None:
            return self._frozen(x, self._zeros(x, lstm), lengths)
        if len(given) != 1 + lstm or not all(isinstance(part, Tensor) for part in given):
            raise InputError(f"state must be {'a pair (h, c)' if lstm else 'one tensor h'}, got {type(state).__name__}")
        for name, part, like in zip("hc", given, self._zeros(x, lstm), strict=False):
            if part.shape != like.shape or part.dtype != like.dtype or part.device != like.device:
                raise InputError(
                    f"state: {name} is {part.dtype} {list(part.shape)} on {part.device}; expected {like.dtype} "
                    f"{list(like.shape)} on {like.device}"
                )
            if not bool(part.isfinite().all()):
                raise InputError(f"state: {name} holds NaN or infinite values")
        return self._frozen(x, given, lengths)

    def _frozen(self, x: Tensor, state: Sequence[Tensor], lengths: Tensor) -> Recurrent:
        weights = unpack_weights(self._kind, self._flat_weights, self.bias)  # type: ignore[arg-type]
        return freeze_recurrent(self._kind, x, state, weights, self.bidirectional, lengths=lengths)

    def _zeros(self, x: Tensor, lstm: bool) -> list[Tensor]:
        """The initial state where none is given, and the shapes of one that is."""
        rows = self.num_layers * (2 if self.bidirectional else 1)
        sizes = [self.proj_size or self.hidden_size] + [self.hidden_size] * lstm
        return [x.new_zeros(rows, len(x), size) for size in sizes]

    def _thesis(
        self,
        tape: Tape,
        frozen: Recurrent,
        request: Request,
        features: Features,
        options: Options,
        g: Callable[[Tensor], Tensor] | None,
    ) -> Relevance:
        if not self._kind.startswith("rnn") or self.num_layers > 1 or self.bidirectional:
            raise InputError('rule="thesis" is about a plain RNN of one layer and one direction; use rule="ratio"')
        if options.mode == "reverse":
            raise InputError('rule="thesis" is not linear, so it has no reverse mode; use mode="forward"')
        x = tape.input
        value = tape.steps[request.step].value
        value = value if g is None or request.step == 1 else g(value)
        v = None if request.step == 1 else tape.steps[2].frozen.weight  # type: ignore[union-attr]
        u, w = self._flat_weights[:2]
        assert isinstance(u, Tensor) and isinstance(w, Tensor)
        f = torch.relu if self._kind == "rnn_relu" else torch.tanh
        require_memory(
            len(x) * request.units.count * features.count * x.element_size(), "the scores of these units", x.device
        )
        scores = thesis_scores(
            x, u.detach(), w.detach(), f, frozen.value, request.units, features,
            options.memory, v, value, g,
        )  # fmt: skip
        outputs = request.units.gather(value)
        return Relevance(
            scores,
            torch.zeros_like(outputs),
            outputs,
            request.units.index,
            request.layer,
            features.kind,
            "forward",
            bias_in_scores=False,
            note="equation 4 of the thesis: scores do not sum to the unit's value",
        )


def _check_head(head: nn.Linear, value: Tensor) -> None:
    if not isinstance(head, nn.Linear) or head.in_features != value.shape[2]:
        raise InputError(f"head must be a linear layer from {value.shape[2]} numbers, got {head}")


def _last_units(value: Tensor, lengths: Tensor) -> Units:
    """All units of each sequence's last step, of a value [B, T, H]."""
    width = value.shape[2]
    unit = torch.arange(width, device=value.device)
    flat = (lengths[:, None] - 1) * width + unit  # [B, H]
    return Units(tuple(value.shape[1:]), flat, torch.stack([flat // width, flat % width], 2))


def _check_inside(units: Units, lengths: Tensor) -> None:
    last = int(units.index[:, 0].max())
    if last >= int(lengths.min()):
        short = int(lengths.argmin())
        raise InputError(f"units: step {last} is padding in sequence {short}, which has {int(lengths[short])} steps")


class RelevanceRNN(_Recurrent, nn.RNN):
    """torch's ``nn.RNN`` with scores: h = f(W_ih x + b_ih + W_hh h + b_hh), f tanh or ReLU."""

    @classmethod
    def from_torch(cls, layer: nn.RNN) -> Self:
        """The same layer; weights are shared."""
        return _like(cls, layer, nn.RNN, nonlinearity=layer.nonlinearity)


class RelevanceLSTM(_Recurrent, nn.LSTM):
    """torch's ``nn.LSTM`` with scores: gates are frozen, the path through the cell is linear."""

    @classmethod
    def from_torch(cls, layer: nn.LSTM) -> Self:
        """The same layer; weights are shared."""
        return _like(cls, layer, nn.LSTM, proj_size=layer.proj_size)


class RelevanceGRU(_Recurrent, nn.GRU):
    """torch's ``nn.GRU`` with scores: its gates z and r are frozen."""

    @classmethod
    def from_torch(cls, layer: nn.GRU) -> Self:
        """The same layer; weights are shared."""
        return _like(cls, layer, nn.GRU)


def _like(cls: Any, layer: Any, kind: Any, **more: Any) -> Any:
    if not isinstance(layer, kind):
        raise InputError(f"{cls.__name__}.from_torch takes nn.{kind.__name__}, got {type(layer).__name__}")
    made = cls(
        layer.input_size,
        layer.hidden_size,
        num_layers=layer.num_layers,
        bias=layer.bias,
        batch_first=layer.batch_first,
        dropout=layer.dropout,
        bidirectional=layer.bidirectional,
        device="meta",
        dtype=layer.weight_ih_l0.dtype,
        **more,
    )
    return made._share(layer)


class _Cell(_Shared, nn.RNNCellBase):
    """One step: what the three cells have in common."""

    @torch.no_grad()
    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """The plain new state, as torch's cell returns it, without history."""
        return super().forward(input, hx)

    @torch.no_grad()
    def forward_relevance(self, x: Tensor, rows: Tensor, state: Any = None, state_rows: Any = None) -> tuple[Any, Any]:
        """One step of values and of rows.

        Args:
            x: ``[B, D]``; rows: ``[S + 1, B, D]``: S slices of maps, then the bias mass as the last one.
            state: ``[B, H]``, of an LSTM a pair of them, None for zeros; state_rows: its rows ``[S + 1, B, H]``, or a
                pair of them; None where the state is a constant, whose part is bias mass.

        Returns:
            The new state and its rows, in the same form.
        """
        lstm = isinstance(self, nn.LSTMCell)
        check_finite(x)
        zeros = x.new_zeros(len(x), self.hidden_size)
        given = [zeros] * (1 + lstm) if state is None else list(state) if lstm else [state]
        carried = [None] * (1 + lstm) if state_rows is None else list(state_rows) if lstm else [state_rows]
        values = [Live(x, 0), *(s if r is None else Live(s, 0) for s, r in zip(given, carried, strict=True))]
        maps = [rows, *(r for r in carried if r is not None)]
        weights = Weights(self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh, None)
        new_rows = []
        for part in range(1 + lstm):
            frozen = CellStep(self._kind, weights, values, part)
            new = frozen.forward(*maps)
            assert frozen.offset is not None
            new[-1] += frozen.offset
            new_rows.append(new)
        new_state = self.forward(x, state)
        return new_state, tuple(new_rows) if lstm else new_rows[0]

    @property
    def _kind(self) -> str:
        match self:
            case nn.LSTMCell():
                return "lstm"
            case nn.GRUCell():
                return "gru"
        return f"rnn_{self.nonlinearity}"


class RelevanceRNNCell(_Cell, nn.RNNCell):
    """torch's ``nn.RNNCell`` with scores."""

    @classmethod
    def from_torch(cls, cell: nn.RNNCell) -> Self:
        """The same cell; weights are shared."""
        return _like_cell(cls, cell, nn.RNNCell, nonlinearity=cell.nonlinearity)


class RelevanceLSTMCell(_Cell, nn.LSTMCell):
    """torch's ``nn.LSTMCell`` with scores."""

    @classmethod
    def from_torch(cls, cell: nn.LSTMCell) -> Self:
        """The same cell; weights are shared."""
        return _like_cell(cls, cell, nn.LSTMCell)


class RelevanceGRUCell(_Cell, nn.GRUCell):
    """torch's ``nn.GRUCell`` with scores."""

    @classmethod
    def from_torch(cls, cell: nn.GRUCell) -> Self:
        """The same cell; weights are shared."""
        return _like_cell(cls, cell, nn.GRUCell)


def _like_cell(cls: Any, cell: Any, kind: Any, **more: Any) -> Any:
    if not isinstance(cell, kind):
        raise InputError(f"{cls.__name__}.from_torch takes nn.{kind.__name__}, got {type(cell).__name__}")
    made = cls(cell.input_size, cell.hidden_size, bias=cell.bias, device="meta", dtype=cell.weight_ih.dtype, **more)
    return made._share(cell)
