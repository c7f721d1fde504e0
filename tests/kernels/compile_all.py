"""Compile all cases for GPUs that need not be there; a line of JSON with what came out for each kernel launched.

Run as a module, without TRITON_INTERPRET. The launchers run on CPU tensors and the launch itself is replaced, so that
a kernel is compiled with exactly the types, constants and divisibility hints that a GPU's launch would have.
"""

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from fwdkern.kernels import active_rows, contract, gathered_gemm, recurrent_scan, row_combine, seed, tiles
from tests.kernels.cases import TARGETS, Case, cases

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
TYPES = {
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.int32: "*i32",
    torch.int64: "*i64",
    torch.uint8: "*u8",
}
PTX = {
    "wgmma": r"wgmma\.mma_async",
    "mma_sync": r"\bmma\.sync",
    "async_copy_4": r"cp\.async\.ca\S* \[.*\], \[.*\], 0x4,",
    "async_copy_16": r"cp\.async\.cg\S* \[.*\], \[.*\], 0x10,",
    "load_16": r"ld\.global\S*\.v4\.b32",
    "store_16": r"st\.global\S*\.v4\.b32",
    "local": r"(ld|st)\.local",
}


def source_of(kernel: JITFunction, arguments: dict[str, Any]) -> ASTSource:
    """What Triton would compile for a launch with these arguments."""
    signature, constants, hints = {}, {}, {}
    for place, parameter in enumerate(kernel.params):
        value = arguments[parameter.name]
        specialised = isinstance(value, int) and not parameter.do_not_specialize
        if parameter.is_constexpr or value is None or (specialised and value == 1):
            signature[parameter.name], constants[parameter.name] = "constexpr", value
            continue
        if isinstance(value, Tensor):
            signature[parameter.name], divisible = TYPES[value.dtype], value.data_ptr() % 16 == 0
        else:
            signature[parameter.name] = "i32" if -(2**31) <= value < 2**31 else "i64"
            divisible = specialised and value % 16 == 0
        if divisible:
            hints[(place,)] = [["tt.divisibility", 16]]
    return ASTSource(kernel, signature, constants, hints)


def usage_of(cubin: bytes) -> dict[str, int]:
    """Registers and bytes of stack and local memory of a thread; spills lie in the latter two."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(TOOLS / "cuobjdump"), "-res-usage", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name.lower(): int(re.search(rf"{name}:(\d+)", text)[1]) for name in ("REG", "STACK", "LOCAL")}


def compiling(case: Case, report: Callable[[dict[str, Any]], None]) -> Callable[..., None]:
    """A launch that compiles and reports instead."""
    major, minor = TARGETS[case.target]

    def launch(kernel: JITFunction, *values: Any, grid: Any, warmup: bool, **keywords: Any) -> None:
        options = {name: keywords.pop(name) for name in ("num_warps", "num_stages") if name in keywords}
        names = [parameter.name for parameter in kernel.params]
        source = source_of(kernel, {**dict(zip(names, values, strict=False)), **keywords})
        compiled = triton.compile(source, target=GPUTarget("cuda", 10 * major + minor, 32), options=options)
        ptx = compiled.asm["ptx"]
        found = {name: len(re.findall(pattern, ptx)) for name, pattern in PTX.items()}
        isa = re.search(r"\.target (\S+)", ptx)[1]
        report(
            {
                "case": case.name,
                "kernel": kernel.__name__,
                "isa": isa,
                "shared": compiled.metadata.shared,
                **found,
                **usage_of(compiled.asm["cubin"]),
            }
        )

    return launch


def call(case: Case) -> None:
    """Call the launcher of a case's op."""
    storage = getattr(torch, case.storage)
    rows, slices, terms = 64, case.slices, 128

    def lists(*shape: int, dtype: torch.dtype = torch.int32) -> Tensor:
        return torch.zeros(shape, dtype=dtype)

    if case.op == "active_rows":
        gate = torch.zeros(64, 96, dtype=torch.bool)
        active_rows.count_rows(gate, lists(97, dtype=torch.int64))
        active_rows.list_rows(gate, lists(97, dtype=torch.int64), lists(64 * 96))
    elif case.op == "seed":
        seed.seed(torch.zeros(rows), lists(rows), torch.zeros(rows, slices, dtype=storage))
    elif case.op == "contract":
        offset = lists(slices + 1, dtype=torch.int64)
        arguments = offset, lists(terms), torch.zeros(terms), torch.zeros(slices, slices, dtype=storage)
        contract.contract(torch.zeros(rows, slices, dtype=storage), *arguments)
    elif case.op == "recurrent_scan":
        maps, factor = torch.zeros(3, 2, 8, slices), torch.zeros(2, 8, slices)
        optional = factor if case.full else None
        weight, active = torch.zeros(slices, slices), lists(8, 2, dtype=torch.int64)
        recurrent_scan.recurrent_scan(maps, weight, case.full, optional, optional, factor, active, case.full)
    elif case.op == "row_combine":
        maps, out = (torch.zeros(rows, slices, dtype=storage) for _ in range(2))
        offset = lists(rows + 1, dtype=torch.int64)
        row_combine.row_combine(maps, offset, lists(terms), torch.zeros(terms), case.full, out)
    else:
        positions, taps, channels = 16, 9, 64
        maps, out = (torch.zeros(rows, slices, dtype=storage) for _ in range(2))
        one_list = (lists(positions + 1, dtype=torch.int64), lists(rows))
        gathered_gemm.gathered_gemm(
            maps,
            one_list,
            one_list,
            lists(positions, taps),
            torch.zeros(taps, channels, channels // case.groups),
            torch.zeros(rows) if case.full else None,
            case.groups,
            case.full,
            out,
            lists(rows) if case.full else None,
            case.precision,
        )


def main() -> None:
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TRITON_CACHE_DIR"] = cache
        for case in cases():
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(JITFunction, "run", compiling(case, lambda record: print(json.dumps(record))))
                patch.setattr(tiles, "gemm_tile", lambda *_, tile=case.tile: tile)
                call(case)


if __name__ == "__main__":
    main()
