"""Networks as torch exports them, by both of its exporters, over the opsets that are read."""

import warnings
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import fwdkern
from fwdkern.graph.onnx import read_onnx
from tests.networks.convnext import ConvNeXt
from tests.networks.families import FAMILIES
from tests.networks.swin import Swin


class Transformer(nn.Module):
    """Patches [B, 3, 16, 16] -> 16 tokens of 12 numbers, one encoder layer, a linear head [B, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 12))
        self.norm1, self.norm2 = nn.LayerNorm(12), nn.LayerNorm(12)
        self.qkv, self.out = nn.Linear(12, 36), nn.Linear(12, 12)
        self.mlp = nn.Sequential(nn.Linear(12, 24), nn.GELU(), nn.Linear(24, 12))
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(batch, length, 3, 2, width // 2).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return self.head((x + self.mlp(self.norm2(x)))[:, 0])


def transformer() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Transformer().eval()


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    **{name: (family.factory, family.input_shape) for name, family in FAMILIES.items()},
    "transformer": (transformer, (3, 16, 16)),
}
# Layer norm and GELU written out, an adaptive pool that does not divide, places in windows and masks of slices.
TWINS = {"convnext": (ConvNeXt, (3, 16, 24)), "swin": (Swin, (3, 16, 20))}
NEW = [("vgg_bn", 18), ("alexnet", 20), ("autoencoder", 20), ("regnet_x", 22), ("transformer", 18), ("transformer", 22)]
OLD = [
    *[("mlp", 7), ("resnet_bottleneck", 9), ("mnasnet", 10), ("shufflenet_v2", 11), ("densenet", 12)],
    *[("mlp", 13), ("resnet_bottleneck", 15), ("resnext", 16), ("densenet", 17), ("googlenet", 18)],
    *[("mnasnet", 19), ("shufflenet_v2", 20), ("transformer", 14), ("transformer", 17)],
]


def export(model: nn.Module, x: Tensor, path: Path, opset: int, new: bool, open_batch: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if new:
            shapes = ({0: torch.export.Dim("batch")},) if open_batch else None
            program = torch.onnx.export(
                model, (x,), dynamo=True, opset_version=opset, dynamic_shapes=shapes, verbose=False, input_names=["x"]
            )
            assert program is not None
            program.save(path, external_data=False)
        else:
            axes = {"x": {0: "batch"}} if open_batch else None
            torch.onnx.export(
                model, (x,), path, dynamo=False, opset_version=opset, dynamic_axes=axes, input_names=["x"]
            )


@pytest.mark.parametrize(("name", "opset", "new"), [(*case, True) for case in NEW] + [(*case, False) for case in OLD])
def test_outputs_are_onnxruntimes(name: str, opset: int, new: bool, tmp_path: Path) -> None:
    factory, shape = NETWORKS[name]
    model, path = factory(), tmp_path / "model.onnx"
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(5))
    # Every other opset with a batch that the file fixes.
    open_batch = opset % 2 == 0
    export(model, x if open_batch else x[:1], path, opset, new, open_batch)
    read = read_onnx(path)
    session = onnxruntime.InferenceSession(path)
    parts = x.split(2 if open_batch else 1)
    expected = torch.cat([torch.from_numpy(session.run(None, {"x": part.numpy()})[0]) for part in parts])
    # Sums of some 1e3 products, a dozen behind one another, rounded in another order.
    got = read(x)
    assert (got - expected).abs().max() < 1e-5 * expected.abs().max()
    layers = fwdkern.fuse(read, x).layers
    names = {layer.name for layer in layers}
    # Older opsets have no GELU, and spell it out.
    assert ("gelu" in {layer.operator for layer in layers}) == (name == "transformer")
    *_, head = (path for path, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d))
    assert any(layer == head or layer.startswith(f"{head}.") for layer in names)


@pytest.mark.parametrize(
    ("name", "opset", "new"),
    [("autoencoder", 20, True), ("regnet_x", 22, True), ("mlp", 13, False), ("googlenet", 18, False),
     ("shufflenet_v2", 20, False), ("resnet_bottleneck", 15, False), ("alexnet", 18, True), ("convnext", 13, False),
     ("swin", 18, True), ("swin", 17, False), ("transformer", 17, False), ("transformer", 23, True)],
)  # fmt: skip
def test_maps_are_those_of_the_torch_network(name: str, opset: int, new: bool, tmp_path: Path) -> None:
    factory, shape = {**NETWORKS, **TWINS}[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = factory().eval()
    path = tmp_path / "model.onnx"
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(6))
    export(model, x, path, opset, new, open_batch=True)
    read = read_onnx(path).double()
    x, model = x.double(), model.double()
    net, twin = fwdkern.fuse(read, x), fwdkern.fuse(model, x)
    got, expected = net.attribute(x, bias="separate"), twin.attribute(x, bias="separate")
    assert got.units.equal(expected.units)
    # The exporters fold batch norms in float32.
    assert (got.scores - expected.scores).abs().max() < 1e-5 * expected.scores.abs().max()
    assert got.delta.abs().max() < 1e-10 * expected.outputs.abs().max()
    assert (got.bias - expected.bias).abs().max() < 1e-5 * expected.outputs.abs().max()
    # A unit in the middle: of a layer that both name alike.
    shapes = {layer.name: layer.shape for layer in net.layers}
    shared = [layer for layer in twin.layers if shapes.get(layer.name) == layer.shape]
    middle = shared[len(shared) // 2]
    unit = torch.tensor([[size // 2 for size in middle.shape]])
    got, expected = (n.attribute_units(x, middle.name, unit, bias="uniform") for n in (net, twin))
    assert (got.scores - expected.scores).abs().max() < 1e-5 * expected.scores.abs().max().clamp_min(1e-9)
