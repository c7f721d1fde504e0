"""Useful rate of `gathered_gemm` beside torch.mm's rate and dense convolution, in one process, interleaved.

    python -m benchmarks.kernel_gathered_gemm [--threads 2] [--rounds 9] [--densities 0.15,0.3,1] [--isa avx512]

The clock is the wall's; with one thread it is the thread's own CPU time, which other processes disturb less. A result
is checked against float64 before it is timed.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fwdkern.ops import active_rows, gathered_gemm, native_info

# Square 3x3 layers with padding 1: (channels, side, slices).
LAYERS = ((64, 32, 192), (256, 14, 192), (512, 14, 96), (64, 16, 65), (16, 32, 257))
MM_SIDE = 1024
CHECKED_SLICES = 8


@dataclass
class Case:
    maps: Tensor  # [slices, C, H, W], zero where inactive
    kernel: Tensor  # [C, C, 3, 3]
    in_rows: tuple[Tensor, Tensor]
    out_rows: tuple[Tensor, Tensor]
    out_gate: Tensor  # [C, positions]
    rows: Tensor  # [in rows, slices]
    taps: Tensor  # [positions, 9]
    weight: Tensor  # [9, C, C]
    out: Tensor  # [out rows, slices]

    def run(self) -> Tensor:
        return gathered_gemm(
            self.rows, self.in_rows, self.out_rows, self.taps, self.weight, out=self.out, backend="cpu"
        )

    def useful_flops(self) -> int:
        return 2 * int((self._terms() * self.out_rows[0].diff()).sum()) * self.rows.shape[1]

    def terms(self) -> int:
        """Input rows that all positions read."""
        return int(self._terms().sum())

    def _terms(self) -> Tensor:
        """Of each position."""
        rows_at = torch.cat([self.in_rows[0].diff(), torch.zeros(1, dtype=torch.int64)])  # tap -1 reads the zero
        return rows_at[self.taps.long()].sum(1)

    def check(self) -> None:
        got = self.run()[:, :CHECKED_SLICES].double()
        maps, kernel = self.maps[:CHECKED_SLICES].double(), self.kernel.double()
        gate = self.out_gate.t()  # [positions, C], the order of the rows

        def dense(x: Tensor, w: Tensor) -> Tensor:
            out = F.conv2d(x, w, padding=1).flatten(2)  # [slices, C, positions]
            return out.permute(2, 1, 0)[gate]  # [out rows, slices]

        bound = 9 * kernel.shape[1] * torch.finfo(torch.float32).eps * dense(maps.abs(), kernel.abs())
        if bool(((got - dense(maps, kernel)).abs() > bound).any()):
            raise SystemExit("gathered_gemm is wrong here: no speed is reported")


def make_case(channels: int, side: int, slices: int, density: float, generator: torch.Generator) -> Case:
    positions = side * side
    in_gate, out_gate = (torch.rand(channels, positions, generator=generator) < density for _ in range(2))
    maps = torch.randn(slices, channels, positions, generator=generator) * in_gate
    kernel = torch.randn(channels, channels, 3, 3, generator=generator)
    numbers = torch.arange(1.0, positions + 1).view(1, 1, side, side)
    out_rows = active_rows(out_gate)
    return Case(
        maps=maps.view(slices, channels, side, side).contiguous(memory_format=torch.channels_last),
        kernel=kernel.contiguous(memory_format=torch.channels_last),
        in_rows=active_rows(in_gate),
        out_rows=out_rows,
        out_gate=out_gate,
        rows=maps.permute(2, 1, 0)[in_gate.t()].contiguous(),
        taps=(F.unfold(numbers, 3, padding=1)[0].t() - 1).to(torch.int32).contiguous(),
        weight=kernel.permute(2, 3, 1, 0).reshape(9, channels, channels).contiguous(),
        out=torch.empty(len(out_rows[1]), slices),
    )


def seconds(run: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    run()
    return clock() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--densities", default="0.15,0.3,0.5,1")
    parser.add_argument("--isa", default=None, help="upper bound: scalar, avx2 or avx512")
    arguments = parser.parse_args()
    if arguments.isa:
        os.environ["FWDKERN_CPU_ISA"] = arguments.isa
    torch.set_num_threads(arguments.threads)
    clock = time.thread_time if arguments.threads == 1 else time.perf_counter
    generator = torch.Generator().manual_seed(0)
    square = torch.randn(MM_SIDE, MM_SIDE, generator=generator)
    info = native_info()
    print(f"{info['isa']}, {info['compiler']}, torch {torch.__version__}, {arguments.threads} threads")
    print("  layer       slices  density      ms   spread   GF/s   torch.mm  share   dense ms  speed-up")
    for channels, side, slices in LAYERS:
        for density in map(float, arguments.densities.split(",")):
            case = make_case(channels, side, slices, density, generator)
            case.check()
            runs: dict[str, Callable[[], object]] = {
                "mm": lambda: square @ square,
                "gathered": case.run,
                "dense": lambda case=case: F.conv2d(case.maps, case.kernel, padding=1),
            }
            taken: dict[str, list[float]] = {name: [] for name in runs}
            for _ in range(arguments.rounds):
                for name, run in runs.items():
                    taken[name].append(seconds(run, clock))
            median = {name: statistics.median(times) for name, times in taken.items()}
            low, *_, high = statistics.quantiles(taken["gathered"], n=4)
            rate = case.useful_flops() / median["gathered"] / 1e9
            mm_rate = 2 * MM_SIDE**3 / median["mm"] / 1e9
            print(
                f"{channels:4d} {side:3d}x{side:<3d} {slices:7d} {density:8.2f} {median['gathered'] * 1e3:9.2f}"
                f" {(high - low) / median['gathered']:7.0%} {rate:7.1f} {mm_rate:9.1f} {rate / mm_rate:7.2f}"
                f" {median['dense'] * 1e3:9.1f} {median['dense'] / median['gathered']:8.2f}x"
            )


if __name__ == "__main__":
    main()
