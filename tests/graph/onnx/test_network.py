"""What comes out of a file is a network like any other: names, batches, shapes, maps."""

from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import fwdkern
from fwdkern.errors import CaptureError, InputError
from fwdkern.graph.onnx import read_onnx
from fwdkern.models import load_model
from tests.graph.onnx.files import model, network, save


def images(batch: int) -> Tensor:
    return torch.rand(batch, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("batch", ["batch", 1])
def test_the_output_is_onnxruntimes(batch: int | str, tmp_path: Path) -> None:
    path = save(network(batch), tmp_path)
    read = read_onnx(path)
    session = onnxruntime.InferenceSession(path)
    for image in images(3).split(1):
        (expected,) = session.run(None, {"x": image.numpy()})
        # 64 and 27 products of numbers around 1, in float32.
        assert torch.allclose(read(image), torch.from_numpy(expected), atol=1e-4)
    assert torch.allclose(read(images(3)), torch.cat([read(image) for image in images(3).split(1)]), atol=1e-5)


def test_layers_go_by_module_paths(tmp_path: Path) -> None:
    net = fwdkern.fuse(save(network(), tmp_path))
    names = [layer.name for layer in net.layers]
    assert names[:3] == ["block.0.conv1", "block.0.relu", "pool"] and names[-1] == "fc"
    assert all(layer.rule for layer in net.layers)


def test_joined_names_are_told_by_their_first(tmp_path: Path) -> None:
    nodes = [
        ("Relu", ["x"], ["a"], {"name": "block/conv_3/BiasAdd;block/conv_3/Conv2D;block/conv_3/Relu"}),
        ("Neg", ["a"], ["y"], {"name": "block/out/Neg;block/out"}),
    ]
    net = fwdkern.fuse(save(model(nodes, ["n", 3]), tmp_path), torch.ones(2, 3))
    assert [layer.name for layer in net.layers] == ["block.conv_3.BiasAdd", "block.out"]


@pytest.mark.parametrize("path", ["{}", "{}.inner", "outer.{}"])
def test_layers_may_have_any_name(path: str, tmp_path: Path) -> None:
    """Those of the module's own attributes too."""
    taken = [*vars(read_onnx(save(network(), tmp_path))), *dir(nn.Module), "node", "arrays", "float_like", "_result_0"]
    names = [path.format(name) for name in taken]
    values = ["x", *(f"v{i}" for i in range(len(names) - 1)), "y"]
    nodes = [("Relu", [a], [b], {"name": n}) for n, a, b in zip(names, values, values[1:], strict=False)]
    x = torch.linspace(-1, 1, 6).view(2, 3)
    net = fwdkern.fuse(save(model(nodes, ["n", 3]), tmp_path), x)
    assert net(x).equal(x.relu())
    assert len({layer.name for layer in net.layers}) >= len(names)


def test_maps_are_those_of_the_torch_network(tmp_path: Path) -> None:
    read = read_onnx(save(network(), tmp_path))
    weights = read.state_dict()
    conv, head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(64, 5, bias=False)
    conv.load_state_dict({"weight": weights["block.0.conv1.weight"], "bias": weights["block.0.conv1.bias"]})
    head.load_state_dict({"weight": weights["fc.weight"]})
    twin = nn.Sequential(conv, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), head).double().eval()
    x = images(2).double()
    got = fwdkern.fuse(read.double(), x).attribute(x, "all")
    expected = fwdkern.fuse(twin, x).attribute(x, "all")
    torch.testing.assert_close(got.scores, expected.scores, rtol=1e-12, atol=1e-12)
    assert got.delta.abs().max() < 1e-12


def test_sizes_are_checked_and_asked_for(tmp_path: Path) -> None:
    read = read_onnx(save(network(), tmp_path))
    with pytest.raises(InputError, match=r"\[batch, 3, 8, 8\], got \[1, 3, 9, 8\]"):
        read(torch.rand(1, 3, 9, 8))
    open_size = model([("Relu", ["x"], ["y"], {})], ["n", 3, "h", "w"])
    with pytest.raises(InputError, match="give example_inputs"):
        fwdkern.fuse(save(open_size, tmp_path))
    assert fwdkern.fuse(tmp_path / "model.onnx", torch.rand(1, 3, 4, 5)).layers
    with pytest.raises(InputError, match=r"input x is \[batch, 3, any, any\], got \[1, 4, 4, 5\]"):
        fwdkern.fuse(tmp_path / "model.onnx", torch.rand(1, 4, 4, 5))


def test_an_example_of_another_dtype_is_told(tmp_path: Path) -> None:
    read = read_onnx(save(network(), tmp_path)).double()
    with pytest.raises(CaptureError, match=r"the example is torch\.float32, the model's weights are torch\.float64"):
        fwdkern.fuse(read, images(2))


def test_a_batch_that_the_file_mixes_stays_fixed(tmp_path: Path) -> None:
    centred = [("ReduceMean", ["x"], ["m"], {"axes": [0]}), ("Sub", ["x", "m"], ["y"], {})]
    read = read_onnx(save(model(centred, [2, 3]), tmp_path))
    assert read.batch == 2
    with pytest.raises(InputError, match=r"\[2, 3\], got \[4, 3\]"):
        read(torch.rand(4, 3))


def test_load_model_prepares_pictures(tmp_path: Path) -> None:
    path = save(network(), tmp_path)
    named = load_model(str(path))
    assert named.trained and named.preprocessing.crop == (8, 8) and named.preprocessing.channels == 3
    with pytest.raises(InputError, match="holds its own weights"):
        load_model(str(path), Path("w.safetensors"))
    with pytest.raises(InputError, match="pictures go in as"):
        load_model(str(save(model([("Relu", ["x"], ["y"], {})], [1, 7]), tmp_path)))
