"""The gathered GEMM in Triton's interpreter and in CUDA's emulation, against float64."""

import mmap

import numpy as np
import pytest
import torch

from fwdkern.errors import InputError
from fwdkern.kernels import tiles
from fwdkern.kernels.tiles import GemmTile
from fwdkern.ops import active_rows_on_device
from fwdkern.ops.gathered_gemm import list_terms
from tests import SEEDS
from tests.kernels.guards import Guards
from tests.ops.problems import OPERAND_ROUNDING, GemmProblem

# Both operands are rounded to 11 significant bits.
TWO_ROUNDINGS = 2.0**-10 + 2.0**-22


@pytest.fixture(params=["triton", "cuda"])
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


def indexed(problem: GemmProblem, seed: int) -> None:
    """Let listed rows lie anywhere among more rows, some of them together."""
    generator = torch.Generator().manual_seed(seed)
    listed = len(problem.in_maps)
    problem.in_maps = torch.randn(listed + 3, problem.in_maps.shape[1], generator=generator).to(problem.in_maps.dtype)
    problem.in_index = torch.randint(listed + 3, (listed,), generator=generator, dtype=torch.int32)


def guard(problem: GemmProblem) -> Guards:
    guards = Guards()
    problem.in_maps = guards.rows(problem.in_maps)
    problem.in_rows = tuple(map(guards.flat, problem.in_rows))
    problem.out_rows = tuple(map(guards.flat, problem.out_rows))
    problem.taps, problem.weight = guards.flat(problem.taps), guards.flat(problem.weight)
    problem.row_scale = guards.flat(problem.row_scale)
    if problem.in_index is not None:
        problem.in_index = guards.flat(problem.in_index)
    return guards


@pytest.mark.parametrize(
    "storage, with_index, seed",
    [(torch.float32, False, SEEDS[0]), (torch.float32, True, SEEDS[1]), (torch.float16, True, SEEDS[1])],
)
@pytest.mark.parametrize("density", [0.3, 1.0])
@pytest.mark.parametrize("slices", [1, 7, 33, 48, 65])
@pytest.mark.parametrize("channels", [1, 3, 17])
def test_odd_sizes_between_guards(
    backend: str, channels: int, slices: int, density: float, storage: torch.dtype, with_index: bool, seed: int
) -> None:
    problem = GemmProblem(channels, 20 - channels, slices, density, seed, dtype=storage)
    if with_index:
        indexed(problem, seed)
    guards = guard(problem)
    out = guards.rows(torch.full_like(problem.before, torch.nan))
    problem.run(backend, out=out)
    problem.check(out, scale=False, accumulate=False)
    out.copy_(problem.before)
    assert problem.run(backend, row_scale=problem.row_scale, accumulate=True, out=out) is out
    problem.check(out, scale=True, accumulate=True)
    guards.check()


