"""Single ops at the sizes of a large layer: Triton's and CUDA's kernels beside the compiled library on its processor
and, since all but the products are bound by memory, a copy of as many bytes."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import fwdkern.ops as ops
from benchmarks.kernel_gathered_gemm import CHECKED_SLICES, make_case
from benchmarks.workload import Contender, Sample, Task
from fwdkern.errors import BackendError
from fwdkern.ops import gate as gates
from fwdkern.ops import row_sums as sums
from fwdkern.ops.backend import choose, preference

_EVERYTHING = torch.ones(1, 1, dtype=torch.bool)
COPY = "copy of as many bytes"
# Kernels for GPUs first, so that goals are about them; torch where it is what the table of backends prefers.
BACKENDS = ("triton", "cuda", "torch", "cpu")

# From a backend and the problem's tensors, where the backend wants them, to what there is to run.
Make = Callable[[str, dict[str, Tensor]], Callable[[], Any]]


def _task(
    op: str,
    problem: dict[str, Tensor],
    make: Make,
    sample: Callable[[Any], Tensor],
    exact: Tensor,
    size: float,
    device: str,
) -> Task:
    """exact: what ``sample`` makes of a right result, [n, m]; size: bytes moved at least."""
    contenders = []
    first = next(iter(problem.values()))
    for backend in BACKENDS:
        if backend == "torch" and preference(op, ()).backend != "torch":
            continue
        place = torch.device("cpu" if backend == "cpu" else device)
        try:
            choose(op, place, first.dtype, tuple(first.shape), backend)
        except BackendError:
            continue
        there = {name: tensor.to(place) for name, tensor in problem.items()}
        name = f"{backend}, on the processor" if backend == "cpu" and device != "cpu" else backend
        contenders.append(
            Contender(name, "own", {"": make(backend, there)}, lambda out: Sample(sample(out).cpu(), _EVERYTHING))
        )
    source = torch.ones(int(size / 2), dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    copied = Sample(torch.ones(1, 1), _EVERYTHING)
    contenders.append(
        Contender(
            COPY, "yardstick", {"": lambda: target.copy_(source)}, lambda out: Sample(out[:1, None].cpu(), _EVERYTHING)
        )
    )
    return Task(contenders, lambda: [Sample(exact, _EVERYTHING)], 1e-2, lambda: 0.0, lambda: [copied], device=device)


def active_rows(channels: int, side: int, density: float, device: str) -> Task:
    """Row lists of a gate, without asking how many rows there are."""
    gate = torch.rand(channels, side * side, generator=torch.Generator().manual_seed(0)) < density
    offset, channel = ops.active_rows_reference(gate)
    rows = len(channel)

    def make(backend: str, there: dict[str, Tensor]) -> Callable[[], Any]:
        call = ops.active_rows if backend == "cpu" else ops.active_rows_on_device
        return lambda: call(there["gate"], backend)

    def sample(lists: tuple[Tensor, Tensor]) -> Tensor:
        # Weighted so that no two lists of the same length look the same.
        place = torch.arange(1, rows + 1, device=lists[1].device) % 1021
        numbers = [lists[0][-1].double(), (lists[1][:rows].double() * place).sum(), lists[0].double().mean()]
        return torch.stack(numbers)[:, None]

    exact = sample((offset, channel))
    return _task("active_rows", {"gate": gate}, make, sample, exact, gate.numel() + 4 * rows + 8 * len(offset), device)


def row_combine(rows: int, slices: int, terms: int, storage: torch.dtype, device: str) -> Task:
    """Every row is a combination of ``terms`` rows, as in a pool; each is read once."""
    generator = torch.Generator().manual_seed(0)
    problem = {
        "maps": torch.randn(rows * terms, slices, generator=generator).to(storage),
        "offset": torch.arange(rows + 1) * terms,
        "index": torch.randperm(rows * terms, generator=generator).int(),
        "coefficient": torch.randn(rows * terms, generator=generator),
        "out": torch.zeros(rows, slices, dtype=storage),
    }

    def make(backend: str, there: dict[str, Tensor]) -> Callable[[], Any]:
        lists = (there["maps"], there["offset"], there["index"], there["coefficient"])
        return lambda: ops.row_combine(*lists, out=there["out"], backend=backend)

    some = problem["maps"][:, :CHECKED_SLICES].double()[problem["index"].long()] * problem["coefficient"][:, None]
    exact = some.unflatten(0, (rows, terms)).sum(1).T
    size = problem["maps"].nbytes + problem["out"].nbytes + 8 * rows * (terms + 1)
    return _task("row_combine", problem, make, lambda out: out[:, :CHECKED_SLICES].T, exact, size, device)


def contract(inputs: int, targets: int, channels: int, device: str) -> Task:
    """The maps of ``targets`` units from pulled rows of an input of ``channels``."""
    generator = torch.Generator().manual_seed(0)
    problem = {
        "pulled": torch.randn(inputs * channels, targets, generator=generator),
        "offset": torch.arange(inputs + 1) * channels,
        "index": torch.arange(inputs * channels).int(),
        "coefficient": torch.randn(inputs * channels, generator=generator),
        "out": torch.zeros(targets, inputs),
    }

    def make(backend: str, there: dict[str, Tensor]) -> Callable[[], Any]:
        lists = (there["pulled"], there["offset"], there["index"], there["coefficient"])
        return lambda: ops.contract(*lists, out=there["out"], backend=backend)

    some = problem["pulled"][:, :CHECKED_SLICES].double() * problem["coefficient"][:, None]
    exact = some.unflatten(0, (inputs, channels)).sum(1).T
    size = problem["pulled"].nbytes + problem["out"].nbytes + 8 * inputs * (channels + 1)
    return _task("contract", problem, make, lambda out: out[:CHECKED_SLICES], exact, size, device)


def seed(rows: int, slices: int, device: str) -> Task:
    """Rows of the input's units."""
    problem = {
        "out": torch.zeros(rows, slices),
        "value": torch.randn(rows, generator=torch.Generator().manual_seed(0)),
        "column": (torch.arange(rows) % slices).int(),
    }

    def make(backend: str, there: dict[str, Tensor]) -> Callable[[], Any]:
        return lambda: ops.seed(there["value"], there["column"], there["out"], backend)

    exact = torch.zeros(rows, slices)
    ops.seed_reference(problem["value"], problem["column"], exact)
    picked = slice(None, None, max(1, slices // CHECKED_SLICES))
    return _task(
        "seed",
        problem,
        make,
        lambda out: out[:, picked].T,
        exact[:, picked].T,
        problem["out"].nbytes + 8 * rows,
        device,
    )


def row_sums(rows: int, columns: int, device: str) -> Task:
    """Sums of maps with a mass added, twice: the second call takes the mass off again."""
    generator = torch.Generator().manual_seed(0)
    problem = {
        "maps": torch.randint(-8, 9, (rows, columns), generator=generator).float(),
        "mass": torch.randint(-4, 5, (rows,), generator=generator).float(),
    }

    def make(backend: str, there: dict[str, Tensor]) -> Callable[[], Any]:
        maps, mass = there["maps"].clone(), there["mass"]

        def run() -> Tensor:
            sums.row_sums(maps, mass, backend)
            return torch.stack(sums.row_sums(maps, -mass, backend), 1)

        return run

    exact = torch.stack((problem["maps"].sum(1), problem["maps"].abs().sum(1)), 1)
    return _task("row_sums", problem, make, lambda found: found, exact, 4 * problem["maps"].nbytes, device)


def gate_maps(count: int, channels: int, side: int, density: float, device: str) -> Task:
    """Maps through one gate, channels last on both sides."""
    generator = torch.Generator().manual_seed(0)
    gate = torch.rand(1, channels, side, side, generator=generator) < density
    maps = torch.randn(count, side, side, channels, generator=generator).permute(0, 3, 1, 2)
    problem = {"maps": maps, "bits": gates.gate_bits_reference(gate)}

    def make(backend: str, there: dict[str, Tensor]) -> Callable[[], Any]:
        return lambda: gates.gate_maps(there["maps"], there["bits"], backend)

    def sample(maps: Tensor) -> Tensor:
        return maps[-1, :CHECKED_SLICES].flatten(1)

    exact = torch.where(gate, maps[-1:], 0)
    return _task("gate_maps", problem, make, sample, sample(exact), 2 * maps.nbytes, device)


def gathered_gemm(channels: int, side: int, slices: int, density: float, precision: str, device: str) -> Task:
    """A 3×3 layer whose inputs and outputs are active at random; the copy says how far from bound by memory it is."""
    case = make_case(channels, side, slices, density, torch.Generator().manual_seed(0))
    problem = {"rows": case.rows, "taps": case.taps, "weight": case.weight, "out": case.out}
    for name, lists in (("in", case.in_rows), ("out", case.out_rows)):
        problem |= {f"{name}_offset": lists[0], f"{name}_channel": lists[1]}

    def make(backend: str, there: dict[str, Tensor]) -> Callable[[], Any]:
        lists = [(there[f"{name}_offset"], there[f"{name}_channel"]) for name in ("in", "out")]
        arguments = (there["rows"], *lists, there["taps"], there["weight"])
        return lambda: ops.gathered_gemm(*arguments, out=there["out"], precision=precision, backend=backend)

    exact = F.conv2d(case.maps[:CHECKED_SLICES].double(), case.kernel.double(), padding=1)
    exact = exact.flatten(2).permute(0, 2, 1)[:, case.out_gate.T]
    size = case.rows.nbytes + case.out.nbytes + case.weight.nbytes
    task = _task("gathered_gemm", problem, make, lambda out: out[:, :CHECKED_SLICES].T, exact, size, device)
    return Task(
        task.contenders,
        task.references,
        task.tolerance,
        lambda: case.useful_flops() / 2,
        task.yardstick_references,
        device,
    )
