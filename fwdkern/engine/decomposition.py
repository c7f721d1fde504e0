"""A class score, or its map, as the sum of what a layer's units bring: V_class = Σ_u g_u · V_u + rest."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fwdkern.engine.attribution import Job, Request
from fwdkern.engine.dense import pull
from fwdkern.engine.features import Features
from fwdkern.engine.options import Options
from fwdkern.engine.tape import Tape
from fwdkern.engine.units import Units, coordinates
from fwdkern.errors import InputError
from fwdkern.graph import Network
from fwdkern.relevance import Relevance


@dataclass(frozen=True)
class Contributions:
    """What the units of a layer bring to one class score of each of B inputs.

    Attributes:
        shares: g_u · a_u, each unit's value times its weight in the score, ``[B, *shape]``.
        rest: what reaches the score otherwise: biases behind the layer and paths around it, ``[B]``.
        outputs: the scores, ``[B]``.
        target: the classes, ``[B]``, or places ``[B, rank]`` of an output that is not classes.
        layer: the layer's name.
    """

    shares: Tensor
    rest: Tensor
    outputs: Tensor
    target: Tensor
    layer: str

    @property
    def delta(self) -> Tensor:
        """Completeness error ``[B]``: the scores minus all shares and the rest; zero but for rounding."""
        explained = self.shares.double().reshape(len(self.shares), -1).sum(1) + self.rest.double()
        return (self.outputs.double() - explained).to(self.outputs.dtype)


def contributions(tape: Tape, target: Request, layer: Request) -> Contributions:
    """Split one class score an input into its units' shares, by reverse mode down to the layer."""
    arrived, mass = _arrive(tape, target, layer)
    value = tape.steps[layer.step].value
    around = (arrived[0][0] * tape.input).flatten(1).sum(1) if 0 in arrived else 0
    return Contributions(
        arrived[layer.step][0] * value,
        mass[0] + around,
        target.units.gather(tape.steps[target.step].value)[:, 0],
        target.units.index[:, 0],
        layer.layer,
    )


def decompose(
    network: Network,
    tape: Tape,
    target: Request,
    layer: Request,
    top: int,
    features: Features,
    options: Options,
) -> Relevance:
    """Split one class map an input into the maps of its ``top`` strongest units of a layer, and the rest.

    g comes from reverse mode down to the layer, V_u from the engine up to it; the rest row is pulled by itself (units
    below the top, paths around the layer, bias behind it), so that the sum is a check that can fail.
    """
    arrived, mass = _arrive(tape, target, layer)
    value = tape.steps[layer.step].value
    gain = arrived[layer.step]  # [1, B, *shape]
    share = (gain[0] * value).reshape(len(value), -1)  # [B, units]
    count = min(top, share.shape[1])
    flat = share.abs().topk(count, 1).indices
    shape = tuple(value.shape[1:])
    units = Units(shape, flat, coordinates(flat, shape))
    own = Job(network, tape, [Request(layer.step, units, layer.layer)], features, replace(options, strict=False)).run()[
        0
    ]
    weight = gain[0].reshape_as(share).gather(1, flat)
    others = gain.reshape(1, *share.shape).scatter(2, flat[None], 0).view_as(gain)
    below, below_mass = pull(tape, layer.step, others)
    pulled = below[0] + arrived[0] if 0 in arrived else below[0]
    rest = _rest(features, tape.input, pulled, (mass + below_mass).T, options.bias)
    total = target.units.gather(tape.steps[target.step].value)  # [B, 1]
    outputs = share.gather(1, flat)
    return Relevance(
        torch.cat([_scaled(own.scores, weight), rest.view(len(rest), 1, *own.scores.shape[2:])], 1),
        torch.cat([own.bias * weight, (mass + below_mass).T], 1),
        torch.cat([outputs, total - outputs.sum(1, keepdim=True)], 1),
        units.index,
        layer.layer,
        features.kind,
        own.mode,
        bias_in_scores=own.bias_in_scores,
        note=f"rows are the strongest units of {layer.layer!r} times their weight in {target.layer!r}, then the rest",
    )


def _arrive(tape: Tape, target: Request, layer: Request) -> tuple[dict[int, Tensor], Tensor]:
    """One class an input pulled back to the layer, and to the input by paths around it; see ``pull``."""
    if target.units.count != 1:
        raise InputError(f"one class per input can be split, not {target.units.count}")
    if layer.step not in tape.ancestors([target.step]):
        raise InputError(f"layer {layer.layer!r} does not lead to the network's output {target.layer!r}")
    return pull(tape, target.step, target.units.seed(0, 1, tape.steps[target.step].value), layer.step)


def _scaled(scores: Tensor, weight: Tensor) -> Tensor:
    return scores * weight.view(*weight.shape, *[1] * (scores.dim() - 2))


def _rest(features: Features, x: Tensor, pulled: Tensor, mass: Tensor, bias: str) -> Tensor:
    scores = features.contract(pulled, x)  # [B, 1, S]
    if bias == "separate":
        return scores
    positions = features.positions
    return scores + features.spread(scores.new_full((1, 1, positions), 1 / positions)) * mass.unsqueeze(2)
