"""Equation 4 of the thesis, all source steps together: what ``fwdkern.equation4`` spells out source by source."""

from collections.abc import Callable

import torch
from torch import Tensor

from fwdkern.engine.features import Features
from fwdkern.engine.units import Units

Function = Callable[[Tensor], Tensor]


def thesis_scores(
    x: Tensor,
    u: Tensor,
    w: Tensor,
    f: Function,
    states: Tensor,
    units: Units,
    features: Features,
    memory: int,
    v: Tensor | None,
    values: Tensor,
    g: Function | None,
) -> Tensor:
    """Scores ``[B, K, *features]`` of some units of the states, or of a head on them.

    Args:
        x: [B, T, D]; u: [H, D]; w: [H, H]; f: acts on each element; states: [B, T, H].
        memory: bytes of scores that are carried at a time, at least those of one source step.
        v: of a head, [O, H], else None; values: what the units are units of, [B, T, H] or [B, T, O]; g: as f, behind
        v, None for none.
    """
    batch, steps, width = x.shape
    assert units.flat is not None
    flat = units.flat.expand(batch, -1)
    moment, number = flat // values.shape[2], flat % values.shape[2]  # [B, K]
    scores = x.new_zeros(batch, flat.shape[1], steps, width)
    each = 3 * batch * width * max(len(w), values.shape[2]) * x.element_size()
    size = max(1, memory // each)
    last = int(moment.max())
    for start in range(0, last + 1, size):
        stop = min(start + size, last + 1)
        # Sources start .. k side by side: [B, (stop − start) · D, H], filled from the left.
        carried = x.new_empty(batch, (stop - start) * width, len(w))
        for k in range(start, last + 1):
            begun, open_ = min(k, stop) - start, states[:, k, None].sign().abs()  # open: [B, 1, H]
            old = carried[:, : begun * width]
            if begun:
                old.copy_(f(old @ w.mT) * open_)
            shown = old
            if k < stop:
                own = f(x[:, k, :, None] * u.mT)  # [B, D, H]
                shown = torch.cat([old, own], 1) if v is not None else shown
                carried[:, begun * width : (begun + 1) * width] = own * open_
            reached = min(k + 1, stop) - start
            example, row = (moment == k).nonzero(as_tuple=True)
            if not len(row):
                continue
            shown = carried[:, : reached * width] if v is None else shown @ v.mT
            if v is not None:
                shown = (shown if g is None else g(shown)) * values[:, k, None].sign().abs()
            picked = shown[example, :, number[example, row]]  # [units, sources · D]
            scores[example, row, start : start + reached] = picked.unflatten(1, (reached, width))
    return features.gather(scores)
