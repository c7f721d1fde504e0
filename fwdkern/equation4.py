"""Equation 4 of the thesis, letter by letter: scores of a plain recurrent network, the oracle of the tests.

    s_t = f(U x_t + W s_{t-1} + b)        o_t = g(V s_t + c)

    Score(x_t -> s_t) = f(U * x_t) * |sgn(s_t)|                                    [H, D], element by element
    Score(x_t -> s_k) = f(W Score(x_t -> s_{k-1})) * |sgn(s_k)|     for k > t
    Score(x_t -> o_t) = g(V f(U * x_t)) * |sgn(o_t)|
    Score(x_t -> o_k) = g(V Score(x_t -> s_k)) * |sgn(o_k)|         for k > t

The thesis prints the last line with one more f(W .) around Score(x_t -> s_k), which would be the score of s_{k+1};
the recursion above is what its text describes. f and g act on scores element by element, so scores do not sum to the
unit's value, and biases have no part in them.

Nothing here is optimised, and nothing is meant to be. ``fwdkern.rnn`` computes the same with ``rule="thesis"``.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from fwdkern.errors import InputError

Function = Callable[[Tensor], Tensor]


@torch.no_grad()
def equation4(
    x: Tensor,
    u: Tensor,
    w: Tensor,
    states: Tensor,
    f: Function = torch.tanh,
    v: Tensor | None = None,
    outputs: Tensor | None = None,
    g: Function | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Scores of every step's hidden units and outputs from every token's every dimension.

    Args:
        x: one sequence [T, D]; u: [H, D]; w: [H, H]; states: s, [T, H], the network's own; f: acts on each element.
        v: [O, H]; outputs: o, [T, O]; g: acts on each element, None for what it is given.

    Returns:
        [T, H, T, D], where entry [k, :, t] is Score(x_t -> s_k), 0 for t > k; and [T, O, T, D], None without ``v``.
    """
    steps, width = x.shape
    if states.shape != (steps, len(w)) or u.shape != (len(w), width) or w.shape[0] != w.shape[1]:
        raise InputError(
            f"equation4: x {list(x.shape)}, u {list(u.shape)}, w {list(w.shape)} and states {list(states.shape)} do "
            "not fit; expected [T, D], [H, D], [H, H] and [T, H]."
        )
    hidden = x.new_zeros(steps, len(w), steps, width)
    out = None if v is None else x.new_zeros(steps, len(v), steps, width)
    for t in range(steps):
        own = f(u * x[t])  # [H, D]
        score = own * states[t].sign().abs()[:, None]
        for k in range(t, steps):
            if k > t:
                score = f(w @ score) * states[k].sign().abs()[:, None]
            hidden[k, :, t] = score
            if v is not None and out is not None and outputs is not None:
                shown = v @ (own if k == t else score)
                shown = shown if g is None else g(shown)
                out[k, :, t] = shown * outputs[k].sign().abs()[:, None]
    return hidden, out
