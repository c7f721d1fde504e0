"""Models of sequences through fuse: tokens, recurrent layers in all of torch's layouts, loops of cells."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import fwdkern
from fwdkern import rnn
from fwdkern.errors import CaptureError, InputError
from tests.oracle import assert_close

VOCABULARY, WIDTH, HIDDEN, CLASSES = 30, 6, 5, 3


class Classifier(nn.Module):
    """An embedding, a recurrent layer, and a head on what ``pick`` takes of its results."""

    def __init__(
        self, layer: nn.Module, pick: Callable[..., Tensor], features: int, tokens_first: bool = False
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.layer, self.pick, self.tokens_first = layer, pick, tokens_first
        self.head = nn.Linear(features, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        output, state = self.layer(self.embedding(tokens.t() if self.tokens_first else tokens))
        return self.head(self.pick(output, state[0] if isinstance(state, tuple) else state))


BATCH_FIRST = {"batch_first": True}
BOTH = {"bidirectional": True, "num_layers": 2}
MODELS = {
    "rnn, last step": lambda: Classifier(nn.RNN(WIDTH, HIDDEN, **BATCH_FIRST), lambda o, h: o[:, -1], HIDDEN),
    "relu rnn, mean": lambda: Classifier(
        nn.RNN(WIDTH, HIDDEN, nonlinearity="relu", **BATCH_FIRST), lambda o, h: o.mean(1), HIDDEN
    ),
    "lstm, both ends": lambda: Classifier(
        nn.LSTM(WIDTH, HIDDEN, **BATCH_FIRST, **BOTH), lambda o, h: torch.cat([h[-2], h[-1]], 1), 2 * HIDDEN
    ),
    "lstm, time first": lambda: Classifier(nn.LSTM(WIDTH, HIDDEN), lambda o, h: o[-1], HIDDEN, True),
    "gru, time first, mean": lambda: Classifier(
        nn.GRU(WIDTH, HIDDEN, **BOTH), lambda o, h: o.mean(0), 2 * HIDDEN, True
    ),
    "gru, squeezed state": lambda: Classifier(nn.GRU(WIDTH, HIDDEN), lambda o, h: h.squeeze(0), HIDDEN, True),
    "lstm, all states": lambda: Classifier(
        nn.LSTM(WIDTH, HIDDEN, 2, **BATCH_FIRST), lambda o, h: h.transpose(0, 1).flatten(1), 2 * HIDDEN
    ),
    "lstm, projected": lambda: Classifier(
        nn.LSTM(WIDTH, HIDDEN, proj_size=2, **BATCH_FIRST), lambda o, h: torch.tanh(h[0]), 2
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_one_capture_serves_all_sentences(name: str) -> None:
    if torch.__version__.startswith("2.12.") and name in ("lstm, both ends", "lstm, all states"):
        pytest.skip("torch.export of torch 2.12 cannot capture what reads the states of several layers or directions")
    model = MODELS[name]().double().eval()
    net = fwdkern.fuse(model, torch.randint(VOCABULARY, (2, 7)))
    assert "layer" in [layer.name for layer in net.layers]
    for shape in ((2, 7), (3, 10), (1, 2), (1, 1)):
        tokens = torch.randint(VOCABULARY, shape)
        assert_close(net(tokens), model(tokens).detach())
        forward, reverse = (
            net.attribute(tokens, "all", features="channels", mode=mode, strict=True) for mode in ("forward", "reverse")
        )
        assert forward.scores.shape == (shape[0], CLASSES, shape[1], WIDTH)
        assert_close(forward.scores, reverse.scores)
        whole = net.attribute(tokens, "all", strict=True)
        assert_close(whole.scores, forward.scores.sum(3))
        assert_close(whole.saliency("signed"), forward.saliency("signed"))
        assert_close(whole.outputs, model(tokens).detach())
    assert all(network is net._primary for network in net._captured.values())


def test_relu_rnn_is_input_times_gradient_of_the_embedding() -> None:
    model = MODELS["relu rnn, mean"]().double().eval()
    tokens = torch.randint(VOCABULARY, (2, 7))
    result = fwdkern.fuse(model, tokens).attribute(tokens, [1, 2], features="channels", bias="separate")
    vectors = model.embedding(tokens).detach().requires_grad_()
    logits = model.head(model.layer(vectors)[0].mean(1))
    (gradient,) = torch.autograd.grad(logits[0, 1] + logits[1, 2], vectors)
    assert_close(result.scores[:, 0], gradient * vectors.detach())


def test_hidden_units_of_any_step() -> None:
    model = MODELS["rnn, last step"]().double().eval()
    tokens = torch.randint(VOCABULARY, (2, 7))
    net = fwdkern.fuse(model, tokens)
    units = torch.tensor([[3, 1], [6, 0]])
    result = net.attribute_units(tokens, "layer", units, bias="separate", strict=True)
    values = model.layer(model.embedding(tokens))[0].detach()
    assert_close(result.outputs, values[:, [3, 6], [1, 0]])
    assert result.scores[:, 0, 4:].count_nonzero() == 0
    assert net.receptive_field("layer", units).tolist() == [[0, 0, 1, 4], [0, 0, 1, 7]]
    parts = list(net.iter_units(tokens, "layer", memory="100KB"))
    assert_close(torch.cat([part.scores for part in parts], 1), net.attribute_units(tokens, "layer").scores)
    segments = torch.tensor([0, 0, 1, 1, 1, 2, 2])
    grouped = net.attribute_units(tokens, "layer", units, features=segments, bias="separate")
    assert_close(grouped.scores[:, :, 0], result.scores[:, :, :2].sum(2))
    strongest = net.decompose(tokens, 0, "layer", top=4)
    assert_close(strongest.scores.sum(1, keepdim=True), net.attribute(tokens, 0).scores)


def test_what_is_made_of_tokens_is_constant() -> None:
    class Masked(Classifier):
        def forward(self, tokens: Tensor) -> Tensor:
            mask = (tokens != 0).unsqueeze(2)
            output, _ = self.layer(self.embedding(tokens) * mask)
            return self.head((output * mask).sum(1) / mask.sum(1))

    model = Masked(nn.GRU(WIDTH, HIDDEN, batch_first=True), lambda o, h: o, HIDDEN).double().eval()
    tokens = torch.randint(1, VOCABULARY, (2, 7))
    tokens[0, 5:] = 0
    result = fwdkern.fuse(model, tokens).attribute(tokens, "all", bias="separate", strict=True)
    assert_close(result.outputs, model(tokens).detach())
    assert result.scores[0, :, 5:].count_nonzero() == 0


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.LSTMCell, nn.GRUCell])
def test_loops_of_cells(kind: type) -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.head = kind(WIDTH, HIDDEN), nn.Linear(HIDDEN, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(x.shape[0], HIDDEN)
            state = (h, h) if kind is nn.LSTMCell else h
            for t in range(x.shape[1]):
                state = self.cell(x[:, t], state)
            return self.head(state[0] if kind is nn.LSTMCell else state)

    model, x = Loop().double().eval(), torch.randn(2, 4, WIDTH).double()
    net = fwdkern.fuse(model, x)
    forward, reverse = (net.attribute(x, "all", mode=mode, strict=True) for mode in ("forward", "reverse"))
    assert forward.scores.shape == (2, CLASSES, 4)
    assert_close(forward.scores, reverse.scores)
    layer = {nn.RNNCell: nn.RNN, nn.LSTMCell: nn.LSTM, nn.GRUCell: nn.GRU}[kind](WIDTH, HIDDEN, batch_first=True)
    for name, weight in model.cell.named_parameters():
        getattr(layer, f"{name}_l0").data = weight.data
    mine = getattr(rnn, f"Relevance{type(layer).__name__}").from_torch(layer.double())
    assert_close(mine.attribute(x, head=model.head).scores, forward.scores)


class Embedded(nn.Module):
    """An embedding and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(WIDTH, CLASSES)


