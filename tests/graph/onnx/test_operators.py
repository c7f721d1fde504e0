"""Operators that torch does not export, or seldom, against onnxruntime."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from fwdkern.errors import UnsupportedOperatorError
from fwdkern.graph.onnx import read_onnx
from tests.graph.onnx.files import Node, model, save

SHAPE = [2, 4, 8, 6]
RANDOM = np.random.default_rng(0)
KERNEL = RANDOM.standard_normal((6, 4, 3, 2)).astype(np.float32)
TRANSPOSED = RANDOM.standard_normal((4, 3, 3, 2)).astype(np.float32)
POOL = {"kernel_shape": [3, 2], "strides": [2, 2]}


def one(kind: str, *inputs: str, **attributes: Any) -> list[Node]:
    return [(kind, ["x", *inputs], ["y"], attributes)]


CASES: dict[str, tuple[list[Node], dict[str, np.ndarray]]] = {
    **{
        f"Conv {rule}": (one("Conv", "k", auto_pad=rule, strides=[2, 2]), {"k": KERNEL})
        for rule in ("SAME_UPPER", "SAME_LOWER", "VALID")
    },
    "Conv asymmetric": (one("Conv", "k", pads=[0, 1, 2, 0]), {"k": KERNEL}),
    "ConvTranspose asymmetric": (one("ConvTranspose", "k", pads=[0, 1, 2, 0], strides=[2, 2]), {"k": TRANSPOSED}),
    "ConvTranspose shape": (one("ConvTranspose", "k", output_shape=[16, 12], strides=[2, 2]), {"k": TRANSPOSED}),
    "ConvTranspose extra": (
        one("ConvTranspose", "k", pads=[1, 0, 1, 0], strides=[2, 2], output_padding=[1, 0]),
        {"k": TRANSPOSED},
    ),
    **{
        f"{kind} {name}": (one(kind, **POOL, **attributes), {})
        for kind in ("MaxPool", "AveragePool")
        for name, attributes in {
            "upper": {"auto_pad": "SAME_UPPER"},
            "lower": {"auto_pad": "SAME_LOWER"},
            "ceil": {"ceil_mode": 1},
            "padded": {"pads": [1, 1, 1, 1]},
            "asymmetric": {"pads": [1, 0, 0, 1]},
        }.items()
    },
    "MaxPool dilated": (one("MaxPool", kernel_shape=[2, 2], dilations=[2, 3]), {}),
    "AveragePool counted": (one("AveragePool", **POOL, pads=[1, 0, 0, 1], count_include_pad=1), {}),
    "GlobalMaxPool": (one("GlobalMaxPool"), {}),
    "LRN": (one("LRN", size=3, alpha=0.1), {}),
    "LRN wide": (one("LRN", size=5, alpha=0.1, beta=0.5, bias=2.0), {}),
    "HardSigmoid": (one("HardSigmoid", alpha=0.3, beta=0.4), {}),
    "Clip": (one("Clip", "low", "high"), {"low": np.float32(-0.5), "high": np.float32(0.5)}),
    "PRelu": (one("PRelu", "s"), {"s": np.float32([0.1, 0.2, 0.3, 0.4]).reshape(4, 1, 1)}),
    "Slice back": (
        one("Slice", "from", "to", "axes", "steps"),
        {"from": np.array([-1]), "to": np.array([-(2**31)]), "axes": np.array([2]), "steps": np.array([-2])},
    ),
    "Pad reflect": (one("Pad", "w", mode="reflect"), {"w": np.array([0, 0, 1, 2, 0, 0, 2, 1])}),
    "Pad edge": (one("Pad", "w", mode="edge"), {"w": np.array([0, 0, 1, 2, 0, 0, 2, 1])}),
    "Pad constant": (one("Pad", "w", "c"), {"w": np.array([0, 1, 0, 2, 0, 0, 2, -1]), "c": np.float32(2)}),
    **{
        f"Split {parts}, {read} read": (
            [
                ("Split", ["x"], list(parts), {"axis": 2}),
                ("Transpose", [read], ["y"], {"perm": [0, 1, 3, 2]}),
            ],
            {},
        )
        for parts, read in [("ab", "a"), ("abcd", "b"), ("abcd", "d")]
    },
    "SpaceToDepth": (one("SpaceToDepth", blocksize=2), {}),
    "DepthToSpace": (one("DepthToSpace", blocksize=2), {}),
    "DepthToSpace CRD": (one("DepthToSpace", blocksize=2, mode="CRD"), {}),
    **{
        f"Resize {mode} {where} {by}": (
            one("Resize", "", "scales", mode=mode, coordinate_transformation_mode=where, **more),
            {"scales": np.float32([1, 1, by, by])},
        )
        for mode, where, by, more in [
            ("nearest", "asymmetric", 2, {"nearest_mode": "floor"}),
            ("nearest", "asymmetric", 1.5, {"nearest_mode": "ceil"}),
            ("nearest", "half_pixel", 2, {}),
            ("nearest", "half_pixel", 0.6, {}),
            ("nearest", "align_corners", 1.5, {"nearest_mode": "floor"}),
            ("linear", "half_pixel", 2, {}),
            ("linear", "half_pixel", 1.3, {}),
            ("linear", "align_corners", 2, {}),
            ("cubic", "half_pixel", 2, {}),
        ]
    },
    "shapes": (
        [
            ("Shape", ["x"], ["s"], {}),
            ("Gather", ["s", "first"], ["n"], {}),
            ("Unsqueeze", ["n", "zero"], ["n1"], {}),
            ("Concat", ["n1", "rest"], ["to"], {"axis": 0}),
            ("Reshape", ["x", "to"], ["y"], {}),
        ],
        {"first": np.array(0), "zero": np.array([0]), "rest": np.array([-1])},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_output_is_onnxruntimes(case: str, tmp_path: Path) -> None:
    nodes, weights = CASES[case]
    path = save(model(nodes, ["batch", *SHAPE[1:]], weights), tmp_path)
    x = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)
    (expected,) = onnxruntime.InferenceSession(path).run(None, {"x": x})
    got = read_onnx(path)(torch.from_numpy(x))
    assert got.shape == expected.shape
    # Sums of at most 24 products, and interpolation weights rounded in float32 at positions up to 14.
    assert torch.allclose(got, torch.from_numpy(expected), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("nodes", "weights", "match"),
    [
        (one("MaxPool", kernel_shape=[2, 2], auto_pad="OTHER"), {}, "auto_pad=OTHER"),
        (one("Resize", "roi", "s", mode="linear", coordinate_transformation_mode="tf_crop_and_resize"),
         {"roi": np.float32([0, 0, 0, 0, 1, 1, 1, 1]), "s": np.float32([1, 1, 2, 2])},
         "coordinate_transformation_mode=tf_crop_and_resize"),
        (one("LRN", size=1000), {}, "size=1000"),
    ],
)  # fmt: skip
def test_uses_that_are_not_read_name_the_node(nodes: list[Node], weights: dict, match: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedOperatorError, match=rf"node y \(\w+\).*{match}"):
        read_onnx(save(model(nodes, SHAPE, weights), tmp_path))
