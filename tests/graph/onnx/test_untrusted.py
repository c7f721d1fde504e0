"""Files from anybody: refused with fwdkern's own errors, or served."""

import itertools
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from fwdkern.errors import FwdkernError, InputError, UnsupportedOperatorError
from fwdkern.graph.onnx import read_onnx
from tests.graph.onnx.files import model, network, save

RELU = ("Relu", ["x"], ["y"], {})


def refused(proto: onnx.ModelProto, folder: Path, kind: type[FwdkernError], match: str) -> None:
    with pytest.raises(kind, match=match):
        read_onnx(save(proto, folder))


def test_every_unknown_operator_is_named_at_once(tmp_path: Path) -> None:
    nodes = [
        ("QuantizeLinear", ["x", "s"], ["q"], {}),
        ("NonZero", ["q"], ["z"], {}),
        ("Magic", ["z"], ["y"], {"domain": "com.example"}),
    ]
    proto = model(nodes, [1, 2], {"s": np.float32(1)})
    refused(
        proto, tmp_path, UnsupportedOperatorError, r"QuantizeLinear \(quantised\): q; NonZero: z; com.example.Magic"
    )


def test_control_flow(tmp_path: Path) -> None:
    body = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["z"])], "b", [], [helper.make_tensor_value_info("z", 1, None)]
    )
    proto = model([("If", ["c"], ["y"], {"then_branch": body, "else_branch": body})], [1, 2], {"c": np.array(True)})
    refused(proto, tmp_path, UnsupportedOperatorError, r"If \(control flow\): y")


def test_external_data(tmp_path: Path) -> None:
    proto = network()
    proto.graph.initializer[0].data_location = TensorProto.EXTERNAL
    entry = proto.graph.initializer[0].external_data.add()
    entry.key, entry.value = "location", "../secret"
    refused(proto, tmp_path, InputError, "lies outside the ONNX file")


@pytest.mark.parametrize("opset", [6, 99])
def test_opsets(opset: int, tmp_path: Path) -> None:
    refused(model([RELU], [1, 2], opset=opset), tmp_path, InputError, f"opset is {opset}")


@pytest.mark.parametrize(
    "nodes",
    [
        [("Expand", ["c", "huge"], ["e"], {}), ("Add", ["x", "e"], ["y"], {})],
        [("Expand", ["x", "huge"], ["y"], {})],
        [("ConstantOfShape", ["huge"], ["e"], {}), ("Add", ["x", "e"], ["y"], {})],
        [("Tile", ["c", "huge"], ["e"], {}), ("Add", ["x", "e"], ["y"], {})],
        [("Range", ["zero", "far", "one"], ["e"], {}), ("Add", ["x", "e"], ["y"], {})],
    ],
)
def test_bombs(nodes: list, tmp_path: Path) -> None:
    weights = {
        "c": np.ones((1, 1), np.float32),
        "huge": np.array([2**20, 2**20]),
        "zero": np.float32(0),
        "far": np.float32(2**30),
        "one": np.float32(1),
    }
    refused(model(nodes, [1, 1], weights), tmp_path, InputError, "entries are computed")


@pytest.mark.parametrize(
    ("nodes", "match"),
    [
        ([("Pow", ["s", "s"], ["p"], {}), ("Pow", ["p", "p"], ["q"], {}), ("Pow", ["q", "q"], ["t"], {})],
         r"node p \(Pow\).*power of 16384"),
        ([("Mul", ["s", "s"], ["p"], {})] + [("Mul", [a, a], [b], {}) for a, b in ("pq", "qr", "rt")],
         r"node r \(Mul\).*64 bits"),
        ([("Add", ["s1", "column"], ["c"], {}), ("Add", ["c", "row"], ["t"], {})], r"node t \(Add\).*4294967296"),
        ([("Add", ["s1", "row"], ["r"], {}),
         ("Concat", ["r"] * 50_000, ["t"], {"axis": 0})], r"node t \(Concat\).*3276800000"),
    ],
)  # fmt: skip
def test_shapes_that_grow_are_refused_before_they_are_made(nodes: list, match: str, tmp_path: Path) -> None:
    entries = np.arange(2**16)
    weights = {"row": entries[None], "column": entries[:, None], "first": np.array([1]), "last": np.array(3)}
    nodes = [
        ("Shape", ["x"], ["all"], {}),
        ("Gather", ["all", "first"], ["s1"], {}),
        ("Gather", ["all", "last"], ["s"], {}),
        *nodes,
        ("Expand", ["x", "t"], ["y"], {}),
    ]
    path = save(model(nodes, [1, 1, 16384, 16384], weights), tmp_path)
    begun = time.monotonic()
    with pytest.raises(InputError, match=match):
        read_onnx(path)
    assert time.monotonic() - begun < 20


