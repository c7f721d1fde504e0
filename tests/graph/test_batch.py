"""Where models fold other dimensions into the batch or move it, the captured graph keeps it first and alone."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import fwdkern
from fwdkern.errors import UnsupportedOperatorError
from tests.oracle import assert_close, autograd


class Function(nn.Module):
    """A model made of one function and a matrix [6, 6]."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function, self.matrix = function, nn.Parameter(torch.linspace(-1, 1, 36).view(6, 6).sin())

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.matrix)


def _folded(x: Tensor, w: Tensor) -> Tensor:
    """Into the batch and back, with a constant for each of what was folded."""
    y = x.reshape(-1, 5, 6) @ w + w[:5]
    return (y.view(x.shape[0], 4, 5, 6) * w[:4, :1, None]).view(-1, 5, 6).mean(1).view(x.shape[0], 4, 6).flatten(1)


def _behind(x: Tensor, w: Tensor) -> Tensor:
    """The batch behind other dimensions, and both as rows of one matrix."""
    y = x.permute(1, 2, 0, 3)
    rows = torch.addmm(w[0], y.reshape(-1, 6), w)
    return rows.view(4, 5, x.shape[0], 6).relu().sum(0).transpose(0, 1).flatten(1)


def _batched(x: Tensor, w: Tensor) -> Tensor:
    """bmm and baddbmm with heads in the batch, and a constant mask of that size."""
    y = x.view(-1, 5, 6)
    mask = w[:4, :5].unsqueeze(1).expand(4, 5, 5).repeat(1, 1, 1)
    scores = torch.baddbmm(mask[0], y, y.transpose(1, 2), beta=0.5, alpha=2.0)
    return torch.bmm(scores.softmax(-1).detach(), y).view(-1, 4, 5, 6).flatten(1)


def _normed(x: Tensor, w: Tensor) -> Tensor:
    """Batch norm of positions in the batch, as LeViT has it: of rows, and with positions behind the channels too."""
    rows = nn.functional.batch_norm(x.flatten(0, 2), w[0], w[1].square() + 0.1, w[2], w[3])
    folded = nn.functional.batch_norm(rows.view(-1, 5, 6), w[0, :5], w[1, :5].square() + 0.1, w[2, :5])
    return folded.view(x.shape[0], -1)


def _contracted(x: Tensor, w: Tensor) -> Tensor:
    """Products by letters with steps in front of the batch, one of them with positions repeated for each example."""
    y = torch.einsum("ibh,hd->ibd", x[:, 0].transpose(0, 1), w)
    places = w[:4].unsqueeze(1).expand(-1, x.shape[0], -1)
    scores = torch.einsum("ibd, jbd -> bij", y, torch.einsum("ibh,hd->ibd", places, w))
    return torch.einsum("bij,jbd->ibd", scores, places).transpose(0, 1).flatten(1)


def _cut(x: Tensor, w: Tensor) -> Tensor:
    """Some of the steps and channels and all examples, which are behind the steps."""
    y = x[:, 0].transpose(0, 1)[1:, :, :4][:, 0 : 2**31 - 1]
    return (y @ w[:4]).transpose(0, 1).flatten(1)


def _columns(x: Tensor, w: Tensor) -> Tensor:
    """Examples as columns, as textbooks have them."""
    y = x[:, 0].permute(1, 2, 0)
    return (w @ (w @ y).relu() + w[:, :1]).sum(0).t()


@pytest.mark.parametrize("function", [_folded, _behind, _normed, _contracted, _cut, _columns])
@pytest.mark.parametrize("batch", [1, 3])
def test_linear_models(function: Callable[[Tensor, Tensor], Tensor], batch: int) -> None:
    model = Function(function).double().eval().requires_grad_(False)
    x = torch.randn(batch, 4, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    net = fwdkern.fuse(model, x)
    assert all(layer.shape[0] in (4, 5, 6, 20, 24, 30, 120) for layer in net.layers)
    expected = autograd(model, x)
    for mode in ("forward", "reverse"):
        found = net.attribute(x, "all", features="channels", bias="separate", mode=mode, strict=True)
        assert_close(found.scores, expected.channels)
        assert_close(found.bias, expected.bias)


def test_heads_in_the_batch() -> None:
    model = Function(_batched).double().eval().requires_grad_(False)
    x = torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    net = fwdkern.fuse(model, x)
    assert_close(net(x[:1]), model(x[:1]))
    expected = autograd(model, x)  # its weights are detached
    found = net.attribute(x, "all", features="channels", bias="separate", strict=True)
    assert_close(found.scores, expected.channels)


def _time_major(x: Tensor, w: Tensor) -> Tensor:
    """Steps first, as recurrent layers have them unless told otherwise."""
    return (x.flatten(1, 2).transpose(0, 1) @ w).relu()


@pytest.mark.parametrize("batch", [1, 3])
def test_a_model_that_returns_the_batch_behind(batch: int) -> None:
    model = Function(_time_major).double().eval().requires_grad_(False)
    x = torch.randn(batch, 4, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    net = fwdkern.fuse(model, x)
    assert net(x).equal(model(x)) and net(x).shape == (20, batch, 6)
    expected = autograd(Function(lambda x, w: _time_major(x, w)[7]).double(), x)
    units = torch.tensor([[7, c] for c in range(6)])
    for mode in ("forward", "reverse"):
        for c, unit in enumerate(units):
            found = net.attribute(x, tuple(unit.tolist()), features="channels", bias="separate", mode=mode, strict=True)
            assert_close(found.scores[:, 0], expected.channels[:, c])
            assert_close(found.outputs[:, 0], model(x)[7, :, c])


def test_classes_in_front_of_the_batch() -> None:
    model = Function(lambda x, w: (x.sum((1, 2)) @ w).relu().t()).double().eval().requires_grad_(False)
    x = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    net = fwdkern.fuse(model, x)
    found = net.attribute(x, "all", features="channels", bias="separate", strict=True)
    assert_close(found.outputs, model(x).t())


def test_outputs_with_the_batch_in_different_places() -> None:
    model = Function(lambda x, w: {"steps": _time_major(x, w), "mean": x.mean((1, 2))}).double().eval()  # type: ignore
    x = torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = model(x)
    found = fwdkern.fuse(model, x)(x)
    assert list(found) == ["steps", "mean"]
    assert all(found[name].equal(expected[name]) for name in expected)


def _summed(x: Tensor, w: Tensor) -> Tensor:
    return (x.flatten(1)[:, :6] @ w).cumsum(0)


def _crossed(x: Tensor, w: Tensor) -> Tensor:
    """The diagonal of examples and constants in one product by letters."""
    return torch.einsum("jb,jbb->bj", x[:, 0, 0].t(), w.unsqueeze(2).expand(6, 6, 6)[:, :2, :2])


@pytest.mark.parametrize("function", [_summed, _crossed])
def test_what_mixes_examples_is_refused(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    model = Function(function).double().eval()
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    net = fwdkern.fuse(model, x)
    with pytest.raises(UnsupportedOperatorError):
        net.attribute(x, 0)