@pytest.mark.parametrize("storage", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("out_storage", [torch.float32, torch.float16])
@pytest.mark.parametrize("accumulate", [False, True])
def test_storage(backend: str, storage: torch.dtype, out_storage: torch.dtype, accumulate: bool) -> None:
    problem = GemmProblem(30, 21, 37, 0.8, 4, dtype=storage, taps=9)
    problem.before = problem.before.to(out_storage)
    out = problem.before.clone() if accumulate else torch.empty_like(problem.before)
    problem.run(backend, out=out, accumulate=accumulate, row_scale=problem.row_scale)
    problem.check(out, scale=True, accumulate=accumulate)


@pytest.mark.parametrize("backend", ["triton"])
@pytest.mark.parametrize("storage", [torch.float32, torch.float16])
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_rounded_operands(backend: str, precision: str, storage: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    import triton.language as tl

    from fwdkern.kernels import gathered_gemm as kernels

    # The interpreter multiplies bfloat16 as bit patterns; float16 takes the same way and has tf32's precision.
    monkeypatch.setitem(kernels.OPERANDS, "bf16", tl.float16)
    problem = GemmProblem(17, 20, 33, 0.5, 0, dtype=storage)
    out = problem.before.float().clone()
    problem.run(backend, precision=precision, accumulate=True, out=out)
    problem.check(out, scale=False, accumulate=True, operand_rounding=TWO_ROUNDINGS)
    with pytest.raises(AssertionError):
        problem.check(out, scale=False, accumulate=True)


@pytest.mark.parametrize("backend", ["cuda"])
@pytest.mark.parametrize("storage", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_tensor_cores(backend: str, precision: str, storage: torch.dtype) -> None:
    problem = GemmProblem(40, 50, 70, 0.7, 0, positions=(6, 3), dtype=storage)
    indexed(problem, 0)
    guards = guard(problem)
    out = guards.rows(problem.before.float())
    problem.run(backend, precision=precision, accumulate=True, row_scale=problem.row_scale, out=out)
    problem.check(out, scale=True, accumulate=True, operand_rounding=OPERAND_ROUNDING[precision])
    guards.check()
    with pytest.raises(AssertionError):
        problem.check(out, scale=True, accumulate=True)


def test_tf32_rounds_to_nearest_and_keeps_specials(backend: str) -> None:
    ulp = 2.0**-10
    values = [1 + ulp / 2, 1 + ulp / 2 - 2**-23, -1 - 0.75 * ulp, torch.inf, -torch.inf, torch.nan, 0.0, 1e-30]
    bits = torch.tensor([0x7FFFFFFF, -1], dtype=torch.int32)  # NaNs whose rounding would overflow
    maps = torch.cat([torch.tensor(values), bits.view(torch.float32)])[None]
    problem = GemmProblem(1, 1, maps.shape[1], 1.0, 0, positions=(1, 1), taps=1)
    problem.in_maps, problem.taps = maps, torch.zeros(1, 1, dtype=torch.int32)
    problem.weight = torch.tensor(2 + 0.75 * ulp).view(1, 1, 1)  # rounds to 2
    got = problem.run(backend, precision="tf32")[0] / 2
    expected = [1 + ulp, 1.0, -1 - ulp, torch.inf, -torch.inf, torch.nan, 0.0, 1e-30, torch.nan, torch.nan]
    torch.testing.assert_close(got, torch.tensor(expected), rtol=ulp / 2, atol=0, equal_nan=True)
    assert got[:3].tolist() == expected[:3]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("groups", [2, 3, 6])
def test_groups(backend: str, groups: int, seed: int) -> None:
    problem = GemmProblem(12, 18, 20, 0.5, seed, groups=groups)
    guards = guard(problem)
    problem.check(problem.run(backend), scale=False, accumulate=False)
    guards.check()


def test_segments_longer_than_a_block(backend: str) -> None:
    problem = GemmProblem(320, 300, 5, 0.9, 1, positions=(3, 2), taps=2, groups=2)
    problem.check(problem.run(backend, row_scale=problem.row_scale), scale=True, accumulate=False)


@pytest.mark.parametrize("positions, taps", [((1, 1), 1), ((1, 40), 3), ((40, 1), 9), ((9, 33), 5)])
def test_positions_and_taps(backend: str, positions: tuple[int, int], taps: int) -> None:
    problem = GemmProblem(9, 8, 17, 0.5, 3, positions=positions, taps=taps)
    problem.check(problem.run(backend), scale=False, accumulate=False)


ALL_TILES = {
    tile
    for precision in ("ieee", "tf32")
    for capability in ((8, 0), (9, 0))
    for aligned in (False, True)
    for tile in tiles.gemm_tiles(precision, capability, aligned)
}


@pytest.mark.parametrize("backend", ["triton"])
@pytest.mark.parametrize("tile", sorted(ALL_TILES), ids=lambda tile: "x".join(map(str, tile)))
def test_every_tile(backend: str, tile: GemmTile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "gemm_tile", lambda *_: tile)
    problem = GemmProblem(21, 150, 130, 0.7, 5, positions=(4, 3), taps=3)
    guards = guard(problem)
    out = guards.rows(problem.before)
    problem.run(backend, row_scale=problem.row_scale, accumulate=True, out=out)
    problem.check(out, scale=True, accumulate=True)
    guards.check()


@pytest.mark.parametrize("backend", ["triton"])
def test_scratch_for_some_positions_at_a_time(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = GemmProblem(12, 18, 20, 0.5, 6, positions=(5, 53), groups=2)
    monkeypatch.setattr(tiles, "SCRATCH_BYTES", 0)
    guards = guard(problem)
    problem.check(problem.run(backend), scale=False, accumulate=False)
    guards.check()


def test_lists_longer_than_their_rows(backend: str) -> None:
    """Row lists whose number of rows only the device knows."""
    problem = GemmProblem(9, 11, 18, 0.4, 7)
    rows = problem.before.shape[0]
    expected = problem.run(backend)
    generator = torch.Generator().manual_seed(7)
    gates = [torch.rand(c, p, generator=generator) < 0.4 for c, p in ((9, 6), (11, 5))]
    in_rows, out_rows = (active_rows_on_device(gate, backend) for gate in gates)
    for longer, exact in ((in_rows, problem.in_rows), (out_rows, problem.out_rows)):
        assert torch.equal(longer[0], exact[0]) and torch.equal(longer[1][: len(exact[1])], exact[1])
    longer_maps = torch.full((len(in_rows[1]), 18), torch.nan)
    longer_maps[: len(problem.in_maps)] = problem.in_maps
    out = torch.full((len(out_rows[1]), 18), 5.0)
    problem.in_maps, problem.in_rows, problem.out_rows = longer_maps, in_rows, out_rows
    problem.run(backend, out=out)
    assert torch.equal(out[:rows], expected) and bool((out[rows:] == 5).all())


def test_nothing_to_do(backend: str) -> None:
    nothing_in = GemmProblem(5, 4, 9, 0.5, 5)
    nothing_in.in_rows = (torch.zeros(7, dtype=torch.int64), torch.empty(0, dtype=torch.int32))
    nothing_in.in_maps = torch.empty(0, 9)
    assert torch.equal(nothing_in.run(backend), torch.zeros(len(nothing_in.out_rows[1]), 9))
    kept = nothing_in.run(backend, out=nothing_in.before.clone(), accumulate=True)
    assert torch.equal(kept, nothing_in.before)

    nothing_out = GemmProblem(5, 4, 9, 0.5, 5)
    nothing_out.out_rows = (torch.zeros(6, dtype=torch.int64), torch.empty(0, dtype=torch.int32))
    assert nothing_out.run(backend).shape == (0, 9)
    assert GemmProblem(5, 4, 0, 0.5, 5).run(backend).shape[1] == 0

    no_position = GemmProblem(5, 4, 9, 0.5, 5, positions=(6, 0))
    assert no_position.run(backend).shape == (0, 9)

    outside = GemmProblem(5, 4, 9, 0.5, 6)
    outside.taps.fill_(-1)
    assert torch.equal(outside.run(backend), torch.zeros_like(outside.before))

    no_taps = GemmProblem(5, 4, 9, 0.5, 6, taps=0)
    assert torch.equal(no_taps.run(backend), torch.zeros_like(no_taps.before))


def test_offsets_beyond_int32(backend: str) -> None:
    """Rows lie 2^31 elements apart; the memory between them is never touched."""
    problem = GemmProblem(2, 2, 5, 1.0, 8, positions=(1, 1), taps=1, dtype=torch.float16)
    problem.taps.zero_()

    def far_apart(values: torch.Tensor) -> torch.Tensor:
        stride = 2**31 + 8
        pages = mmap.mmap(-1, 2 * (stride + 16))
        rows = torch.from_numpy(np.frombuffer(pages, np.float16)).as_strided((2, 5), (stride, 1))
        rows.copy_(values)
        return rows

    expected = problem.run(backend)
    problem.in_maps = far_apart(problem.in_maps)
    out = far_apart(problem.before)
    assert torch.equal(problem.run(backend, out=out), expected)


@pytest.mark.parametrize("storage", [torch.float32, torch.float16])
@pytest.mark.parametrize("precision", ["ieee", "bf16"])
def test_listed_terms_serve_other_maps(backend: str, precision: str, storage: torch.dtype) -> None:
    """Of the same stride and dtype; the result is the one that lists made anew give, bit for bit."""
    if (backend, precision) == ("triton", "bf16"):
        pytest.skip("the interpreter multiplies bfloat16 as bit patterns")
    problem = GemmProblem(12, 18, 20, 0.5, 3, positions=(6, 5), taps=3, groups=2, dtype=storage)
    indexed(problem, 0)
    shared = {"groups": 2, "in_index": problem.in_index, "precision": precision, "backend": backend}
    lists = problem.in_rows, problem.taps, problem.weight
    terms = list_terms(problem.in_maps, *lists, **shared, most=2**20)
    assert terms is not None and terms.nbytes <= 2**20
    for maps in (problem.in_maps, problem.in_maps.flip(0)):
        problem.in_maps = maps
        expected = problem.run(backend, precision=precision)
        assert torch.equal(problem.run(backend, precision=precision, terms=terms), expected)
    assert list_terms(problem.in_maps, *lists, **shared, most=terms.nbytes) is not None
    assert list_terms(problem.in_maps, *lists, **shared, most=terms.nbytes - 1) is None
    assert list_terms(problem.in_maps, *lists, **{**shared, "backend": "torch"}, most=2**20) is None
    problem.in_maps = torch.cat([problem.in_maps, problem.in_maps], 1)[:, :20]
    with pytest.raises(InputError, match=r"terms were listed for .* rows 80 bytes apart|rows 40 bytes apart"):
        problem.run(backend, precision=precision, terms=terms)


def test_same_bits_every_time(backend: str) -> None:
    problem = GemmProblem(40, 50, 65, 0.5, 8, positions=(16, 16), taps=9)
    assert torch.equal(problem.run(backend), problem.run(backend))


def test_unknown_precision(backend: str) -> None:
    for name in (backend, "torch"):
        with pytest.raises(InputError, match="expected one of ieee, tf32, bf16"):
            GemmProblem(5, 4, 9, 0.5, 5).run(name, precision="fp8")
