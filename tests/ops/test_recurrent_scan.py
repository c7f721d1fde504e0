import pytest
import torch

from fwdkern.errors import InputError
from fwdkern.ops import native
from fwdkern.ops.recurrent_scan import recurrent_scan
from tests import SEEDS
from tests.ops.recurrent import ScanProblem


@pytest.fixture(params=native.ISA_NAMES)
def isa(request, native_library, monkeypatch):
    if native.ISA_NAMES.index(request.param) > native_library.available_isa():
        pytest.skip(f"this machine does not run {request.param}")
    monkeypatch.setenv("FWDKERN_CPU_ISA", request.param)
    return request.param


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", [(1, 1, 7, 33), (5, 2, 4, 7), (70, 1, 3, 64), (3, 3, 1, 5), (29, 2, 6, 50)])
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("full", [False, True])
def test_odd_sizes(isa, shape, descending, transposed, full, seed):
    ScanProblem(*shape, descending, transposed, full, seed).check("cpu")


@pytest.mark.parametrize("backend", ["triton"])
@pytest.mark.parametrize("shape", [(1, 1, 4, 20), (9, 2, 3, 40), (20, 1, 3, 70)])
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("full", [False, True])
def test_triton(backend, shape, descending, full):
    ScanProblem(*shape, descending, descending, full, 3).check(backend)


@pytest.mark.parametrize("descending", [False, True])
def test_reference_in_float64(descending):
    ScanProblem(6, 2, 5, 9, descending, True, True, 1, torch.float64).check("torch")


@pytest.mark.parametrize("count", [1, 3])
def test_threads_give_the_same_bits(native_library, count):
    problem = ScanProblem(200, 1, 6, 64, False, False, True, 5)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = problem.run("cpu")
        torch.set_num_threads(count)
        assert torch.equal(problem.run("cpu"), one)
    finally:
        torch.set_num_threads(before)


def test_a_changed_weight_is_packed_again(native_library):
    problem = ScanProblem(3, 1, 4, 16, False, False, True, 6)
    problem.check("cpu")
    problem.weight.mul_(-0.5)
    problem.check("cpu")


def test_empty():
    problem = ScanProblem(0, 2, 4, 5, False, False, True, 2)
    assert problem.run("cpu").shape == (0, 2, 4, 5)


def test_refused():
    problem = ScanProblem(4, 2, 5, 6, False, False, True, 0)
    shrinking = problem.active.flip(0).contiguous()
    with pytest.raises(InputError, match="ranges that shrink"):
        recurrent_scan(problem.maps, problem.weight, False, None, None, problem.gain_out, shrinking)
    with pytest.raises(InputError, match=r"weight is .* expected"):
        recurrent_scan(problem.maps, problem.weight[:-1], False, None, None, problem.gain_out, problem.active)
    with pytest.raises(InputError, match="gain_out has shape"):
        recurrent_scan(problem.maps, problem.weight, False, None, None, problem.gain_out[:1], problem.active)
    with pytest.raises(InputError, match="contiguous"):
        recurrent_scan(
            problem.maps.transpose(0, 1).contiguous().transpose(0, 1), problem.weight, False, None, None,
            problem.gain_out, problem.active,
        )  # fmt: skip


def test_opcheck(native_library):
    problem = ScanProblem(3, 2, 4, 8, True, True, True, 4)
    torch.library.opcheck(torch.ops.fwdkern.recurrent_scan.default, problem.arguments())
