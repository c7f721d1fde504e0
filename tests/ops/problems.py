"""Random calls of the ops on maps, and how far from float64 a right result may be."""

import torch

from fwdkern.ops.active_rows import active_rows_reference
from fwdkern.ops.gathered_gemm import gathered_gemm, gathered_gemm_reference
from fwdkern.ops.row_combine import row_combine, row_combine_reference

EPS = torch.finfo(torch.float32).eps
# Half a unit in the last of the significant bits that a result is stored with, and half of the least step: float16's
# comes in sight.
ROUNDING = {torch.float32: 0.0, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
LEAST_STEP = {torch.float32: 0.0, torch.bfloat16: 0.0, torch.float16: 2.0**-25}
# Of a product of two operands rounded to 11 and 8 significant bits.
OPERAND_ROUNDING = {"ieee": 0.0, "tf32": 2.0**-10 + 2.0**-22, "bf16": 2.0**-7 + 2.0**-16}


def stored(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """How far values may move when they are stored in this dtype."""
    return ROUNDING[dtype] * values.abs() + LEAST_STEP[dtype]


class GemmProblem:
    """A random call: `arguments` for gathered_gemm and what bounds its rounding error."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        slices: int,
        density: float,
        seed: int,
        positions: tuple[int, int] = (6, 5),
        taps: int = 4,
        groups: int = 1,
        dtype: torch.dtype = torch.float32,
    ):
        generator = torch.Generator().manual_seed(seed)
        in_positions, out_positions = positions
        gates = [
            torch.rand(c, p, generator=generator) < density for c, p in ((c_in, in_positions), (c_out, out_positions))
        ]
        self.in_rows, self.out_rows = map(active_rows_reference, gates)
        self.in_maps = torch.randn(len(self.in_rows[1]), slices, generator=generator).to(dtype)
        self.weight = torch.randn(taps, c_in, c_out // groups, generator=generator)
        self.taps = torch.randint(-1, in_positions, (out_positions, taps), generator=generator, dtype=torch.int32)
        self.row_scale = torch.randn(len(self.out_rows[1]), generator=generator)
        self.before = torch.randn(len(self.out_rows[1]), slices, generator=generator).to(dtype)
        self.in_index: torch.Tensor | None = None
        self.groups = groups
        self.terms = taps * c_in // groups

    def run(self, backend: str = "cpu", **options) -> torch.Tensor:
        return gathered_gemm(
            self.in_maps,
            self.in_rows,
            self.out_rows,
            self.taps,
            self.weight,
            groups=self.groups,
            in_index=self.in_index,
            backend=backend,
            **options,
        )

    def expected(self, scale: bool, accumulate: bool, absolute: bool = False) -> torch.Tensor:
        def prepare(values: torch.Tensor) -> torch.Tensor:
            return values.double().abs() if absolute else values.double()

        out = prepare(self.before)
        gathered_gemm_reference(
            prepare(self.in_maps),
            *self.in_rows,
            *self.out_rows,
            self.taps,
            prepare(self.weight),
            prepare(self.row_scale) if scale else None,
            self.groups,
            accumulate,
            out,
            self.in_index,
        )
        return out

    def check(self, got: torch.Tensor, scale: bool, accumulate: bool, operand_rounding: float = 0) -> None:
        """`operand_rounding` bounds the relative error of a product of rounded operands."""
        expected = self.expected(scale, accumulate)
        magnitude = self.expected(scale, accumulate, absolute=True)
        bound = ((self.terms + 4) * EPS + operand_rounding) * magnitude + stored(expected, got.dtype)
        error = (got.double() - expected).abs()
        assert bool((error <= bound).all()), f"error {error.max():.3e} beyond its bound"


class CombineProblem:
    """A random call with rows of 0 to `longest` terms."""

    def __init__(self, in_rows: int, out_rows: int, slices: int, longest: int, seed: int, dtype=torch.float32):
        generator = torch.Generator().manual_seed(seed)
        lengths = torch.randint(0, longest + 1, (out_rows,), generator=generator)
        self.offset = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
        terms = int(self.offset[-1])
        self.index = torch.randint(0, in_rows, (terms,), generator=generator, dtype=torch.int32)
        self.coefficient = torch.randn(terms, generator=generator)
        self.in_maps = torch.randn(in_rows, slices, generator=generator).to(dtype)
        self.before = torch.randn(out_rows, slices, generator=generator).to(dtype)
        self.longest = longest

    def run(self, **options) -> torch.Tensor:
        options = {"backend": "cpu", **options}
        return row_combine(self.in_maps, self.offset, self.index, self.coefficient, **options)

    def expected(self, accumulate: bool, absolute: bool = False) -> torch.Tensor:
        maps, coefficient, out = (
            t.double().abs() if absolute else t.double() for t in (self.in_maps, self.coefficient, self.before)
        )
        out = out.clone()
        row_combine_reference(maps, self.offset, self.index, coefficient, accumulate, out)
        return out

    def check(self, got: torch.Tensor, accumulate: bool) -> None:
        expected = self.expected(accumulate)
        bound = (self.longest + 2) * EPS * self.expected(accumulate, absolute=True)
        bound += stored(expected, got.dtype)
        error = (got.double() - expected).abs()
        assert bool((error <= bound).all()), f"error {error.max():.3e} beyond its bound"
