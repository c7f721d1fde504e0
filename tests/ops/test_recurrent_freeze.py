import pytest
import torch

from fwdkern.errors import InputError
from fwdkern.ops import native
from fwdkern.ops.recurrent_freeze import FIELDS, GATES, recurrent_freeze
from tests import SEEDS


@pytest.fixture(params=native.ISA_NAMES)
def isa(request, native_library, monkeypatch):
    if native.ISA_NAMES.index(request.param) > native_library.available_isa():
        pytest.skip(f"this machine does not run {request.param}")
    monkeypatch.setenv("FWDKERN_CPU_ISA", request.param)
    return request.param


def problem(kind, batch, steps, hidden, seed, dtype=torch.float32, spread=2.0):
    g = torch.Generator().manual_seed(seed)
    rows = GATES[kind] * hidden

    def draw(*shape, by):
        return torch.randn(*shape, generator=g, dtype=dtype) * by

    lengths = torch.randint(1, steps + 1, (batch,), generator=g)
    return [
        draw(batch, steps, rows, by=spread),
        draw(rows, hidden, by=hidden**-0.5),
        draw(rows, by=0.3),
        draw(batch, rows, by=0.3),
        draw(batch, hidden, by=0.3),
        lengths,
    ]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["rnn_tanh", "lstm", "gru"])
@pytest.mark.parametrize("shape", [(1, 6, 33), (2, 3, 7), (15, 4, 20), (50, 2, 64)])
@pytest.mark.parametrize("descending", [False, True])
def test_against_float64(isa, kind, shape, descending, seed):
    arguments = problem(kind, *shape, seed)
    got = recurrent_freeze(*arguments, kind, descending, backend="cpu")
    wide = [value.double() if value.is_floating_point() else value for value in arguments]
    want = recurrent_freeze(*wide, kind, descending, backend="torch")
    # A sum as long as a state, some units of exp and tanh, and what earlier steps hand on.
    bound = 16 * shape[1] * (shape[2] + 8) * torch.finfo(torch.float32).eps
    for name in FIELDS[kind]:
        torch.testing.assert_close(got[name].double(), want[name], rtol=bound, atol=bound)


@pytest.mark.parametrize("seed", SEEDS)
def test_relu_switches_as_its_state_does(isa, seed):
    got = recurrent_freeze(*problem("rnn_relu", 7, 5, 19, seed), "rnn_relu", backend="cpu")
    assert torch.equal(got["gain"], (got["state"] > 0).float())


def test_large_and_small_drives(isa):
    """Where exp overflows or a ratio has 0 / 0, the coefficients are the limits."""
    driven = torch.tensor([0.0, 1e-30, -1e-6, 0.625, -0.624999, 15.0, -90.0, 1e30, -1e30]).view(1, 1, -1)
    size = driven.shape[2]
    rest = torch.zeros(size, size), None, torch.zeros(1, size), torch.zeros(1, size), torch.tensor([1])
    got = recurrent_freeze(driven, *rest, "rnn_tanh", backend="cpu")
    wide = driven.double()
    torch.testing.assert_close(got["state"].double(), wide.tanh(), rtol=1e-6, atol=0)
    ratio = torch.where(wide == 0, 1.0, wide.tanh() / wide)
    torch.testing.assert_close(got["gain"].double(), ratio, rtol=1e-6, atol=1e-38)


@pytest.mark.parametrize("kind", FIELDS)
def test_a_nan_does_not_vanish(isa, kind):
    arguments = problem(kind, 1, 2, 5, 0)
    arguments[0][0, 0] = float("nan")
    arguments[5].fill_(2)
    assert recurrent_freeze(*arguments, kind, backend="cpu")["state"][0, 0].isnan().all()


def test_refused():
    arguments = problem("gru", 2, 3, 4, 0)
    with pytest.raises(InputError, match="kind='elman'"):
        recurrent_freeze(*arguments, "elman")
    with pytest.raises(InputError, match="driven has shape"):
        recurrent_freeze(*arguments, "lstm")
    arguments[1] = arguments[1].double()
    with pytest.raises(InputError, match=r"weight is torch\.float64"):
        recurrent_freeze(*arguments, "gru")


def test_opcheck(native_library):
    driven, weight, bias, first, start, lengths = problem("lstm", 2, 3, 4, 0)
    out = torch.zeros(4, 2, 3, 4)
    torch.library.opcheck(
        torch.ops.fwdkern.recurrent_freeze.default,
        (driven, weight, bias, first, start, lengths, "lstm", True, out),
    )
