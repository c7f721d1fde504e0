"""Recurrent layers written out with what is frozen detached, so that autograd gives the scores; shares no code with
fwdkern."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Cell = Callable[[Tensor, tuple[Tensor, ...], list[Tensor]], tuple[Tensor, ...]]


def _ratio(f: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    return z * (f(z) / z).detach()


def _gates(x: Tensor, h: Tensor, weights: list[Tensor]) -> tuple[Tensor, Tensor]:
    into, back, *rest = weights
    biases = rest[:2] if len(rest) >= 2 else [0, 0]
    return x @ into.T + biases[0], h @ back.T + biases[1]


def _rnn(f: Callable[[Tensor], Tensor]) -> Cell:
    def cell(x: Tensor, state: tuple[Tensor, ...], weights: list[Tensor]) -> tuple[Tensor, ...]:
        return (_ratio(f, sum(_gates(x, state[0], weights))),)

    return cell


def _lstm(x: Tensor, state: tuple[Tensor, ...], weights: list[Tensor]) -> tuple[Tensor, ...]:
    h, c = state
    i, f, g, o = sum(_gates(x, h, weights)).chunk(4, 1)
    c = f.sigmoid().detach() * c + i.sigmoid().detach() * _ratio(torch.tanh, g)
    h = o.sigmoid().detach() * _ratio(torch.tanh, c)
    return (h @ weights[-1].T if len(weights) % 2 else h), c


def _gru(x: Tensor, state: tuple[Tensor, ...], weights: list[Tensor]) -> tuple[Tensor, ...]:
    (h,) = state
    (r, z, n), (hr, hz, hn) = (part.chunk(3, 1) for part in _gates(x, h, weights))
    keep = (z + hz).sigmoid().detach()
    return ((1 - keep) * _ratio(torch.tanh, n + (r + hr).sigmoid().detach() * hn) + keep * h,)


_CELLS = {"RNN_TANH": _rnn(torch.tanh), "RNN_RELU": _rnn(torch.relu), "LSTM": _lstm, "GRU": _gru}


def run(layer: nn.RNNBase, x: Tensor, state: tuple[Tensor, ...], lengths: list[int]) -> Tensor:
    """The layer's output [B, T, directions · P] for x [B, T, D], sequence by sequence, 0 where it is padding."""
    directions = 2 if layer.bidirectional else 1
    count = len(layer._flat_weights) // (layer.num_layers * directions)
    cell = _CELLS[layer.mode]
    rows = []
    for b, length in enumerate(lengths):
        carried = x[b, :length]
        for level in range(layer.num_layers):
            shown = []
            for direction in range(directions):
                at = level * directions + direction
                weights = layer._flat_weights[at * count : (at + 1) * count]
                now = tuple(part[at, b : b + 1] for part in state)
                steps = range(length) if direction == 0 else reversed(range(length))
                outputs = {}
                for t in steps:
                    now = cell(carried[t : t + 1], now, weights)
                    outputs[t] = now[0]
                shown.append(torch.cat([outputs[t] for t in range(length)]))
            carried = torch.cat(shown, 1)
        rows.append(torch.cat([carried, carried.new_zeros(x.shape[1] - length, carried.shape[1])]))
    return torch.stack(rows)


def scores(layer: nn.RNNBase, x: Tensor, state: tuple[Tensor, ...], lengths: list[int], units: Tensor) -> Tensor:
    """x · gradient of some units (step, number) [K, 2] of the output: [B, K, T, D]."""
    leaf = x.clone().requires_grad_()
    output = run(layer, leaf, state, lengths)
    return torch.stack(
        [torch.autograd.grad(output[:, t, n].sum(), leaf, retain_graph=True)[0] * x for t, n in units.tolist()], 1
    )
