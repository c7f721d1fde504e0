"""A unit's value as the sum of what the units below it bring: one step down the network, exact at one input."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fwdkern.engine.tape import Tape
from fwdkern.rules import Frozen


@dataclass(frozen=True)
class Shares:
    """What units bring to one unit.

    Attributes:
        parts: for each step that is read, what its units bring ``[*shape]``: value times frozen weight.
        bias: what biases and offsets on the way bring.
    """

    parts: dict[int, Tensor]
    bias: float


def shares_below(tape: Tape, step: int, flat: int) -> Shares:
    """Split unit ``flat`` of a step of one input's tape into its shares one layer down.

    Where a single unit brings all, as below a ReLU or a max pool, the split goes on below that one.
    """
    tape.ancestors([step])  # raises where a rule is missing
    value = tape.steps[step].value
    seed = torch.zeros_like(value).flatten()
    seed[flat] = 1
    pulled, bias = {step: seed.view(1, *value.shape)}, 0.0
    while True:
        lowest = max(pulled)
        frozen = tape.steps[lowest].frozen
        if not isinstance(frozen, Frozen):
            break  # the input
        parts, mass = frozen.pull(pulled.pop(lowest))
        bias += float(mass.sum())
        for parent, part in zip(tape.steps[lowest].parents, parts, strict=True):
            pulled[parent] = pulled[parent] + part if parent in pulled else part
        pulled = {parent: part for parent, part in pulled.items() if part.any()}
        if sum(int(part.count_nonzero()) for part in pulled.values()) != 1:
            break
    return Shares({i: part[0, 0] * tape.steps[i].value[0] for i, part in sorted(pulled.items())}, bias)
