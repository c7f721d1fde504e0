"""Recurrent layers: torch's own, of which every rule for them holds."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fwdkern.graph.onnx.registry import Node, operator

aten = torch.ops.aten

# For each kind its gates in torch's order by their places in the file, and its functions.
_GATES = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
_FUNCTIONS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}


class Steps:
    """All steps' states as torch has them, [T, B, directions · H], that ONNX shows as [T, directions, B, H].

    Exporters put torch's order back by more nodes. Seen as one, they move nothing, and the batch stays where rules
    can find it.
    """

    def __init__(self, states: Tensor, directions: int, swapped: bool = False) -> None:
        self.states, self.directions, self.swapped = states, directions, swapped

    def through(self, node: Node, sizes: Any) -> "Tensor | Steps | None":
        """What a node makes of these, None where it must see them as ONNX does; `sizes`: its second input."""
        if node.kind == "Transpose" and node.get("perm") == [0, 2, 1, 3]:
            return Steps(self.states, self.directions, not self.swapped)
        if node.kind == "Squeeze" and self.directions == 1:
            axes = node.get("axes") if sizes is None else np.asarray(sizes).reshape(-1).tolist()
            return self.states if (axes in ([2], [-2]) and self.swapped) or (axes == [1] and not self.swapped) else None
        if node.kind == "Reshape" and self.swapped:
            given = np.asarray(sizes).reshape(-1).tolist()
            steps, batch, width = self.states.shape
            # The number of entries leaves the batch no other size.
            fits = len(given) == 3 and given[0] in (0, steps) and given[2] in (-1, width)
            open_size = fits and (isinstance(given[1], torch.SymInt) or given[1] in (0, -1))
            return self.states if fits and (open_size or (isinstance(batch, int) and given[1] == batch)) else None
        return None

    def tensor(self) -> Tensor:
        """As ONNX shows them."""
        apart = self.states.unflatten(2, (self.directions, -1))
        return apart if self.swapped else apart.transpose(1, 2)


@operator("LSTM", "GRU", "RNN", plain=(4,), costly=True)
def recurrent(
    node: Node,
    x: Tensor,
    into: Tensor,
    back: Tensor,
    bias: Tensor | None = None,
    lengths: np.ndarray | None = None,
    h: Tensor | None = None,
    c: Tensor | None = None,
    peepholes: Tensor | None = None,
) -> tuple[Any, ...]:
    """One layer in one or both directions over x [T, B, D], or [B, T, D] where layout is 1. Weights of the input
    [directions, gates · H, D] and of the state, both biases behind one another."""
    batch_first, direction = bool(node.get("layout", 0)), node.get("direction", "forward")
    directions, hidden = into.shape[0], back.shape[2]
    if directions != 1 + (direction == "bidirectional"):
        node.refuse(f"direction={direction} with the weights of {directions}")
    kind = _kind(node, directions)
    if peepholes is not None:
        node.refuse("peepholes")
    time = 1 if batch_first else 0
    if lengths is not None and any(length != x.shape[time] for length in lengths.reshape(-1).tolist()):
        node.refuse("sequences of several lengths")
    states = [_state(given, x, directions, hidden, batch_first) for given in (h, c)[: 2 if kind == "lstm" else 1]]
    weights = _weights(node.kind, into, back, bias)
    if direction == "reverse":
        x = x.flip(time)
    common = weights, bias is not None, 1, 0.0, False, directions == 2, batch_first
    if kind == "lstm":
        y, *last = aten.lstm.input(x, states, *common)
    else:
        layer = {"gru": aten.gru.input, "tanh": aten.rnn_tanh.input, "relu": aten.rnn_relu.input}[kind]
        y, *last = layer(x, states[0], *common)
    if direction == "reverse":
        y = y.flip(time)
    if batch_first:
        return y.unflatten(2, (directions, hidden)), *(state.transpose(0, 1) for state in last)
    return Steps(y, directions), *last


def _kind(node: Node, directions: int) -> str:
    """Which of torch's layers this is."""
    expected = _FUNCTIONS[node.kind]
    given = [name.lower() for name in node.get("activations", expected * directions)]
    if node.kind == "RNN" and given == ["relu"] * directions:
        expected = ["Relu"]
    if given != [name.lower() for name in expected] * directions:
        node.refuse(f"activations={node.get('activations')}")
    if "clip" in node.attributes or node.get("input_forget", 0):
        node.refuse("clip or input_forget")
    if node.kind == "GRU" and not node.get("linear_before_reset", 0):
        node.refuse("linear_before_reset=0; with 1, as in torch and in Keras with reset_after=True, it")
    return expected[0].lower() if node.kind == "RNN" else node.kind.lower()


def _state(given: Tensor | None, x: Tensor, directions: int, hidden: int, batch_first: bool) -> Tensor:
    """An initial state [directions, B, H]."""
    if given is None:
        return x.new_zeros(directions, x.shape[0 if batch_first else 1], hidden)
    return given.transpose(0, 1) if batch_first else given


def _weights(kind: str, into: Tensor, back: Tensor, bias: Tensor | None) -> list[Tensor]:
    """Torch's flat list."""
    order = _GATES[kind]

    def ordered(part: Tensor) -> Tensor:
        gates = part.chunk(len(order))
        return torch.cat([gates[place] for place in order])

    found = []
    for direction in range(into.shape[0]):
        parts = [into[direction], back[direction]]
        parts += [] if bias is None else list(bias[direction].chunk(2))
        found += [ordered(part) for part in parts]
    return found
