"""Capture, folding and swapping: what the parsed network says, and that it computes what the model computes."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fwdkern
from tests.networks.families import FAMILIES


class _Block(nn.Module):
    """Reused in-place ReLU, functional ReLU, padding by name, constants, dropout, a residual, chunk and cat."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(4, 4, 3, padding="same", bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4, 4, 2, padding="same", padding_mode="circular")
        self.drop = nn.Dropout(0.5)
        self.register_buffer("shift", torch.randn(1, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.drop(self.conv2(F.pad(y, (1, 0, 0, 1))[:, :, 1:, :-1]))
        a, b = y.chunk(2, 1)
        y = torch.cat([b, a], 1) + self.shift * 2
        y += x
        return self.relu(y)


def _net() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 1), _Block(), _Block(), nn.Flatten(), nn.Linear(4 * 36, 5)).eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_plain_output_is_the_models(family: str) -> None:
    factory, shape = FAMILIES[family]
    model, x = factory(), torch.randn(3, *shape)
    net = fwdkern.fuse(model, x[:1])
    torch.testing.assert_close(net(x), model(x), rtol=1e-4, atol=1e-5)


def test_names_follow_module_paths() -> None:
    net = fwdkern.fuse(_net(), torch.randn(1, 3, 6, 6))
    names = [layer.name for layer in net.layers]
    assert len(set(names)) == len(names)
    for name in ("0", "1.bn1", "1.relu", "1.relu@1", "2.relu@1"):
        assert name in names
    assert net.layer("1").name == "1.relu@1" == net.layer("1.relu@1").name
    assert net.layer("1.bn1").operator == "conv2d+batch_norm"
    assert net.layer("4").shape == (5,)
    assert "1.relu@1" in net.layer("2.add").parents or "1.relu@1" in net.layer("2.bn1").parents


def test_report_tells_what_was_done() -> None:
    report = fwdkern.fuse(_net(), torch.randn(1, 3, 6, 6)).report()
    assert "RelevanceConv2d" in report and "folded" in report and "layers without a rule: none" in report


def test_the_users_model_is_left_as_it_was() -> None:
    model = _net()
    before = copy.deepcopy(model.state_dict())
    x = torch.randn(2, 3, 6, 6)
    fwdkern.fuse(model, x).attribute(x)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.training and all(p.requires_grad for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_compile_and_export_of_the_plain_forward() -> None:
    net, x = fwdkern.fuse(_net(), torch.randn(1, 3, 6, 6)), torch.randn(2, 3, 6, 6)
    torch.testing.assert_close(torch.compile(net, backend="aot_eager")(x), net(x))
    exported = torch.export.export(net, (x,)).module()
    torch.testing.assert_close(exported(x), net(x))


def test_another_image_size_is_captured_once() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    net, x = fwdkern.fuse(model, torch.randn(1, 3, 8, 8)), torch.randn(2, 3, 11, 9)
    result = net.attribute(x, strict=True)
    assert result.scores.shape == (2, 1, 11, 9)
    torch.testing.assert_close(result.outputs[:, 0], model(x).amax(1))
    assert net._network_for(x) is net._network_for(x)


def test_a_model_that_fixes_its_batch_is_served_batch_by_batch() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(12, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x.view(2, 12))

    model = Fixed().eval()
    x = torch.randn(2, 3, 2, 2)
    net = fwdkern.fuse(model, x)
    torch.testing.assert_close(net(x), model(x))
    assert net.attribute(x, strict=True).delta.abs().max() < 1e-5


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_moved_network_keeps_its_maps(dtype: torch.dtype) -> None:
    x = torch.randn(2, 3, 6, 6)
    net = fwdkern.fuse(_net(), x)
    expected = net.attribute(x, target=1).scores
    moved = net.to(dtype).attribute(x.to(dtype), target=1)
    assert moved.scores.dtype == dtype
    tolerance = (
        1e-5 if dtype is torch.float64 else 0.25 * float(expected.abs().max())
    )  # bias offsets of a few 2⁻⁸ a layer
    torch.testing.assert_close(moved.scores.float(), expected, rtol=0, atol=tolerance)


def test_an_empty_batch_runs_plainly() -> None:
    net = fwdkern.fuse(_net(), torch.randn(1, 3, 6, 6))
    assert net(torch.empty(0, 3, 6, 6)).shape == (0, 5)


def test_softmax_at_the_end_is_explained_below_and_said() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.Softmax(-1)).eval()
    x = torch.randn(2, 3, 2, 2)
    result = fwdkern.fuse(model, x).attribute(x, target="all", strict=True)
    torch.testing.assert_close(result.outputs, model[:2](x))
    assert "softmax" in result.note.lower() or "logits" in result.note
