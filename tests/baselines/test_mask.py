"""The optimised mask: its parts by hand, and what it finds where the object is known."""

import pytest
import torch
from torch import Tensor, nn

from fwdkern.baselines import Mask
from fwdkern.baselines.mask import _Mixture, gaussians, variation
from fwdkern.digits import digits_net, examples
from fwdkern.errors import InputError
from tests import data
from tests.baselines.test_methods import X, network
from tests.oracle import assert_close


def test_total_variation_by_hand() -> None:
    """Differences 1, 3, 2 across and 4, 0, 1, 0 down."""
    masks = torch.tensor([[[0.0, 1.0, 4.0], [4.0, 1.0, 3.0]], [[2.0, 2.0, 2.0], [2.0, 2.0, 2.0]]])
    across, down = [1, 3, 3, 2], [4, 0, 1]
    assert torch.equal(variation(masks, 3), torch.tensor([float(sum(d**3 for d in across + down)), 0.0]))
    assert torch.equal(variation(masks, 1), torch.tensor([14.0, 0.0]))


def test_gaussians() -> None:
    rows = gaussians(8, 2, 1.5)  # centres at 2 and 6, pixels at 0.5, 1.5, ...
    assert_close(rows.sum(1), torch.ones(8, dtype=torch.float64), 1e-12)
    assert_close(rows, rows.flip(0, 1), 1e-12)
    near, far = (torch.tensor(-0.5 * (d / 1.5) ** 2, dtype=torch.float64).exp() for d in (1.5, 5.5))
    assert_close(rows[0, 0], near / (near + far), 1e-12)


def test_blur_has_the_stated_deviation() -> None:
    weights = gaussians(101, 101, 7.0)[50]
    place = torch.arange(101, dtype=torch.float64) - 50
    assert (weights * place).sum().abs() < 1e-12
    assert (weights * place**2).sum().sqrt().item() == pytest.approx(7, abs=1e-3)


def test_a_mask_keeps_or_blurs() -> None:
    x = X[:, :, :20, :20]
    mixture = _Mixture(x, 5, blur=3.0, spread=2.0, jitter=3)
    assert mixture.cells == (5, 5)
    assert_close(mixture.mix(mixture.constant(1), mixture.centre), x, 1e-12)
    rows = gaussians(20, 20, 3.0)
    assert_close(mixture.mix(mixture.constant(0), mixture.centre), rows @ x @ rows.T, 1e-12)
    wide = _Mixture(x.contiguous(memory_format=torch.channels_last), 5, blur=3.0, spread=2.0, jitter=3)
    assert wide.mix(wide.constant(1), wide.centre).is_contiguous(memory_format=torch.channels_last)
    half = torch.zeros(3, 5, 5, dtype=torch.float64)
    half[:, :, 3:] = 1
    mixed = mixture.mix(half, mixture.centre)
    assert_close(mixed[..., -1], x[..., -1], 2e-2)
    assert_close(mixed[..., 0], (rows @ x @ rows.T)[..., 0], 2e-2)


def test_the_image_moves_under_the_mask() -> None:
    mixture = _Mixture(X, 5, blur=3.0, spread=2.0, jitter=4)
    at = {shift: mixture.mix(mixture.constant(1), shift) for shift in ((0, 2), (2, 2), (2, 3))}
    assert_close(at[2, 2], X, 1e-12)
    assert_close(at[0, 2][:, :, 2:], X[:, :, :-2], 1e-12)
    assert_close(at[2, 3][..., :-1], X[..., 1:], 1e-12)
    assert_close(at[0, 2][:, :, :2], X[:, :, :1].expand(-1, -1, 2, -1), 1e-12)  # the border repeats
    shifts = Mask(network(), iterations=200)._shifts(4)
    assert {y for y, _ in shifts} == {x for _, x in shifts} == {0, 1, 2, 3}
    assert shifts != Mask(network(), iterations=200, seed=1)._shifts(4)
    assert set(Mask(network())._shifts(0)) == {(0, 0)}


class Corner(nn.Module):
    """Logits ±10 times the mean contrast within the upper left quarter."""

    def forward(self, x: Tensor) -> Tensor:
        contrast = x[:, 0, :16, :16].diff(dim=2).abs().mean((1, 2))
        return 10 * torch.stack([contrast, -contrast], 1)


def checkers() -> Tensor:
    rows = torch.arange(32)
    return ((rows[:, None] + rows) % 2).double().expand(2, 1, 32, 32).contiguous()


