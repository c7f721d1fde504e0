import pytest
import torch
import torch.nn.functional as F

from fwdkern.errors import BackendError, InputError
from fwdkern.ops import native
from fwdkern.ops.active_rows import active_rows_reference
from fwdkern.ops.gathered_gemm import gathered_gemm
from tests import SEEDS
from tests.ops.problems import GemmProblem as Problem


@pytest.fixture(params=native.ISA_NAMES)
def isa(request, native_library, monkeypatch):
    if native.ISA_NAMES.index(request.param) > native_library.available_isa():
        pytest.skip(f"this machine does not run {request.param}")
    monkeypatch.setenv("FWDKERN_CPU_ISA", request.param)
    return request.param


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("density", [0.3, 1.0])
@pytest.mark.parametrize("slices", [1, 7, 33, 48, 65])
@pytest.mark.parametrize("channels", [1, 3, 17])
def test_odd_sizes(isa, channels, slices, density, seed, poisoned):
    problem = Problem(channels, 20 - channels, slices, density, seed)
    for scale in (False, True):
        options = {"row_scale": problem.row_scale} if scale else {}
        problem.check(problem.run(**options), scale, accumulate=False)
        out = problem.before.clone()
        assert problem.run(**options, accumulate=True, out=out) is out
        problem.check(out, scale, accumulate=True)


@pytest.mark.parametrize("groups", [2, 6])
@pytest.mark.parametrize("seed", SEEDS)
def test_groups(isa, groups, seed, poisoned):
    problem = Problem(12, 18, 20, 0.5, seed, groups=groups)
    problem.check(problem.run(), scale=False, accumulate=False)


def test_many_terms_cross_depth_blocks(isa, poisoned):
    problem = Problem(150, 70, 50, 0.9, 1, positions=(7, 3), taps=9)
    problem.check(problem.run(row_scale=problem.row_scale), scale=True, accumulate=False)


def test_wide_gaps_between_output_channels(isa, poisoned):
    problem = Problem(9, 700, 17, 0.02, 2)
    problem.check(problem.run(), scale=False, accumulate=False)


def test_one_position_shared_by_threads(isa, poisoned):
    torch.set_num_threads(3)
    problem = Problem(400, 900, 40, 0.7, 3, positions=(1, 1), taps=1)
    problem.check(problem.run(), scale=False, accumulate=False)


