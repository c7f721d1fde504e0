"""Scores of a recurrent layer: the last output from every token's every dimension, all units of all steps from all
tokens."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import jacrev, jvp, vjp, vmap

from benchmarks.workload import Contender, Sample, Task
from fwdkern.relevance import Relevance
from fwdkern.rnn import RelevanceLSTM, RelevanceRNN
from fwdkern.rules.recurrent import freeze_recurrent, unpack_weights
from tests import frozen_recurrence

TOLERANCE = 1e-4
_SAMPLED = 6


@dataclass(frozen=True)
class Sizes:
    hidden: int = 256
    steps: int = 128
    width: int = 64
    # How much of the work those do that would take minutes.
    tangents: int = 256
    targets: int = 64


class Frozen(nn.Module):
    """A layer whose gates are detached, so that its derivative is the frozen recurrence; torch's own for a ReLU RNN."""

    def __init__(self, layer: nn.RNN | nn.LSTM) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """x: [T, D]. Returns [T, H]."""
        if isinstance(self.layer, nn.RNN):
            return self.layer(x[None])[0][0]
        into, back, bias_into, bias_back = self.layer._flat_weights
        driven = x @ into.T + (bias_into + bias_back)
        h = c = x.new_zeros(self.layer.hidden_size)
        states = []
        for drive in driven:
            i, f, g, o = (drive + back @ h).chunk(4)
            c = f.sigmoid().detach() * c + i.sigmoid().detach() * (g.tanh() / g).detach() * g
            h = (o.sigmoid() * c.tanh() / c).detach() * c
            states.append(h)
        return torch.stack(states)


class Problem:
    """A random layer, an input [1, T, D] and the units that are compared."""

    def __init__(self, kind: str, sizes: Sizes) -> None:
        torch.manual_seed(0)
        self.sizes = sizes
        lstm = kind == "lstm"
        options = {} if lstm else {"nonlinearity": "relu"}
        self.layer = (nn.LSTM if lstm else nn.RNN)(sizes.width, sizes.hidden, batch_first=True, **options).eval()
        self.layer.requires_grad_(False)
        self.mine = (RelevanceLSTM if lstm else RelevanceRNN).from_torch(self.layer)
        self.head = nn.Linear(sizes.hidden, 1).requires_grad_(False)
        self.x = torch.randn(1, sizes.steps, sizes.width)
        self.frozen = Frozen(self.layer)
        kind = self.layer.mode.lower()
        state = [torch.zeros(1, 1, sizes.hidden)] * (1 + lstm)
        weights = unpack_weights(kind, self.layer._flat_weights, True)
        (self.direction,) = freeze_recurrent(kind, self.x, state, weights, False).layers[0]
        steps = torch.linspace(0, sizes.steps - 1, _SAMPLED).long()
        self.units = torch.stack([steps, torch.randint(sizes.hidden, (_SAMPLED,))], 1)

    def reference(self) -> Tensor:
        """Scores of the sampled units in float64, [n, T, D]."""
        layer = self.layer.double()
        states = [torch.zeros(1, 1, self.sizes.hidden).double()] * (1 + isinstance(layer, nn.LSTM))
        try:
            units = self.units
            return frozen_recurrence.scores(layer, self.x.double(), tuple(states), [self.sizes.steps], units)[0]
        finally:
            self.layer.float()

    def reference_of_head(self) -> Tensor:
        """Scores of the last output in float64, [T, D]."""
        layer, head = self.layer.double(), self.head.double()
        states = [torch.zeros(1, 1, self.sizes.hidden).double()] * (1 + isinstance(layer, nn.LSTM))
        try:
            x = self.x.double().requires_grad_()
            out = head(frozen_recurrence.run(layer, x, tuple(states), [self.sizes.steps])[0, -1])
            return (torch.autograd.grad(out, x)[0] * x)[0].detach()
        finally:
            self.layer.float()
            self.head.float()

    def literal(self, tokens: bool, last: bool) -> Tensor:
        """Source by source and step by step, with the coefficients given. Returns [T, H, T] of tokens, or of the
        last step alone [T, D] of a head."""
        d, x = self.direction, self.x[0]
        steps, hidden = self.sizes.steps, self.sizes.hidden
        scores = x.new_zeros(steps, hidden, steps) if tokens else x.new_zeros(steps, self.sizes.width)
        for t in range(steps):
            own = d.into @ x[t] if tokens else d.into * x[t]
            carried = self._times(d.gain, t, own)
            for k in range(t, steps):
                if k > t:
                    exposed = carried if d.expose is None else self._times(d.expose, k - 1, carried)
                    moved = self._times(d.feed, k, d.weight @ exposed)
                    carried = moved if d.keep is None else moved + self._times(d.keep, k, carried)
                if not last:
                    scores[k, :, t] = carried if d.expose is None else self._times(d.expose, k, carried)
            if last:
                shown = carried if d.expose is None else self._times(d.expose, steps - 1, carried)
                scores[t] = self.head.weight[0] @ shown
        return scores

    @staticmethod
    def _times(factor: Tensor, step: int, values: Tensor) -> Tensor:
        each = factor[0, step]
        return values * each if values.dim() == 1 else values * each[:, None]