def test_broken_structure(tmp_path: Path) -> None:
    cycle = [("Add", ["x", "b"], ["a"], {}), ("Relu", ["a"], ["b"], {}), ("Relu", ["b"], ["y"], {})]
    refused(model(cycle, [1, 2]), tmp_path, InputError, "not valid ONNX")
    refused(model([RELU, RELU], [1, 2]), tmp_path, InputError, "not valid ONNX")
    refused(model([("Relu", ["nothing"], ["y"], {})], [1, 2]), tmp_path, InputError, "not valid ONNX|nothing makes")
    short = network()
    short.graph.initializer[0].raw_data = b"1234"
    refused(short, tmp_path, InputError, "too small for the declared shape")
    nan = model([("Add", ["x", "c"], ["y"], {})], [1, 2], {"c": np.array([np.nan], np.float32)})
    refused(nan, tmp_path, InputError, "'c' holds NaN")


def test_shapes_that_lie_name_the_node(tmp_path: Path) -> None:
    proto = network()
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 5
    refused(proto, tmp_path, FwdkernError, "/block/block.0/conv1/Conv")


def functions(calls: list[list[str]]) -> onnx.ModelProto:
    """A file whose function f0, f1, ... each call others, in order."""
    proto = model([("f0", ["x"], ["y"], {"domain": "local"})], [1, 2])
    proto.opset_import.append(helper.make_opsetid("local", 1))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    for i, callees in enumerate(calls):
        names = ["a", *(f"t{k}" for k in range(len(callees) - 1)), "b"]
        body = [
            helper.make_node(op, [names[k]], [names[k + 1]], domain="" if op == "Relu" else "local")
            for k, op in enumerate(callees)
        ]
        proto.functions.append(helper.make_function("local", f"f{i}", ["a"], ["b"], body, opsets))
    return proto


def test_local_functions(tmp_path: Path) -> None:
    x = torch.tensor([[1.0, -1.0]])
    assert read_onnx(save(functions([["f1", "f1"], ["Relu"]]), tmp_path))(x).equal(x.relu())
    refused(functions([["f1"], ["f0"]]), tmp_path, InputError, "calls itself")
    other = functions([["Relu"]])
    other.functions[0].opset_import[0].version = 99
    refused(other, tmp_path, UnsupportedOperatorError, "local.f0")
    laughs = functions([[f"f{i + 1}"] * 10 for i in range(20)] + [["Relu"]])
    refused(laughs, tmp_path, InputError, "nodes once its local functions")


def test_a_long_chain(tmp_path: Path) -> None:
    names = ["x", *(f"t{i}" for i in range(9_999)), "y"]
    proto = model([("Relu", [a], [b], {}) for a, b in itertools.pairwise(names)], [1, 2])
    x = torch.tensor([[1.0, -1.0]])
    assert read_onnx(save(proto, tmp_path))(x).equal(x.relu())


def test_not_a_file_and_not_onnx(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no ONNX file"):
        read_onnx(tmp_path / "none.onnx")
    path = tmp_path / "garbage.onnx"
    for content in (b"", b"garbage" * 100):
        path.write_bytes(content)
        with pytest.raises(InputError):
            read_onnx(path)


def test_damaged_files_load_or_are_refused(tmp_path: Path) -> None:
    whole = network().SerializeToString()
    random = np.random.default_rng(0)
    path, served = tmp_path / "damaged.onnx", 0
    for trial in range(150):
        damaged = bytearray(whole)
        if trial % 3 == 0:
            del damaged[random.integers(len(damaged)) :]
        else:
            # Half of the flips hit the graph itself, which the weights would otherwise hide.
            area = len(damaged) if trial % 3 == 1 else 600
            for place in random.integers(area, size=random.integers(1, 4)):
                damaged[place] ^= 1 << random.integers(8)
        path.write_bytes(damaged)
        try:
            read_onnx(path)
            served += 1
        except FwdkernError:
            pass
    assert 0 < served < 150


@pytest.mark.parametrize("shapes", [((2, 1), (3, 1)), ((2**16, 1), (1, 2**16)), ((5,), (5,))])
def test_places_that_only_look_counted(shapes: tuple, tmp_path: Path) -> None:
    """An index that is a sum of constants and of places in the batch is looked at with care."""
    nodes = [
        ("Reshape", ["x", "flat"], ["f"], {}),
        ("Add", ["a", "b"], ["i"], {}),
        ("Gather", ["f", "i"], ["y"], {}),
    ]
    a, b = (np.zeros(shape, np.int64) for shape in shapes)
    proto = model(nodes, [2, 4], {"flat": np.array([-1]), "a": a, "b": b})
    if shapes == ((5,), (5,)):
        assert read_onnx(save(proto, tmp_path))(torch.ones(2, 4)).equal(torch.ones(5))
    else:
        refused(proto, tmp_path, FwdkernError, "node i|entries are computed")


def test_powers_that_overflow(tmp_path: Path) -> None:
    nodes = [("Pow", ["c", "two"], ["p"], {}), ("Mul", ["x", "p"], ["m"], {}), ("Pow", ["m", "two"], ["y"], {})]
    proto = model(nodes, [1, 2], {"c": np.array(1e300), "two": np.array(2.0)}, kind=TensorProto.DOUBLE)
    assert read_onnx(save(proto, tmp_path))(torch.zeros(1, 2, dtype=torch.float64)).shape == (1, 2)