class Counting(Embedded):
    """A loop over all steps, whose number becomes a constant of the graph."""

    def forward(self, tokens: Tensor) -> Tensor:
        vectors = self.embedding(tokens)
        state = torch.zeros_like(vectors[:, 0])
        states = []
        for step in range(tokens.shape[1]):
            state = (0.5 * state + vectors[:, step]).relu()
            states.append(state)
        return self.head((torch.stack(states, 1) * vectors).mean(1))


class Averaged(nn.Module):
    """A recurrent layer, and a division by the number of steps, which is a constant of the graph as well."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.layer = nn.Embedding(VOCABULARY, WIDTH), nn.GRU(WIDTH, CLASSES, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.layer(self.embedding(tokens))[0].sum(1) / tokens.shape[1]


class Placed(Embedded):
    """Twelve positions and no more."""

    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.randn(1, 12, WIDTH))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head((self.embedding(tokens) + self.places[:, : tokens.shape[1]]).relu().mean(1))


@pytest.mark.parametrize("captured", [1, 7])
@pytest.mark.parametrize("kind", [Counting, Averaged, Placed])
def test_other_lengths_than_the_captured_one(kind: type, captured: int) -> None:
    torch.manual_seed(0)
    model = kind().double().eval()
    net = fwdkern.fuse(model, torch.randint(0, VOCABULARY, (2, captured)))
    for length in (1, 3, 7, 12):
        tokens = torch.randint(0, VOCABULARY, (3, length))
        found = net.attribute(tokens, "all", strict=True)
        assert_close(found.outputs, model(tokens).detach())
        assert_close(found.scores.flatten(2).sum(2), found.outputs)


class Normed(nn.Module):
    """A batch norm of steps, whose statistics a run in training mode would change."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.norm = Averaged(), nn.BatchNorm1d(CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.norm(self.body(tokens))


