import pytest
import torch

from fwdkern.errors import InputError
from fwdkern.ops import native
from fwdkern.ops.row_combine import row_combine
from tests import SEEDS
from tests.ops.problems import CombineProblem as Problem


@pytest.fixture(params=native.ISA_NAMES)
def isa(request, native_library, monkeypatch):
    if native.ISA_NAMES.index(request.param) > native_library.available_isa():
        pytest.skip(f"this machine does not run {request.param}")
    monkeypatch.setenv("FWDKERN_CPU_ISA", request.param)
    return request.param


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("slices", [1, 7, 33, 48, 65, 200])
@pytest.mark.parametrize("rows", [(1, 1), (5, 17), (40, 3)])
def test_odd_sizes(isa, rows, slices, seed, poisoned):
    problem = Problem(*rows, slices, 9, seed)
    problem.check(problem.run(), accumulate=False)
    out = problem.before.clone()
    assert problem.run(out=out, accumulate=True) is out
    problem.check(out, accumulate=True)


@pytest.mark.parametrize("in_storage", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("out_storage", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("accumulate", [False, True])
def test_bfloat16_storage(isa, in_storage, out_storage, accumulate, poisoned):
    problem = Problem(20, 30, 37, 9, 1, dtype=in_storage)
    problem.before = problem.before.to(out_storage)
    out = problem.before.clone() if accumulate else torch.empty_like(problem.before)
    problem.run(out=out, accumulate=accumulate)
    problem.check(out, accumulate)


def test_bfloat16_rounds_to_even_and_keeps_specials(isa):
    values = torch.tensor(
        [1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -1 - 2**-8, 3.4e38, float("inf"), -float("inf"), 1e-40]
    )
    bits = torch.tensor([0x7FFFFFFF, 0x7F800001], dtype=torch.int32)  # NaNs whose rounding would overflow
    values = torch.cat([values, bits.view(torch.float32)])
    one = torch.ones(1)
    out = torch.empty(1, len(values), dtype=torch.bfloat16)
    offset, index = torch.tensor([0, 1]), torch.zeros(1, dtype=torch.int32)
    row_combine(values[None], offset, index, one, out=out, backend="cpu")
    expected = values.to(torch.bfloat16)
    torch.testing.assert_close(out[0], expected, rtol=0, atol=0, equal_nan=True)


def test_empty(isa, poisoned):
    assert Problem(4, 0, 5, 3, 2).run().shape == (0, 5)
    assert Problem(4, 6, 0, 3, 2).run().shape == (6, 0)
    none = Problem(4, 6, 5, 0, 2)
    assert torch.equal(none.run(), torch.zeros(6, 5))
    assert torch.equal(none.run(out=none.before.clone(), accumulate=True), none.before)


def test_expanded_and_strided_rows(isa, poisoned):
    problem = Problem(6, 9, 10, 4, 3)
    problem.in_maps = problem.in_maps[:1].expand(6, 10)
    problem.check(problem.run(), accumulate=False)
    out = torch.full((9, 12), 5.0)
    problem.run(out=out[:, 1:11])
    problem.check(out[:, 1:11], accumulate=False)
    assert bool((out[:, [0, 11]] == 5).all()), "wrote beyond the slices"


def test_same_bits_for_any_thread_count(isa):
    problem = Problem(200, 2000, 65, 20, 4)
    results = []
    for count in (1, 2, 2, 3):
        torch.set_num_threads(count)
        results.append(problem.run())
    assert all(torch.equal(results[0], other) for other in results[1:])


def test_reference_by_hand():
    maps = torch.tensor([[1.0, 2.0], [10.0, 20.0]], dtype=torch.float64)
    out = row_combine(
        maps,
        torch.tensor([0, 2, 2, 3]),
        torch.tensor([0, 1, 1], dtype=torch.int32),
        torch.tensor([1.0, 0.5, -1.0], dtype=torch.float64),
    )
    assert out.tolist() == [[6.0, 12.0], [0.0, 0.0], [-10.0, -20.0]]


def test_int64_index(isa):
    problem = Problem(6, 9, 10, 4, 8)
    expected = problem.run()
    problem.index = problem.index.long()
    assert torch.equal(problem.run(), expected)


def test_opcheck():
    problem = Problem(6, 9, 10, 4, 5)
    torch.library.opcheck(
        torch.ops.fwdkern.row_combine.default,
        (problem.in_maps, problem.offset, problem.index, problem.coefficient, True, problem.before.clone()),
    )


@pytest.mark.parametrize("backend", ["cpu", "torch"])
def test_rejects(backend, native_library):
    def rejected(match: str, run_options: dict | None = None, **changes) -> None:
        problem = Problem(6, 9, 10, 4, 6)
        for name, change in changes.items():
            setattr(problem, name, change(getattr(problem, name)))
        with pytest.raises(InputError, match=match):
            problem.run(backend=backend, **(run_options or {}))

    rejected("contiguous slices", in_maps=lambda m: m.t().contiguous().t())
    rejected("index has dtype", index=lambda i: i.short())
    rejected("index is out of range", index=lambda i: i.long() + 2**32)
    rejected("coefficient has shape", coefficient=lambda c: c[1:])
    rejected("offset is empty", offset=lambda o: o[:0])
    rejected("index is out of range", index=lambda i: i - 1)
    rejected("run from 0", offset=lambda o: o + 1)
    rejected("do not ascend", offset=lambda o: torch.cat([o[:1], o[-1:], o[2:]]))
    rejected("pass it as out", {"accumulate": True})
    rejected("out has shape", {"out": torch.empty(1, 2)})


def test_works_without_library(monkeypatch):
    monkeypatch.setattr(native, "load", lambda: (None, "removed by a test"))
    problem = Problem(6, 9, 10, 4, 7)
    problem.check(problem.run(backend="auto"), accumulate=False)