def last_output(kind: str, sizes: Sizes | None = None) -> Task:
    """One output of a linear head at the last step, from every token's every dimension."""
    problem = Problem(kind, sizes or Sizes())
    sizes = problem.sizes
    x, everything = problem.x[0], torch.ones(1, 1, dtype=torch.bool)

    def output(given: Tensor) -> Tensor:
        return problem.head(problem.frozen(given)[-1])[0]

    def by_vjp() -> Tensor:
        value, pull = vjp(output, x)
        return vmap(pull)(torch.ones(1, *value.shape))[0][0] * x

    def by_jvp() -> Tensor:
        elements = torch.arange(sizes.tangents)
        tangents = x.new_zeros(sizes.tangents, x.numel()).scatter_(1, elements[:, None], x.flatten()[elements, None])
        return vmap(lambda one: jvp(output, (x,), (one,))[1])(tangents.view(-1, *x.shape))

    def of_tangents(result: Tensor) -> Sample:
        maps = torch.zeros(1, x.numel())
        maps[0, : sizes.tangents] = result
        return Sample(maps, (torch.arange(x.numel()) < sizes.tangents)[None])

    def whole(result: Tensor) -> Sample:
        return Sample(result.reshape(1, -1), everything)

    def own() -> Relevance:
        return problem.mine.attribute(problem.x, head=problem.head, features="channels", bias="separate")

    share = x.numel() / sizes.tangents
    part = f"{sizes.tangents} of {x.numel()} tangents"
    contenders = [
        Contender("fwdkern", "own", {"": own}, lambda result: whole(result.scores)),
        Contender("literal loop", "rival", {"": _without_grad(lambda: problem.literal(False, True))}, whole),
        Contender("vmap(jvp)", "rival", {"": _without_grad(by_jvp)}, of_tangents, share, part),
        Contender("vmap(vjp)", "rival", {"": by_vjp}, whole),
        Contender("jacrev", "rival", {"": lambda: jacrev(output)(x) * x}, whole),
    ]
    multiplies = sizes.steps * (sizes.hidden**2 + sizes.hidden * sizes.width) * 2.0
    return Task(contenders, lambda: [whole(problem.reference_of_head())], TOLERANCE, lambda: multiplies)


def all_units(kind: str, sizes: Sizes | None = None) -> Task:
    """All hidden units of all steps, from all tokens."""
    problem = Problem(kind, sizes or Sizes())
    sizes = problem.sizes
    x, units = problem.x[0], problem.units
    steps, hidden = sizes.steps, sizes.hidden
    flat, count = units[:, 0] * hidden + units[:, 1], steps * hidden
    everything = torch.ones(1, 1, dtype=torch.bool)
    others = torch.randperm(count)[: sizes.targets - len(flat)]
    some = torch.cat([flat, others])

    def by_jvp() -> Tensor:
        tangents = torch.eye(steps)[:, :, None] * x
        return vmap(lambda one: jvp(problem.frozen, (x,), (one,))[1])(tangents)  # [T sources, T, H]

    def by_vjp() -> Tensor:
        value, pull = vjp(problem.frozen, x)
        seeds = torch.zeros(len(some), count).scatter_(1, some[:, None], 1).view(-1, *value.shape)
        return (vmap(pull)(seeds)[0] * x).sum(2)

    def by_jacrev() -> Tensor:
        return (jacrev(lambda given: problem.frozen(given).flatten()[some])(x) * x).sum(2)

    def of_some(result: Tensor) -> Sample:
        return Sample(result[: len(flat)], everything)

    def own() -> Relevance:
        return problem.mine.attribute(problem.x, "all", bias="separate")

    share, part = count / len(some), f"{len(some)} of {count} units"
    contenders = [
        Contender("fwdkern", "own", {"": own}, lambda result: Sample(result.scores[0, flat], everything)),
        Contender(
            "literal loop",
            "rival",
            {"": _without_grad(lambda: problem.literal(True, False))},
            lambda result: Sample(result.flatten(0, 1)[flat], everything),
        ),
        Contender(
            "vmap(jvp)", "rival", {"": _without_grad(by_jvp)}, lambda r: Sample(r.flatten(1)[:, flat].T, everything)
        ),
        Contender("vmap(vjp)", "rival", {"": by_vjp}, of_some, share, part),
        Contender("jacrev", "rival", {"": by_jacrev}, of_some, share, part),
    ]
    multiplies = steps * (steps - 1) / 2 * hidden**2 + steps * hidden * sizes.width
    return Task(contenders, lambda: [Sample(problem.reference().sum(2), everything)], TOLERANCE, lambda: multiplies)


def _without_grad(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
    def quiet() -> Tensor:
        with torch.no_grad():
            return run()

    return quiet
