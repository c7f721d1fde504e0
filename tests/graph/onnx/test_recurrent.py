"""Recurrent layers of files: against onnxruntime, torch's own layers, and as torch exports them."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import fwdkern
from fwdkern.errors import UnsupportedOperatorError
from fwdkern.graph.onnx import read_onnx
from tests.graph.onnx.files import Node, model, save
from tests.graph.onnx.test_exported import export

BATCH, TIME, WIDTH, HIDDEN = 2, 5, 3, 4
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


class Classifier(nn.Module):
    """[B, 5, 3] -> [B, 2], from the last step or the last state."""

    def __init__(self, kind: type[nn.RNNBase], layers: int, both: bool, batch_first: bool, state: bool) -> None:
        super().__init__()
        self.rnn = kind(WIDTH, HIDDEN, layers, bidirectional=both, batch_first=batch_first)  # type: ignore[call-arg]
        self.head = nn.Linear(HIDDEN * (1 + (both and not state)), 2)
        self.batch_first, self.state = batch_first, state

    def forward(self, x: Tensor) -> Tensor:
        y, last = self.rnn(x if self.batch_first else x.transpose(0, 1))
        if self.state:
            return self.head((last[0] if isinstance(last, tuple) else last)[-1])
        return self.head(y[:, -1] if self.batch_first else y[-1])


LAYERS = [
    *[(nn.LSTM, 2, True, True, False), (nn.LSTM, 1, False, False, False), (nn.LSTM, 2, False, True, True)],
    *[(nn.GRU, 1, True, False, False), (nn.GRU, 2, False, True, True)],
]
# The new exporter writes an RNN step by step, with steps and batch in turns, of which there are no maps.
OLD_ONLY = (nn.RNN, 1, False, True, False)


@pytest.mark.parametrize(
    ("arguments", "new"), [*((layer, new) for layer in LAYERS for new in (False, True)), (OLD_ONLY, False)]
)
def test_maps_are_those_of_the_exported_network(arguments: tuple, new: bool, tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        twin = Classifier(*arguments).eval()
    x = torch.randn(BATCH, TIME, WIDTH, generator=torch.Generator().manual_seed(1))
    path = tmp_path / "model.onnx"
    export(twin, x, path, 18, new, open_batch=True)
    read = read_onnx(path)
    (expected,) = onnxruntime.InferenceSession(path).run(None, {"x": x.numpy()})
    assert torch.allclose(read(x), torch.from_numpy(expected), atol=1e-5)
    x = x.double()
    got = fwdkern.fuse(read.double(), x).attribute(x, "all")
    wanted = fwdkern.fuse(twin.double(), x).attribute(x, "all")
    torch.testing.assert_close(got.scores, wanted.scores, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(got.bias, wanted.bias, rtol=1e-12, atol=1e-12)
    assert got.delta.abs().max() < 1e-12


def layer(kind: str, both: bool, **attributes: Any) -> tuple[list[Node], dict[str, np.ndarray]]:
    """A layer with all its biases, and its weights."""
    random, directions, gates = np.random.default_rng(0), 1 + both, GATES[kind]
    sizes = {
        "w": (directions, gates * HIDDEN, WIDTH),
        "r": (directions, gates * HIDDEN, HIDDEN),
        "b": (directions, 2 * gates * HIDDEN),
    }
    weights = {name: random.standard_normal(size).astype(np.float32) for name, size in sizes.items()}
    attributes = {"hidden_size": HIDDEN, **({"linear_before_reset": 1} if kind == "GRU" else {}), **attributes}
    return [(kind, ["x", "w", "r", "b"], ["y"], attributes)], weights


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_all_steps_are_onnxruntimes(kind: str, direction: str, tmp_path: Path) -> None:
    """As ONNX shows them, which the next operator, a ReLU, needs."""
    nodes, weights = layer(kind, direction == "bidirectional", direction=direction)
    nodes = [(*nodes[0][:2], ["s"], nodes[0][3]), ("Relu", ["s"], ["y"], {})]
    path = save(model(nodes, [TIME, "batch", WIDTH], weights, 14), tmp_path)
    x = np.random.default_rng(1).standard_normal((TIME, BATCH, WIDTH)).astype(np.float32)
    (expected,) = onnxruntime.InferenceSession(path).run(None, {"x": x})
    got = read_onnx(path)(torch.from_numpy(x))
    assert got.shape == expected.shape
    assert torch.allclose(got, torch.from_numpy(expected), atol=1e-5)


def test_lines_of_text(tmp_path: Path) -> None:
    """As readers of lines are: one picture of any width, its columns the steps in front of the batch, and states made
    of the batch's size."""
    (recurrence,), weights = layer("LSTM", True, direction="bidirectional")
    random = np.random.default_rng(2)
    nodes: list[Node] = [
        ("Conv", ["x", "kernel"], ["c"], {"strides": [2, 2]}),
        ("Transpose", ["c"], ["t"], {"perm": [3, 0, 1, 2]}),
        ("Reshape", ["t", "flat"], ["steps"], {}),
        ("Shape", ["steps"], ["shape"], {}),
        ("Gather", ["shape", "one"], ["batch"], {}),
        ("Concat", ["two", "batch", "hidden"], ["sizes"], {"axis": 0}),
        ("ConstantOfShape", ["sizes"], ["state"], {}),
        ("LSTM", ["steps", "w", "r", "b", "", "state", "state"], ["h"], recurrence[3]),
        ("Transpose", ["h"], ["beside"], {"perm": [0, 2, 1, 3]}),
        ("Reshape", ["beside", "joined"], ["y"], {}),
    ]
    weights |= {
        "kernel": random.standard_normal((WIDTH, 1, 2, 2)).astype(np.float32),
        **{"flat": np.array([0, 0, -1]), "joined": np.array([0, 0, -1])},
        **{name: np.array([size]) for name, size in (("one", 1), ("two", 2), ("hidden", HIDDEN))},
    }
    path = save(model(nodes, [1, 1, 2, "width"], weights, 14), tmp_path)
    x = random.standard_normal((3, 1, 2, 10)).astype(np.float32)
    session = onnxruntime.InferenceSession(path)
    expected = np.concatenate([session.run(None, {"x": picture[None]})[0] for picture in x], 1)
    net = fwdkern.fuse(path, torch.from_numpy(x))
    assert torch.allclose(net(torch.from_numpy(x)), torch.from_numpy(expected), atol=1e-5)
    double = torch.from_numpy(x).double()
    found = fwdkern.fuse(read_onnx(path).double(), double).attribute(double, (2, 1))
    assert torch.allclose(found.outputs[:, 0].float(), torch.from_numpy(expected)[2, :, 1], atol=1e-5)
    assert found.scores.abs().amax((1, 2, 3)).min() > 0 and found.delta.abs().max() < 1e-12


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("result", [0, 1])
def test_maps_add_up_in_each_direction(kind: str, direction: str, result: int, tmp_path: Path) -> None:
    """Batch in front, as Keras has it: swapped before the layer and, of all steps, behind it."""
    nodes, weights = layer(kind, False, direction=direction)
    outputs = [["s"], ["", "s"]][result]
    behind: list[Node] = [
        [("Squeeze", ["s", "one"], ["q"], {}), ("Transpose", ["q"], ["t"], {"perm": [1, 0, 2]}),
         ("Gather", ["t", "two"], ["y"], {"axis": 1})],
        [("Squeeze", ["s", "zero"], ["y"], {})],
    ][result]  # fmt: skip
    nodes = [
        ("Transpose", ["x"], ["time"], {"perm": [1, 0, 2]}),
        (kind, ["time", *nodes[0][1][1:]], outputs, {"name": "layer", **nodes[0][3]}),
        *behind,
    ]
    weights |= {"one": np.array([1]), "zero": np.array([0]), "two": np.array(2)}
    path = save(model(nodes, ["batch", TIME, WIDTH], weights, 14), tmp_path)
    x = np.random.default_rng(1).standard_normal((BATCH, TIME, WIDTH)).astype(np.float32)
    (expected,) = onnxruntime.InferenceSession(path).run(None, {"x": x})
    read = read_onnx(path)
    assert torch.allclose(read(torch.from_numpy(x)), torch.from_numpy(expected), atol=1e-5)
    given = torch.from_numpy(x).double()
    relevance = fwdkern.fuse(read.double(), given).attribute(given, "all", "tokens", bias="separate")
    assert relevance.delta.abs().max() < 1e-12
    # Step 2 knows of those up to it, from the side where the layer begins; the state at the end of all.
    seen = relevance.scores.abs().sum((0, 1)) > 0
    first = {"forward": [1, 1, 1, 0, 0], "reverse": [0, 0, 1, 1, 1]}[direction] if result == 0 else [1] * TIME
    assert seen.tolist() == [bool(step) for step in first]


