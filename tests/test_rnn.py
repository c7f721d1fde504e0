"""Drop-in recurrent layers against autograd of the frozen recurrence, and all ways against each other."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from fwdkern.equation4 import equation4
from fwdkern.errors import CompletenessWarning, InputError
from fwdkern.rnn import (
    RelevanceGRU,
    RelevanceGRUCell,
    RelevanceLSTM,
    RelevanceLSTMCell,
    RelevanceRNN,
    RelevanceRNNCell,
)
from tests import frozen_recurrence
from tests.oracle import assert_close

LAYERS = {
    "tanh": (RelevanceRNN, nn.RNN, {}),
    "relu, stacked": (RelevanceRNN, nn.RNN, {"nonlinearity": "relu", "num_layers": 2}),
    "tanh, no bias": (RelevanceRNN, nn.RNN, {"bias": False, "batch_first": True}),
    "lstm": (RelevanceLSTM, nn.LSTM, {"batch_first": True}),
    "lstm, stacked, both directions": (RelevanceLSTM, nn.LSTM, {"bidirectional": True, "num_layers": 3}),
    "lstm, projected": (RelevanceLSTM, nn.LSTM, {"proj_size": 3, "num_layers": 2, "bidirectional": True}),
    "gru": (RelevanceGRU, nn.GRU, {}),
    "gru, both directions": (RelevanceGRU, nn.GRU, {"bidirectional": True, "batch_first": True, "num_layers": 2}),
}
INPUTS, HIDDEN, STEPS, BATCH = 5, 7, 6, 3


class Problem:
    """A layer with random weights, inputs [B, T, D] and an initial state, in float64."""

    def __init__(self, name: str) -> None:
        mine, kind, options = LAYERS[name]
        self.layer = kind(INPUTS, HIDDEN, **options).double().eval()
        self.mine = mine.from_torch(self.layer)
        self.x = torch.randn(BATCH, STEPS, INPUTS).double()
        rows = self.layer.num_layers * (2 if self.layer.bidirectional else 1)
        sizes = [self.layer.proj_size or HIDDEN] + [HIDDEN] * (kind is nn.LSTM)
        self.state = tuple(torch.randn(rows, BATCH, size).double() for size in sizes)
        self.width = sizes[0] * (2 if self.layer.bidirectional else 1)

    def laid_out(self, x: Tensor) -> Tensor:
        return x if self.layer.batch_first else x.transpose(0, 1)

    @property
    def given(self) -> object:
        return self.state if len(self.state) == 2 else self.state[0]

    def units(self, longest: int) -> Tensor:
        steps = torch.randint(longest, (8,))
        return torch.stack([steps, torch.randint(self.width, (8,))], 1)


@pytest.fixture(params=LAYERS)
def problem(request: pytest.FixtureRequest) -> Problem:
    return Problem(request.param)


def test_the_output_is_torchs(problem: Problem) -> None:
    x = problem.laid_out(problem.x)
    mine, theirs = problem.mine(x, problem.given), problem.layer(x, problem.given)
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-14)
    assert not mine[0].requires_grad
    assert problem.mine.weight_ih_l0.data_ptr() == problem.layer.weight_ih_l0.data_ptr()


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_scores_are_those_of_autograd(problem: Problem, mode: str) -> None:
    units = problem.units(STEPS)
    x = problem.laid_out(problem.x)
    result = problem.mine.attribute(
        x, units, state=problem.given, features="channels", bias="separate", mode=mode, strict=True
    )
    expected = frozen_recurrence.scores(problem.layer, problem.x, problem.state, [STEPS] * BATCH, units)
    assert_close(result.scores, expected)
    tokens = problem.mine.attribute(x, units, state=problem.given, mode=mode, bias="separate", strict=True)
    assert_close(tokens.scores, expected.sum(3))


@pytest.mark.parametrize("units", [None, "all"])
def test_packed_sequences(problem: Problem, units: str | None) -> None:
    lengths = [3, 6, 1]
    packed = pack_padded_sequence(
        problem.laid_out(problem.x), torch.tensor(lengths), batch_first=problem.layer.batch_first, enforce_sorted=False
    )
    values, _ = pad_packed_sequence(problem.layer(packed, problem.given)[0], batch_first=True)
    every = [problem.mine.attribute(packed, units, state=problem.given, mode=m, strict=True, features="channels",
                                    bias="separate") for m in ("forward", "reverse")]  # fmt: skip
    assert_close(every[0].scores, every[1].scores)
    chosen = torch.cartesian_prod(torch.arange(STEPS), torch.arange(problem.width))
    expected = frozen_recurrence.scores(problem.layer, problem.x, problem.state, lengths, chosen)
    expected = expected.unflatten(1, (STEPS, problem.width))
    if units is None:
        last = torch.tensor(lengths) - 1
        assert_close(every[0].scores, expected[torch.arange(BATCH), last])
        assert_close(every[0].outputs, values[torch.arange(BATCH), last])
        assert every[0].units[:, 0, 0].tolist() == last.tolist()
    else:
        assert_close(every[0].scores, expected.flatten(1, 2))
        assert_close(every[0].outputs, values.flatten(1))


def test_lengths_do_what_packing_does(problem: Problem) -> None:
    lengths = torch.tensor([2, 6, 5])
    x = problem.laid_out(problem.x)
    packed = pack_padded_sequence(x, lengths, batch_first=problem.layer.batch_first, enforce_sorted=False)
    assert_close(problem.mine.attribute(x, lengths=lengths).scores, problem.mine.attribute(packed).scores)


@pytest.mark.parametrize("bias", ["uniform", "receptive_field", "separate"])
@pytest.mark.parametrize("features", ["tokens", "channels", torch.tensor([0, 0, 2, 1, 2, 0])])
def test_a_head_in_every_form(problem: Problem, bias: str, features: str | Tensor) -> None:
    head = nn.Linear(problem.width, 4).double()
    x = problem.laid_out(problem.x)
    result = problem.mine.attribute(x, head=head, bias=bias, features=features, strict=True)
    values = head(problem.layer(x)[0]) if problem.layer.batch_first else head(problem.layer(x)[0]).transpose(0, 1)
    assert_close(result.outputs, values[:, -1].detach())
    assert float(result.delta.abs().max()) < 1e-12
    assert result.scores.shape[:2] == (BATCH, 4)


def test_bias_over_what_a_unit_has_seen() -> None:
    problem = Problem("lstm")
    units = torch.tensor([[2, 1], [5, 0]])
    spread = problem.mine.attribute(problem.x, units, bias="receptive_field")
    bare = problem.mine.attribute(problem.x, units, bias="separate")
    share = (spread.scores - bare.scores) / bare.bias[:, :, None]
    expected = torch.tensor([[1 / 3] * 3 + [0] * 3, [1 / 6] * 6], dtype=torch.float64)
    assert_close(share, expected.expand(BATCH, -1, -1))


@pytest.mark.parametrize("name", ["relu, stacked", "gru, both directions", "lstm, stacked, both directions"])
def test_float32_and_little_memory(name: str, recwarn: pytest.WarningsRecorder) -> None:
    problem = Problem(name)
    mine = type(problem.mine).from_torch(problem.layer.float())
    x = problem.laid_out(problem.x.float())
    wide = problem.mine.attribute(problem.laid_out(problem.x), "all", features="channels")
    for mode in ("forward", "reverse"):
        result = mine.attribute(x, "all", features="channels", mode=mode, memory="40KB")
        assert_close(result.scores.double(), wide.scores, 1e-5)
    assert not [w for w in recwarn if issubclass(w.category, CompletenessWarning)]


def test_relu_scores_are_input_times_gradient() -> None:
    problem = Problem("relu, stacked")
    x = problem.x.clone().requires_grad_()
    problem.layer(problem.laid_out(x))[0][-1, :, 2].sum().backward()
    result = problem.mine.attribute(problem.laid_out(problem.x), torch.tensor([[STEPS - 1, 2]]), features="channels",
                                    bias="separate")  # fmt: skip
    assert x.grad is not None
    assert_close(result.scores[:, 0], problem.x * x.grad)


@pytest.mark.parametrize("rows", [1, 4])
def test_rows_through_a_layer_by_hand(problem: Problem, rows: int) -> None:
    x = problem.laid_out(problem.x)
    given = torch.randn(rows, *x.shape).double()
    value, carried = problem.mine.forward_relevance(x, given.clone(), problem.given)
    assert_close(value, problem.layer(x, problem.given)[0].detach())
    targets = torch.randn(2, *value.shape).double()
    pulled, mass = problem.mine.reverse_relevance(x, targets.clone(), problem.given)
    both = torch.einsum("r...,k...->rk", carried[-1:], targets) - mass.sum(1)
    assert_close(both[0], torch.einsum("...,k...->k", given[-1], pulled))
    summed = (pulled * x).flatten(1).sum(1) + mass.sum(1)
    assert_close(summed, (targets * value).flatten(1).sum(1))


CELLS = [(RelevanceRNNCell, RelevanceRNN, nn.RNNCell), (RelevanceLSTMCell, RelevanceLSTM, nn.LSTMCell),
         (RelevanceGRUCell, RelevanceGRU, nn.GRUCell)]  # fmt: skip


@pytest.mark.parametrize("kinds", CELLS)
@pytest.mark.parametrize("bias", [True, False])
def test_a_loop_of_cells_is_a_layer(kinds: tuple[type, type, type], bias: bool) -> None:
    mine, layer, kind = kinds
    cell = kind(INPUTS, HIDDEN, bias=bias).double()
    whole = layer(INPUTS, HIDDEN, bias=bias, batch_first=True).double().eval()
    for name, weight in cell.named_parameters():
        getattr(whole, f"{name}_l0").data = weight.data
    x, rows = torch.randn(2, 4, INPUTS).double(), torch.randn(3, 2, 4, INPUTS).double()
    value, carried = whole.forward_relevance(x, rows)
    state, state_rows = None, None
    one = mine.from_torch(cell)
    for t in range(4):
        state, state_rows = one.forward_relevance(x[:, t], rows[:, :, t], state, state_rows)
        h, h_rows = (state[0], state_rows[0]) if kind is nn.LSTMCell else (state, state_rows)
        assert_close(h, value[:, t])
        assert_close(h_rows, carried[:, :, t])


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize("memory", ["1GiB", 4000])
def test_the_thesis_rule_is_equation_4(nonlinearity: str, memory: int | str) -> None:
    layer = nn.RNN(INPUTS, HIDDEN, nonlinearity=nonlinearity, batch_first=True).double()
    mine, head = RelevanceRNN.from_torch(layer), nn.Linear(HIDDEN, 3).double()
    x = torch.randn(2, STEPS, INPUTS).double()
    f = getattr(torch, nonlinearity)
    common = {"rule": "thesis", "features": "channels", "memory": memory}
    hidden = mine.attribute(x, "all", **common)
    outputs = mine.attribute(x, "all", head=head, output_function=torch.sigmoid, **common)
    some = mine.attribute(x, torch.tensor([[4, 1], [2, 0]]), head=head, **common)
    tokens = mine.attribute(x, rule="thesis")
    for b in range(2):
        states = layer(x)[0][b].detach()
        shown = head(states).detach()
        want_hidden, want = equation4(
            x[b], layer.weight_ih_l0, layer.weight_hh_l0, states, f, head.weight, shown.sigmoid(), torch.sigmoid
        )
        _, plain = equation4(x[b], layer.weight_ih_l0, layer.weight_hh_l0, states, f, head.weight, shown)
        assert want is not None and plain is not None
        assert_close(hidden.scores[b], want_hidden.flatten(0, 1))
        assert_close(outputs.scores[b], want.flatten(0, 1))
        assert_close(some.scores[b], torch.stack([plain[4, 1], plain[2, 0]]))
        assert_close(tokens.scores[b], want_hidden[-1].sum(2))
    assert "do not sum" in tokens.note


def test_refused() -> None:
    mine = RelevanceLSTM(INPUTS, HIDDEN, batch_first=True).eval()
    x = torch.randn(2, 4, INPUTS)
    bad_state = (torch.zeros(1, 2, HIDDEN), torch.full((1, 2, HIDDEN), float("nan")))
    cases = [
        ({"inputs": x[:, :0]}, "empty"),
        ({"inputs": x[:, :, :3]}, r"must be \[B, T, 5\]"),
        ({"inputs": x * float("inf")}, "infinite"),
        ({"inputs": x.double()}, "float64"),
        ({"state": bad_state}, "c holds NaN"),
        ({"state": torch.zeros(1, 2, HIDDEN)}, "a pair"),
        ({"state": (torch.zeros(1, 1, HIDDEN),) * 2}, r"expected torch.float32 \[1, 2, 7\]"),
        ({"lengths": [4, 5]}, "sequence 1 has 5 steps, the inputs hold 4"),
        ({"lengths": [0, 4]}, "sequence 0 is empty"),
        ({"lengths": [4]}, "2 integers"),
        ({"lengths": [4, 2], "units": torch.tensor([[3, 0]])}, "step 3 is padding in sequence 1"),
        ({"units": torch.tensor([[4, 0]])}, "outside layer"),
        ({"head": nn.Linear(3, 2)}, "from 7 numbers"),
        ({"rule": "thesis"}, "plain RNN"),
        ({"rule": "lrp"}, "rule='lrp'"),
        ({"output_function": torch.tanh}, 'rule="thesis"'),
    ]
    for arguments, message in cases:
        with pytest.raises(InputError, match=message):
            mine.attribute(**{"inputs": x, **arguments})
    packed = pack_padded_sequence(x, [4, 3], batch_first=True)
    with pytest.raises(InputError, match="give either"):
        mine.attribute(packed, lengths=[4, 3])
    with pytest.raises(InputError, match="packed twice"):
        mine.attribute(nn.utils.rnn.PackedSequence(packed, packed.batch_sizes))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"takes nn\.GRU, got RelevanceLSTM"):
        RelevanceGRU.from_torch(mine)
    dropped = RelevanceGRU(INPUTS, HIDDEN, 2, dropout=0.5)
    with pytest.raises(InputError, match="training mode"):
        dropped.attribute(x.transpose(0, 1))