def test_it_finds_the_part_that_matters() -> None:
    """All of the quarter is blurred. Outside of it the mask falls in a ramp of some cells, as its objective wants."""
    found = Mask(Corner().eval(), blur=20.0).attribute(checkers(), 0)
    assert 0 <= found.min() and found.max() <= 1
    assert found[:, :15, :15].min() > 0.9
    assert found[:, 28:].max() < 0.01 and found[:, :, 28:].max() < 0.01


def test_the_smallest_circle_that_suffices() -> None:
    """A mean over the central 8 x 8 pixels: no smaller circle of cells covers them all."""

    class Centre(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            contrast = x[:, 0, 12:20, 12:20].diff(dim=2).abs().mean((1, 2))
            return torch.stack([contrast, 1 - contrast], 1)

    x = checkers()
    method = Mask(Centre().eval(), softmax=False, spread=1.0, grid=16, blur=20.0)
    mixture = _Mixture(x, 16, blur=20.0 * 32 / 224, spread=32 / 224, jitter=1)
    mask = method._circle(mixture, torch.tensor([0, 1]))
    # Class 1 rises with the blur, which takes nothing away: the first circle, of four cells, will do.
    assert (1 - mask[1]).sum() == 4
    y = torch.arange(16) - 7.5
    radius = (1 - mask[0]).mul(torch.hypot(y[:, None], y)).max()
    assert 1.5 * 2**0.5 <= radius <= 4


def test_the_objective_falls() -> None:
    """The first mask is feasible: descent must end below it, by the objective written out here."""
    canvases = examples()
    model, x, classes = digits_net().double(), canvases.images[:3].double(), canvases.labels[:3]
    mixture = _Mixture(x, 28, blur=10 * 64 / 224, spread=5 * 64 / 224, jitter=1)

    def objective(mask: Tensor) -> Tensor:
        with torch.no_grad():
            probability = model(mixture.mix(mask, (0, 0))).softmax(1).gather(1, classes[:, None])[:, 0]
        return probability + 1e-4 * (1 - mask).sum((1, 2)) + 1e-2 * variation(mask, 3)

    masks: list[Tensor] = []
    method = Mask(model, iterations=60)
    first = method._circle(mixture, classes)
    method._circle = lambda *_: masks.append(first.clone()) or masks[0]  # type: ignore[method-assign, func-returns-value]
    method.attribute(x, classes)
    assert (objective(masks[0].detach()) < 0.8 * objective(first)).all()


def test_it_sees_the_digit() -> None:
    canvases = examples()
    x = canvases.images[:6]
    found = Mask(digits_net(), iterations=100).attribute(x, canvases.labels[:6])
    for values, (x0, y0, x1, y1) in zip(found, canvases.boxes[:6].tolist(), strict=True):
        inside = values[y0:y1, x0:x1].mean()
        outside = (values.sum() - values[y0:y1, x0:x1].sum()) / (values.numel() - (y1 - y0) * (x1 - x0))
        assert inside > 1.5 * outside


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    Mask(network(), iterations=3, progress=lambda done, total: told.append((done, total))).attribute(X)
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.slow
def test_a_photograph() -> None:
    """Blurring what the mask says takes the probability away, and blurring as much elsewhere does not."""
    model, (x, classes) = data.squeezenet(), data.imagenet_photos(2)
    x = x.contiguous(memory_format=torch.channels_last)
    found = Mask(model, iterations=60).attribute(x, classes)
    rows = gaussians(224, 224, 10.0).float()
    blurred = rows @ x @ rows.T

    def probability(strength: Tensor) -> Tensor:
        with torch.no_grad():
            return model(torch.lerp(x, blurred, strength[:, None])).softmax(1).gather(1, classes[:, None])[:, 0]

    whole = probability(torch.zeros_like(found))
    assert (probability(found) < 0.1 * whole).all()
    assert (probability(found.roll((112, 112), (1, 2))) > 0.2 * whole).all()


def test_bad_arguments() -> None:
    for name, value in (("iterations", 0), ("grid", 1), ("tv_beta", 0.5), ("l1_coeff", -1), ("tv_coeff", float("nan"))):
        with pytest.raises(InputError, match=f"{name}={value} must be at least"):
            Mask(network(), **{name: value})
    for name in ("learning_rate", "blur", "spread"):
        with pytest.raises(InputError, match=f"{name}=0 must be more than 0"):
            Mask(network(), **{name: 0})
