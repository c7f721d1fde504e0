"""Files as converters other than torch's write them, and of older opsets: outputs against onnxruntime, maps against
autograd."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

import fwdkern
from fwdkern.errors import CaptureError, InputError, UnsupportedOperatorError
from fwdkern.graph.onnx import read_onnx
from tests.graph.onnx.files import Node, model, save

RANDOM = np.random.default_rng(0)
SHAPE = [2, 4, 7, 6]
# Of these the frozen coefficients are the derivative, so that the maps are input times gradient.
Case = tuple[list[Node], dict[str, np.ndarray], int, list[int]]
LINEAR: dict[str, Case] = {}
SMOOTH: dict[str, Case] = {}


def weight(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def whole(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def add(
    name: str, nodes: list[Node], weights: dict[str, np.ndarray] | None = None, opset: int = 17, **more: Any
) -> None:
    cases = SMOOTH if more.get("smooth") else LINEAR
    cases[f"{name}, opset {opset}"] = nodes, weights or {}, opset, more.get("shape", SHAPE)


def one(kind: str, *inputs: str, **attributes: Any) -> list[Node]:
    return [(kind, ["x", *inputs], ["y"], attributes)]


for _b, _alpha in (((7, 5), 1.0), ((5, 7), 0.5)):
    for _c in ((5,), (3, 1), (1,), ()):
        add(
            f"Gemm {_b} {_c}",
            one("Gemm", "b", "c", transB=int(_b[0] == 5), alpha=_alpha, beta=2 * _alpha),
            {"b": weight(*_b), "c": weight(*_c) if _c else np.float32(0.3)},
            shape=[3, 7],
        )
add("MatMul on the left", [("MatMul", ["w", "x"], ["y"], {})], {"w": weight(5, 7)})
add("MatMul with a vector", one("MatMul", "w"), {"w": weight(6)})
add(
    "pictures [B, H, W, 3] and a dense head",
    [
        ("Transpose", ["x"], ["t"], {"perm": [0, 3, 1, 2]}),
        ("Conv", ["t", "k"], ["c"], {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        ("Transpose", ["c"], ["u"], {"perm": [0, 2, 3, 1]}),
        ("Add", ["u", "b"], ["v"], {}),
        ("Relu", ["v"], ["r"], {}),
        ("Reshape", ["r", "s"], ["f"], {}),
        ("MatMul", ["f", "w"], ["m"], {}),
        ("Add", ["h", "m"], ["y"], {}),
    ],
    {"k": weight(6, 3, 3, 3), "b": weight(6), "s": whole(-1, 120), "w": weight(120, 4), "h": weight(4)},
    shape=[2, 9, 7, 3],
)
for _equation, _w in (("bchw, cd -> bhwd", (4, 3)), ("...w,wk->...k", (6, 2)), ("bchw,cd", (4, 3))):
    add(f"Einsum {_equation}", one("Einsum", "w", equation=_equation), {"w": weight(*_w)})
for _name, _value in (("value_float", 1.5), ("value_floats", [1.0, 2, 3, 4, 5, 6])):
    add(f"Constant {_name}", [("Constant", [], ["c"], {_name: _value}), ("Mul", ["x", "c"], ["y"], {})])
add("Constant value_int", [("Constant", [], ["c"], {"value_int": 3}), ("Cast", ["c"], ["d"], {"to": 1}),
                           ("Mul", ["x", "d"], ["y"], {})])  # fmt: skip
add("Constant value_ints", [("Constant", [], ["c"], {"value_ints": [0, -1]}), ("Reshape", ["x", "c"], ["y"], {})])
for _opset in (7, 9, 14, 15):
    add(
        "BatchNormalization",
        one("BatchNormalization", "s", "b", "m", "v", epsilon=0.01),
        {"s": weight(4), "b": weight(4), "m": weight(4), "v": weight(4) ** 2},
        _opset,
    )
for _mode in ("constant", "edge", "reflect", "wrap"):
    for _name, _pads in (("cuts", (0, 0, 1, -1, 0, 0, -2, 2)), ("of channels", (0, 1, 0, 0, 0, 2, 0, 0)),
                         ("both", (0, -1, 1, 1, 0, 2, 0, -2))):  # fmt: skip
        add(f"Pad {_mode} {_name}", one("Pad", "w", mode=_mode), {"w": whole(*_pads)}, 19)
    add(f"Pad {_mode} of axes", one("Pad", "w", "", "a", mode=_mode), {"w": whole(1, 2, 0, 1), "a": whole(-1, 2)}, 19)
    add(f"Pad {_mode} of a matrix", one("Pad", "w", mode=_mode), {"w": whole(0, 1, 0, 2)}, 19, shape=[2, 5])
add("Pad", one("Pad", mode="constant", pads=[0, 0, 2, 1, 0, 0, 1, 3], value=1.5), opset=10)
for _opset, _ceil, _counted in ((10, 1, 0), (10, 1, 1), (19, 1, 1), (22, 0, 1)):
    for _pads in ([1, 1, 1, 1], [1, 0, 0, 1]):
        add(
            f"AveragePool {_ceil} {_counted} {_pads}",
            one("AveragePool", kernel_shape=[3, 3], strides=[2, 3], ceil_mode=_ceil, pads=_pads,
                count_include_pad=_counted),
            opset=_opset,
        )  # fmt: skip
for _where in ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"):
    for _to in (13, 5, 1):
        for _rule in ("round_prefer_floor", "ceil") if _where != "half_pixel_symmetric" else ():
            add(
                f"Resize nearest {_where} to {_to} by {_rule}",
                one("Resize", "", "", "to", mode="nearest", coordinate_transformation_mode=_where, nearest_mode=_rule),
                {"to": whole(2, 4, _to, 9)},
                19,
            )
        add(
            f"Resize linear {_where} to {_to}",
            one("Resize", "", "", "to", mode="linear", coordinate_transformation_mode=_where),
            {"to": whole(2, 4, _to, 9)},
            19,
        )
    if _where not in ("align_corners", "half_pixel_symmetric"):
        # Places half between two entries, which float32 rounds.
        for _by in (1.3, 0.6):
            for _rule in ("round_prefer_floor", "floor"):
                add(
                    f"Resize nearest {_where} by {_by} by {_rule}",
                    one("Resize", "", "by", coordinate_transformation_mode=_where, nearest_mode=_rule),
                    {"by": np.float32([1, 1, _by, _by])},
                    19,
                )
for _mode in ("nearest", "linear"):
    add(f"Upsample {_mode}", one("Upsample", mode=_mode, scales=[1.0, 1.0, 2.0, 3.0]), opset=7)
    add(f"Upsample {_mode}", one("Upsample", "by", mode=_mode), {"by": np.float32([1, 1, 2, 2.5])}, 9)
    add(f"Resize {_mode}", one("Resize", "by", mode=_mode), {"by": np.float32([1, 1, 2, 1.5])}, 10)
add("Resize for a nearest entry of TensorFlow",
    one("Resize", "roi", "by", coordinate_transformation_mode="tf_half_pixel_for_nn", nearest_mode="floor"),
    {"roi": np.zeros(0, np.float32), "by": np.float32([1, 1, 1.5, 2])}, 11)  # fmt: skip
add("Clip open below", one("Clip", "", "high"), {"high": np.float32(0.5)})
add("Clip open above", one("Clip", "low"), {"low": np.float32(-0.5)})
add("Clip", one("Clip", min=-0.5, max=0.5), opset=9)
add("Clip open above", one("Clip", min=0.2), opset=9)
for _opset in (13, 17):
    add("ReduceMean", one("ReduceMean", axes=[-1, 1], keepdims=0), opset=_opset)
add("ReduceMean", one("ReduceMean", "a"), {"a": whole(2, -1)}, 18)
for _part in "abc":
    nodes: list[Node] = [("Split", ["x"], ["a", "b", "c"], {"axis": 2, "num_outputs": 3}), ("Neg", [_part], ["y"], {})]
    add(f"Split into equal parts, {_part}", nodes, opset=18)
add("Split", [("Split", ["x"], ["a", "b"], {"axis": 2, "split": [2, 5]}), ("Neg", ["b"], ["y"], {})], opset=11)
for _axis in (1, -3):
    add(f"Flatten {_axis}", one("Flatten", axis=_axis))
_reduced: Node = ("ReduceMean", ["x"], ["m"], {"axes": [2, 3]})
add("Squeeze", [_reduced, ("Squeeze", ["m"], ["y"], {"axes": [2, -1]})], opset=11)
add("Squeeze", [_reduced, ("Squeeze", ["m", "a"], ["y"], {})], {"a": whole(2, -1)}, 13)
add("Unsqueeze", one("Unsqueeze", axes=[-1, 1]), opset=11)
for _name, _window in {"ends": (-1, -100, 2, -2), "far": (100, 1, 2, -3), "most": (2**63 - 1, -(2**63), 3, -1)}.items():
    add(f"Slice back, {_name}", one("Slice", *"seat"), {k: whole(v) for k, v in zip("seat", _window, strict=True)})
add("Slice", one("Slice", starts=[1, -3], ends=[3, 1000], axes=[1, 3]), opset=9)
add(
    "Slice of a shape",
    [("Shape", ["x"], ["n"], {}), ("Slice", ["n"], ["b"], {"axes": [0], "starts": [0], "ends": [1]}),
     ("Concat", ["b", "r"], ["s"], {"axis": 0}), ("Reshape", ["x", "s"], ["y"], {})],
    {"r": whole(-1)},
    9,
)  # fmt: skip
add("Gather from the end", one("Gather", "i", axis=-1), {"i": whole(-1, 0, -6)})
add("Gather one", one("Gather", "i", axis=1), {"i": np.array(-1)})
add("Gather a matrix", one("Gather", "i", axis=2), {"i": np.array([[-1, 2], [0, -7]])})
add("Where", [("Where", ["c", "x", "a"], ["y"], {})], {"c": weight(4, 1, 6) > 0, "a": weight(6)})
add("Expand", [_reduced, ("Expand", ["m", "s"], ["y"], {})], {"s": whole(1, 1, 3, 5)})
add("Expand a constant", [("Expand", ["c", "s"], ["e"], {}), ("Add", ["x", "e"], ["y"], {})],
    {"c": weight(1, 4, 1, 1), "s": whole(2, 4, 7, 6)})  # fmt: skip
add("Dropout", [("Dropout", ["x", "r", "t"], ["d", "mask"], {}), ("Relu", ["d"], ["y"], {})],
    {"r": np.float32(0.5), "t": np.array(False)})  # fmt: skip
add("Dropout", [("Dropout", ["x"], ["d", "mask"], {"ratio": 0.5}), ("Relu", ["d"], ["y"], {})], opset=7)
add("weights in half precision", [("Cast", ["h"], ["w"], {"to": 1}), ("MatMul", ["x", "w"], ["y"], {})],
    {"h": weight(6, 3).astype(np.float16)})  # fmt: skip
_BYTES = RANDOM.integers(-127, 127, (6, 4, 3, 3)).astype(np.int8)
for _name, _zero in (("", {}), (" with zero points", {"z": RANDOM.integers(-9, 9, 6).astype(np.int8)})):
    add(
        f"weights in bytes{_name}",
        [("DequantizeLinear", ["q", "s", *_zero], ["w"], {"axis": 0}), ("Conv", ["x", "w"], ["y"], {})],
        {"q": _BYTES, "s": np.abs(weight(6)) * 0.1, **_zero},
    )
add(
    "weights in bytes by blocks",
    [("DequantizeLinear", ["q", "s"], ["w"], {"axis": 0, "block_size": 2}), ("MatMul", ["x", "w"], ["y"], {})],
    {"q": _BYTES.reshape(6, 36), "s": np.abs(weight(3, 36)) * 0.1},
    21,
)

for _opset in (7, 11, 12, 13):
    for _axis in (1, 2, -1):
        for _kind in ("Softmax", "LogSoftmax"):
            add(f"{_kind} over {_axis}", one(_kind, axis=_axis), opset=_opset, smooth=True)
    add("Softmax", one("Softmax"), opset=_opset, smooth=True)
for _p in (1, 2):
    add(f"LpNormalization {_p}", one("LpNormalization", p=_p, axis=1), smooth=True)
add("LayerNormalization from 2", one("LayerNormalization", "s", axis=2), {"s": weight(6)}, smooth=True)
add("LayerNormalization from 1", one("LayerNormalization", "s", "b", axis=1),
    {"s": weight(4, 7, 6), "b": weight(4, 7, 6)}, smooth=True)  # fmt: skip
add("RMSNormalization", one("RMSNormalization", "s", axis=2, epsilon=0.1), {"s": weight(7, 6)}, 23, smooth=True)
add("GroupNormalization", one("GroupNormalization", "s", "b", num_groups=2), {"s": weight(4), "b": weight(4)}, 21,
    smooth=True)  # fmt: skip
for _axes in ([1], [3], [2, 3]):
    for _second in ("Div", "Mul"):
        add(
            f"a norm in pieces over {_axes} by {_second}",
            [
                ("ReduceMean", ["x"], ["m"], {"axes": _axes}),
                ("Sub", ["x", "m"], ["d"], {}),
                ("Mul", ["d", "d"], ["q"], {}),
                ("ReduceMean", ["q"], ["v"], {"axes": _axes}),
                ("Add", ["v", "eps"], ["e"], {}),
                ("Sqrt", ["e"], ["r"], {}),
                ("Reciprocal", ["r"], ["i"], {}),
                (_second, ["d", "r" if _second == "Div" else "i"], ["n"], {}),
                ("Mul", ["n", "s"], ["y"], {}),
            ],
            {"eps": np.float32(1e-3), "s": weight(6)},
            smooth=True,
        )
for _kind in ("Sinh", "Atan", "Asinh"):
    add(_kind, one(_kind), smooth=True)
_SIX = {"three": np.float32(3), "six": np.float32(6)}
add(
    "HardSwish in pieces",
    [("Add", ["x", "three"], ["a"], {}), ("Clip", ["a"], ["c"], {"min": 0.0, "max": 6.0}),
     ("Mul", ["x", "c"], ["m"], {}), ("Div", ["m", "six"], ["y"], {})],
    _SIX,
    9,
    smooth=True,
)  # fmt: skip


@pytest.mark.parametrize("case", [*LINEAR, *SMOOTH])
def test_outputs_and_maps(case: str, tmp_path: Path) -> None:
    nodes, weights, opset, shape = {**LINEAR, **SMOOTH}[case]
    path = save(model(nodes, shape, weights, opset), tmp_path)
    values = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    (expected,) = onnxruntime.InferenceSession(path.read_bytes()).run(None, {"x": values})
    read = read_onnx(path)
    got = read(torch.from_numpy(values))
    assert list(got.shape) == list(expected.shape)
    # Sums of at most 250 products, and interpolation weights rounded in float32.
    assert torch.allclose(got, torch.from_numpy(expected), rtol=1e-5, atol=2e-5)

    x = torch.from_numpy(values).double().requires_grad_()
    twin = read.double()
    y = twin(x)
    unit = tuple(size // 2 for size in y.shape[1:])
    kind = "channels" if x.dim() == 4 else "pixels"
    result = fwdkern.fuse(twin, x.detach()).attribute(
        x.detach(), unit[0] if len(unit) == 1 else unit, kind, bias="separate"
    )
    assert result.delta.abs().max() < 1e-12 * max(1.0, float(y.detach().abs().max()))
    if case in LINEAR:
        (slope,) = torch.autograd.grad(y[(slice(None), *unit)].sum(), x)
        products = (slope * x).reshape(result.scores.shape).detach()
        assert (result.scores - products).abs().max() < 1e-12 * max(1.0, float(products.abs().max()))
        assert (result.outputs.flatten() - y[(slice(None), *unit)].detach()).abs().max() < 1e-12 * y.abs().max()


@pytest.mark.parametrize(
    ("nodes", "weights", "opset", "match"),
    [
        (one("BatchNormalization", *"sbmv", spatial=0), dict.fromkeys("sbmv", np.ones((4, 7, 6), np.float32)), 7,
         "BatchNormalization.*spatial=0"),
        (one("Resize", "by"), {"by": np.float32([1, 1, 0.5, 0.5])}, 10, "Resize.*smaller"),
        (one("Resize", "", "by", coordinate_transformation_mode="half_pixel_symmetric"),
         {"by": np.float32([1, 1, 0.6, 0.6])}, 19, "Resize.*mode=nearest"),
        (one("Resize", "", "by", mode="cubic", coordinate_transformation_mode="asymmetric"),
         {"by": np.float32([1, 1, 2, 2])}, 17, "Resize.*mode=cubic"),
        ([("Dropout", ["x"], ["d", "mask"], {}), ("Where", ["mask", "d", "z"], ["y"], {})], {"z": np.float32(0)}, 17,
         "Dropout.*mask"),
        ([("Cast", ["x"], ["q"], {"to": 3}), ("DequantizeLinear", ["q", "s"], ["y"], {})], {"s": np.float32(1)}, 17,
         "DequantizeLinear.*while the network runs"),
        (one("Pad", "w", mode="strange"), {"w": whole(0, 1, 0, 0, 0, 0, 0, 0)}, 17, "Pad.*mode=strange"),
        ([("QuantizeLinear", ["x", "s"], ["q"], {}), ("DequantizeLinear", ["q", "s"], ["y"], {})],
         {"s": np.float32(1)}, 17, r"QuantizeLinear \(quantised\): q"),
        (one("Pad", "w", mode="reflect"), {"w": whole(0, 9, 0, 0, 0, 0, 0, 0)}, 17, "Pad.*pads of 9"),
    ],
)  # fmt: skip
def test_what_is_not_read_names_the_node(
    nodes: list[Node], weights: dict, opset: int, match: str, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedOperatorError, match=match):
        read_onnx(save(model(nodes, SHAPE, weights, opset), tmp_path))


def test_places_that_depend_on_values_are_refused(tmp_path: Path) -> None:
    nodes: list[Node] = [
        ("ArgMax", ["x"], ["i"], {"axis": 1}),
        ("ScatterND", ["x", "i", "u"], ["y"], {}),
    ]
    path = save(model(nodes, [2, 3], {"u": weight(2, 3)}), tmp_path)
    with pytest.raises(CaptureError, match=r"node y \(ScatterND\).*input 1 from values"):
        read_onnx(path)


def test_weights_among_the_inputs(tmp_path: Path) -> None:
    """As files before IR version 4 must have them."""
    proto = model(one("MatMul", "w"), [2, 3], {"w": weight(3, 2)}, opset=8)
    proto.ir_version = 3
    proto.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [3, 2]))
    path = save(proto, tmp_path)
    x = weight(2, 3)
    (expected,) = onnxruntime.InferenceSession(path.read_bytes()).run(None, {"x": x})
    assert torch.allclose(read_onnx(path)(torch.from_numpy(x)), torch.from_numpy(expected), atol=1e-6)


def test_open_sizes_written_as_minus_one(tmp_path: Path) -> None:
    read = read_onnx(save(model(one("Relu"), [-1, 3, -1, -1]), tmp_path))
    x = torch.from_numpy(weight(2, 3, 5, 4))
    assert read(x).equal(x.relu())
    with pytest.raises(InputError, match=r"got \[2, 4, 5, 4\]"):
        read(torch.ones(2, 4, 5, 4))


def test_numbers_of_the_other_kind_are_refused(tmp_path: Path) -> None:
    read = read_onnx(save(model(one("Relu"), [2, 3]), tmp_path))
    with pytest.raises(InputError, match=r"input x is torch\.float32, got torch\.int64"):
        read(torch.ones(2, 3, dtype=torch.int64))
    whole_numbers = model([("Gather", ["w", "x"], ["y"], {})], [2, 3], {"w": weight(5, 4)}, kind=TensorProto.INT64)
    with pytest.raises(InputError, match=r"input x is torch\.int64, got torch\.float32"):
        read_onnx(save(whole_numbers, tmp_path))(torch.ones(2, 3))


def test_a_second_input_is_named(tmp_path: Path) -> None:
    proto: onnx.ModelProto = model([("Add", ["x", "state"], ["y"], {})], [2, 3])
    proto.graph.input.append(helper.make_tensor_value_info("state", TensorProto.FLOAT, [2, 3]))
    with pytest.raises(InputError, match=r"2 inputs.*'state'"):
        read_onnx(save(proto, tmp_path))


def test_files_that_end_in_a_choice(tmp_path: Path) -> None:
    """The class's number has no map; the scores that it is chosen from have, as has the largest of them."""
    scores: Node = ("MatMul", ["x", "w"], ["s"], {"name": "/fc/MatMul"})
    weights = {"w": weight(3, 5), "two": whole(2)}
    x = torch.from_numpy(weight(2, 3))
    proto = model([scores, ("ArgMax", ["s"], ["y"], {"axis": 1, "keepdims": 0})], ["batch", 3], weights)
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    net = fwdkern.fuse(save(proto, tmp_path), x)
    assert net(x).equal((x @ torch.from_numpy(weights["w"])).argmax(1))
    with pytest.raises(InputError, match=r"whole numbers.*attribute_units with layer 'fc'"):
        net.attribute(x)
    assert net.attribute_units(x, "fc", torch.tensor([[1]])).delta.abs().max() < 1e-5

    proto = model([scores, ("TopK", ["s", "two"], ["y", "i"], {})], ["batch", 3], weights)
    net = fwdkern.fuse(save(proto, tmp_path), x)
    assert net(x).equal((x @ torch.from_numpy(weights["w"])).topk(2)[0])
    assert net.attribute(x, 0).delta.abs().max() < 1e-5
    proto.graph.output.append(helper.make_tensor_value_info("i", TensorProto.INT64, None))
    with pytest.raises(InputError, match="attribute_units with one of its layers, of which the last are 'fc'"):
        fwdkern.fuse(save(proto, tmp_path), x).attribute(x)


@pytest.mark.parametrize("case", [name for name in SMOOTH if name.startswith("a norm in pieces")])
def test_norms_in_pieces_are_norms(case: str, tmp_path: Path) -> None:
    nodes, weights, opset, shape = SMOOTH[case]
    net = fwdkern.fuse(save(model(nodes, shape, weights, opset), tmp_path), torch.rand(shape))
    assert "layer_norm" in {layer.operator for layer in net.layers}
    assert not {"div", "sqrt", "reciprocal"} & {layer.operator for layer in net.layers}