@pytest.mark.parametrize("in_storage", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("out_storage", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("accumulate", [False, True])
def test_bfloat16_storage(isa, in_storage, out_storage, accumulate, poisoned):
    problem = Problem(90, 21, 37, 0.8, 4, dtype=in_storage, taps=9)
    problem.before = problem.before.to(out_storage)
    out = problem.before.clone() if accumulate else torch.empty_like(problem.before)
    problem.run(out=out, accumulate=accumulate, row_scale=problem.row_scale)
    problem.check(out, scale=True, accumulate=accumulate)


def test_empty_row_lists(isa, poisoned):
    nothing_in = Problem(5, 4, 9, 0.5, 5)
    nothing_in.in_rows = (torch.zeros(7, dtype=torch.int64), torch.empty(0, dtype=torch.int32))
    nothing_in.in_maps = torch.empty(0, 9)
    assert torch.equal(nothing_in.run(), torch.zeros(len(nothing_in.out_rows[1]), 9))
    assert torch.equal(nothing_in.run(out=nothing_in.before.clone(), accumulate=True), nothing_in.before)

    nothing_out = Problem(5, 4, 9, 0.5, 5)
    nothing_out.out_rows = (torch.zeros(6, dtype=torch.int64), torch.empty(0, dtype=torch.int32))
    assert nothing_out.run().shape == (0, 9)
    assert Problem(5, 4, 0, 0.5, 5).run().shape[1] == 0


def test_all_taps_outside(isa, poisoned):
    problem = Problem(5, 4, 9, 0.5, 6)
    problem.taps.fill_(-1)
    assert torch.equal(problem.run(), torch.zeros_like(problem.before))


def test_rows_with_a_stride(isa, poisoned):
    problem = Problem(7, 9, 10, 0.6, 7)
    wide = torch.full((2 * len(problem.in_maps), 13), float("nan"))
    view = wide[::2, 1:11]
    view.copy_(problem.in_maps)
    problem.in_maps = view
    out = torch.full((len(problem.before), 12), 5.0)
    problem.run(out=out[:, 1:11])
    problem.check(out[:, 1:11], scale=False, accumulate=False)
    assert bool((out[:, [0, 11]] == 5).all()), "wrote beyond the slices"


def test_same_bits_from_run_to_run_and_for_any_thread_count(isa):
    problem = Problem(40, 50, 65, 0.5, 8, positions=(64, 64), taps=9)
    results = []
    for count in (1, 2, 2, 3):
        torch.set_num_threads(count)
        results.append(problem.run())
    assert all(torch.equal(results[0], other) for other in results[1:])


@pytest.mark.parametrize("stride, padding, dilation, groups", [(1, 1, 1, 1), (2, 1, 1, 3), (1, 2, 2, 1)])
def test_reference_is_convolution(stride, padding, dilation, groups):
    """With all rows active and maps as the batch, the op is a convolution, whatever the taps encode."""
    c_in, c_out, side, slices = 6, 9, 7, 5
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(slices, c_in, side, side, generator=generator, dtype=torch.float64)
    kernel = torch.randn(c_out, c_in // groups, 3, 3, generator=generator, dtype=torch.float64)
    expected = F.conv2d(x, kernel, None, stride, padding, dilation, groups)
    numbers = torch.arange(1.0, side * side + 1).view(1, 1, side, side)
    taps = F.unfold(numbers, 3, dilation, padding, stride)[0].t().to(torch.int32) - 1  # [out positions, 9]

    def all_rows(channels: int, positions: int) -> tuple[torch.Tensor, torch.Tensor]:
        return active_rows_reference(torch.ones(channels, positions, dtype=torch.bool))

    weight = torch.zeros(9, c_in, c_out // groups, dtype=torch.float64)
    for c in range(c_in):
        group, within = divmod(c, c_in // groups)
        own = kernel[group * (c_out // groups) : (group + 1) * (c_out // groups), within]
        weight[:, c] = own.flatten(1).t()
    out = gathered_gemm(
        x.permute(2, 3, 1, 0).reshape(-1, slices).contiguous(),
        all_rows(c_in, side * side),
        all_rows(c_out, len(taps)),
        taps.contiguous(),
        weight,
        groups=groups,
    )  # [(positions, C_out), slices]
    expected = expected.permute(2, 3, 1, 0).reshape(-1, slices)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)


def test_opcheck():
    problem = Problem(5, 6, 8, 0.5, 9)
    torch.library.opcheck(
        torch.ops.fwdkern.gathered_gemm.default,
        (
            problem.in_maps,
            *problem.in_rows,
            *problem.out_rows,
            problem.taps,
            problem.weight,
            problem.row_scale,
            1,
            True,
            problem.before.clone(),
        ),
    )


@pytest.mark.parametrize("backend", ["cpu", "torch"])
def test_rejects(backend, native_library):
    def rejected(match: str, run_options: dict | None = None, **changes) -> None:
        problem = Problem(5, 6, 8, 0.6, 10)
        for name, change in changes.items():
            setattr(problem, name, change(getattr(problem, name)))
        with pytest.raises(InputError, match=match):
            problem.run(backend=backend, **(run_options or {}))

    rejected("contiguous slices", in_maps=lambda m: m.t().contiguous().t())
    rejected(r"in_maps has shape", in_maps=lambda m: m[None])
    rejected(r"in_rows\[1\] has shape", in_maps=lambda m: m[1:])
    rejected(r"in_rows\[1\] has dtype", in_rows=lambda r: (r[0], r[1].long()))
    rejected("weight has strides", weight=lambda w: w.transpose(1, 2).contiguous().transpose(1, 2))
    rejected("weight has dtype", weight=lambda w: w.double())
    rejected("taps has shape", taps=lambda t: t[1:])
    rejected("divisor", groups=lambda _: 2)
    rejected("pass it as out", {"accumulate": True})
    rejected("out has shape", {"out": torch.empty(1, 2)})
    rejected("a tap is out of range", taps=lambda t: t + 6)
    rejected("a channel is out of range", weight=lambda w: w[:, :1].contiguous())
    rejected("do not ascend", in_rows=lambda r: (r[0], torch.zeros_like(r[1])))
    rejected("do not ascend", out_rows=lambda r: (r[0][[0, -1, 1, 2, 3, -1]], r[1]))
    rejected("run from 0", in_rows=lambda r: (r[0] + 1, r[1]))


def test_rejects_overlap(native_library):
    problem = Problem(5, 5, 8, 1.0, 11, positions=(4, 4))
    with pytest.raises(InputError, match="share memory"):
        problem.run(out=problem.in_maps)
    with pytest.raises(InputError, match="overlap"):
        problem.run(out=torch.empty(1, 8).expand(20, 8))


def test_backends_by_name(monkeypatch, native_library):
    problem = Problem(5, 6, 8, 0.5, 12)
    problem.in_maps, problem.weight = problem.in_maps.double(), problem.weight.double()
    with pytest.raises(BackendError, match="float64"):
        problem.run("cpu")
    assert problem.run("auto").dtype == torch.float64


def test_works_without_library(monkeypatch):
    monkeypatch.setattr(native, "load", lambda: (None, "removed by a test"))
    problem = Problem(5, 6, 8, 0.5, 13)
    problem.check(problem.run("auto"), scale=False, accumulate=False)