@pytest.mark.parametrize(
    ("kind", "attributes", "match"),
    [
        ("LSTM", {"activations": ["Sigmoid", "Relu", "Tanh"]}, "activations"),
        ("LSTM", {"clip": 1.0}, "clip"),
        ("LSTM", {"input_forget": 1}, "input_forget"),
        ("GRU", {"linear_before_reset": 0}, "linear_before_reset=0"),
        ("RNN", {"activations": ["Affine"]}, "activations"),
    ],
)
def test_other_layers_are_refused(kind: str, attributes: dict, match: str, tmp_path: Path) -> None:
    nodes, weights = layer(kind, False, **attributes)
    with pytest.raises(UnsupportedOperatorError, match=rf"node y \({kind}\).*{match}"):
        read_onnx(save(model(nodes, [TIME, BATCH, WIDTH], weights, 14), tmp_path))


def test_lengths_and_peepholes_are_refused(tmp_path: Path) -> None:
    nodes, weights = layer("LSTM", False)
    kind, inputs, outputs, attributes = nodes[0]
    lengths = weights | {"l": np.array([TIME, TIME - 1], np.int32), "p": np.ones((1, 3 * HIDDEN), np.float32)}
    for more, match in ((["l"], "several lengths"), (["", "", "", "p"], "peepholes")):
        proto = model([(kind, inputs + more, outputs, attributes)], [TIME, BATCH, WIDTH], lengths, 14)
        with pytest.raises(UnsupportedOperatorError, match=rf"node y \(LSTM\).*{match}"):
            read_onnx(save(proto, tmp_path))
    proto = model(
        [(kind, [*inputs, "l"], outputs, attributes)],
        [TIME, BATCH, WIDTH],
        weights | {"l": np.full(2, TIME, np.int32)},
        14,
    )
    assert read_onnx(save(proto, tmp_path))(torch.ones(TIME, BATCH, WIDTH)).shape == (TIME, 1, BATCH, HIDDEN)
