"""Attention and rotations of opset 23 against the package's own evaluator, and maps against the same in pieces."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx.reference import ReferenceEvaluator

import fwdkern
from fwdkern.errors import UnsupportedOperatorError
from fwdkern.graph.onnx import read_onnx
from tests.graph.onnx.files import Node, model, save

RANDOM = np.random.default_rng(0)
BATCH, LENGTH, WIDTH = 2, 5, 12
MASK = np.tril(np.ones((LENGTH, LENGTH), bool), 2)


def layer(inputs: dict[str, np.ndarray], keys: int = WIDTH, **attributes: Any) -> tuple[list[Node], dict]:
    """Queries, keys and values [B, 5, ...] of an x [B, 5, 12], attention, and what comes out."""
    weights = {
        name: RANDOM.standard_normal((WIDTH, width)).astype(np.float32)
        for name, width in {"wq": WIDTH, "wk": keys, "wv": keys}.items()
    }
    nodes: list[Node] = [("MatMul", ["x", f"w{part}"], [part], {}) for part in "qkv"]
    return [*nodes, ("Attention", [*"qkv", *inputs], ["y"], attributes)], weights | inputs


def turned(inputs: list[str], width: int = 4, **attributes: Any) -> tuple[list[Node], dict]:
    angles = RANDOM.standard_normal((8, width // 2)).astype(np.float32)
    weights = {"cos": np.cos(angles), "sin": np.sin(angles), "at": np.array([[0, 2, 1, 7, 3]] * BATCH)}
    if not inputs:
        weights["cos"], weights["sin"] = (weights[name][weights["at"]] for name in ("cos", "sin"))
    return [("RotaryEmbedding", ["x", "cos", "sin", *inputs], ["y"], attributes)], weights


HEADS = {"q_num_heads": 3, "kv_num_heads": 3}
CASES = {
    "heads": layer({}, **HEADS),
    "scale": layer({}, scale=0.3, **HEADS),
    "causal": layer({}, is_causal=1, **HEADS),
    "mask": layer({"m": MASK}, **HEADS),
    "sum": layer({"m": RANDOM.standard_normal((3, 5, 5)).astype(np.float32)}, **HEADS),
    "causal with a mask": layer({"m": MASK[::-1].copy() | np.eye(5, dtype=bool)}, is_causal=1, **HEADS),
    "causal with a sum": layer({"m": RANDOM.standard_normal((5, 5)).astype(np.float32)}, is_causal=1, **HEADS),
    "groups": layer({}, 6, q_num_heads=6, kv_num_heads=3),
    "rotation": turned(["at"], num_heads=3),
    "rotation of pairs": turned(["at"], num_heads=3, interleaved=1),
    "rotation of some": turned(["at"], 2, num_heads=3, rotary_embedding_dim=2),
    "rotation by tables": turned([], num_heads=3),
}


@pytest.mark.parametrize("case", CASES)
def test_outputs_and_maps(case: str, tmp_path: Path) -> None:
    nodes, weights = CASES[case]
    proto = model(nodes, [BATCH, LENGTH, WIDTH], weights, 23)
    x = np.random.default_rng(1).standard_normal((BATCH, LENGTH, WIDTH)).astype(np.float32)
    (expected,) = ReferenceEvaluator(proto).run(None, {"x": x})
    read = read_onnx(save(proto, tmp_path))
    # Sums of 12 products of 12 products, in float32.
    assert torch.allclose(read(torch.from_numpy(x)), torch.from_numpy(expected), rtol=1e-4, atol=1e-4)
    given = torch.from_numpy(x).double()
    result = fwdkern.fuse(read.double(), given).attribute(given, (3, 7), "pixels", bias="separate")
    assert result.delta.abs().max() < 1e-12 * max(1.0, float(result.outputs.abs().max()))


def test_four_dimensions_are_the_same(tmp_path: Path) -> None:
    nodes, weights = layer({}, q_num_heads=3, kv_num_heads=3)
    flat = read_onnx(save(model(nodes, [BATCH, LENGTH, WIDTH], weights, 23), tmp_path)).double()
    apart: list[Node] = list(nodes[:3])
    for part in "qkv":
        apart += [
            ("Reshape", [part, "heads"], [f"{part}1"], {}),
            ("Transpose", [f"{part}1"], [f"{part}2"], {"perm": [0, 2, 1, 3]}),
        ]
    apart += [
        ("Attention", ["q2", "k2", "v2"], ["a"], {}),
        ("Transpose", ["a"], ["t"], {"perm": [0, 2, 1, 3]}),
        ("Reshape", ["t", "flat"], ["y"], {}),
    ]
    weights |= {"heads": np.array([0, 0, 3, 4]), "flat": np.array([0, 0, -1])}
    read = read_onnx(save(model(apart, [BATCH, LENGTH, WIDTH], weights, 23), tmp_path)).double()
    x = torch.randn(BATCH, LENGTH, WIDTH, generator=torch.Generator().manual_seed(0)).double()
    got, expected = (fwdkern.fuse(each, x).attribute(x, (3, 7)) for each in (flat, read))
    torch.testing.assert_close(got.scores, expected.scores, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("nodes", "match"),
    [(layer({}, softcap=2.0, **HEADS), "softcap"), (layer({}), "without q_num_heads"),
     (turned(["at"]), "without num_heads")],
)  # fmt: skip
def test_what_is_not_read_names_the_node(nodes: tuple, match: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedOperatorError, match=rf"node y \(\w+\).*{match}"):
        read_onnx(save(model(nodes[0], [BATCH, LENGTH, WIDTH], nodes[1], 23), tmp_path))