def test_another_length_does_not_run_a_model_in_training_mode() -> None:
    model = Normed().eval()
    net = fwdkern.fuse(model, torch.randint(0, VOCABULARY, (2, 7)))
    before = model.train().norm.running_mean.clone()
    with pytest.raises(InputError, match="training mode"):
        net.attribute(torch.randint(0, VOCABULARY, (2, 9)))
    assert torch.equal(model.norm.running_mean, before)


def test_a_sentence_longer_than_the_model_takes_is_refused() -> None:
    net = fwdkern.fuse(Placed().eval(), torch.randint(0, VOCABULARY, (2, 7)))
    with pytest.raises(CaptureError, match=r"input of shape \[2, 13\]: .*12.* 13.*that depends on values$"):
        net.attribute(torch.randint(0, VOCABULARY, (2, 13)))


class Single(Embedded):
    """A norm that computes in float32 whatever it is given, as those of many language models do."""

    def forward(self, tokens: Tensor) -> Tensor:
        vectors = self.embedding(tokens)
        wide = vectors.to(torch.float32)
        normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-6)
        return self.head(normed.to(vectors.dtype).mean(1))


def test_a_float64_model_is_as_exact_as_its_coarsest_part() -> None:
    torch.manual_seed(0)
    model, tokens = Single().double().eval(), torch.randint(0, VOCABULARY, (4, 7))
    found = fwdkern.fuse(model, tokens).attribute(tokens, "all", strict=True)
    assert_close(found.outputs, model(tokens).detach())
    assert 1e-10 < found.delta.abs().max() < 1e-6


def test_written_out_by_hand_it_is_the_lstms_rule() -> None:
    class Written(nn.Module):
        def __init__(self, cell: nn.LSTMCell) -> None:
            super().__init__()
            self.into, self.back = nn.Linear(WIDTH, 4 * HIDDEN), nn.Linear(HIDDEN, 4 * HIDDEN)
            self.into.weight, self.into.bias = cell.weight_ih, cell.bias_ih
            self.back.weight, self.back.bias = cell.weight_hh, cell.bias_hh

        def forward(self, x: Tensor) -> Tensor:
            h = c = x.new_zeros(x.shape[0], HIDDEN)
            for t in range(x.shape[1]):
                i, f, g, o = (self.into(x[:, t]) + self.back(h)).chunk(4, 1)
                c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
                h = torch.sigmoid(o) * torch.tanh(c)
            return h

    layer = nn.LSTM(WIDTH, HIDDEN, batch_first=True).double()
    cell = nn.LSTMCell(WIDTH, HIDDEN).double()
    for name, weight in cell.named_parameters():
        weight.data = getattr(layer, f"{name}_l0").data
    x = torch.randn(2, 4, WIDTH).double()
    written = fwdkern.fuse(Written(cell).eval(), x.unsqueeze(2).flatten(2))
    result = written.attribute(x, "all", features="channels", strict=True)
    mine = rnn.RelevanceLSTM.from_torch(layer).attribute(x, features="channels")
    assert_close(result.scores, mine.scores)


def test_vectors_as_input() -> None:
    layer = nn.GRU(WIDTH, HIDDEN, batch_first=True).double().eval()
    x = torch.randn(2, 4, WIDTH).double()
    net = fwdkern.fuse(layer, x)
    result = net.attribute_units(x, net.layers[0].name, strict=True)
    assert result.scores.shape == (2, 4 * HIDDEN, 4)
    longer = torch.randn(1, 6, WIDTH).double()
    assert net.attribute_units(longer, net.layers[0].name).scores.shape == (1, 6 * HIDDEN, 6)


def test_refused() -> None:
    model = MODELS["rnn, last step"]().eval()
    tokens = torch.randint(VOCABULARY, (2, 7))
    net = fwdkern.fuse(model, tokens)
    unknown = tokens.clone()
    unknown[1, 3] = VOCABULARY
    cases = [
        (unknown, rf"1 unknown tokens, the first is {VOCABULARY} at \[1, 3\]; the embedding knows 0 to 29"),
        (tokens[:, :0], "empty sequence"),
        (tokens[:0], "empty batch"),
        (tokens[0], "add the batch dimension"),
        (tokens.float(), "reads tokens"),
        ("text", "got str"),
    ]
    for given, message in cases:
        with pytest.raises(InputError, match=message):
            net.attribute(given)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="tokens"):
        fwdkern.fuse(model, tokens.bool())

    class Two(Classifier):
        def forward(self, tokens: Tensor) -> Tensor:
            return self.head(self.layer(self.embedding(tokens) + self.other(tokens))[0][:, -1])

    twice = Two(nn.RNN(WIDTH, HIDDEN, batch_first=True), lambda o, h: o, HIDDEN).eval()
    twice.other = nn.Embedding(VOCABULARY, WIDTH).eval()
    with pytest.raises(CaptureError, match="2 such layers"):
        fwdkern.fuse(twice, tokens)
