"""Every launch compiled for GPUs that are not here, in a process of its own, and what came out."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.kernels.cases import TARGETS, Case, cases

ROOT = Path(__file__).parents[2]
# Bytes of shared memory that a program may have, on the smallest GPU that each target's tiles are chosen for.
SHARED = {"sm_80": 99 * 1024, "sm_90a": 227 * 1024}
MAIN_KERNEL = {
    "active_rows": "list_kernel",
    "contract": "contract_kernel",
    "gathered_gemm": "gemm_kernel",
    "recurrent_scan": "scan_kernel",
    "row_combine": "combine_kernel",
    "seed": "seed_kernel",
}


@pytest.fixture(scope="module")
def compiled() -> dict[str, list[dict[str, Any]]]:
    """What was found in each case's kernels."""
    # The interpreter's switch must not reach it.
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "tests.kernels.compile_all"]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-4000:]
    found: dict[str, list[dict[str, Any]]] = {}
    for line in run.stdout.splitlines():
        record = json.loads(line)
        found.setdefault(record["case"], []).append(record)
    return found


CASES = [pytest.param(case.target, case, id=case.name) for case in cases()]


@pytest.mark.parametrize("target, case", CASES)
def test_compiled_as_promised(target: str, case: Case, compiled: dict[str, list[dict[str, Any]]]) -> None:
    for kernel in compiled[case.name]:
        assert kernel["isa"] == target
        assert kernel["stack"] == kernel["local"] == 0, f"{kernel['kernel']} spills registers"
        assert kernel["shared"] <= SHARED[target]
    (main,) = (kernel for kernel in compiled[case.name] if kernel["kernel"] == MAIN_KERNEL[case.op])
    is_aligned = case.slices % 16 == 0
    if case.op == "gathered_gemm":
        on_tensor_cores = case.precision != "ieee"
        assert bool(main["wgmma"]) == (on_tensor_cores and target == "sm_90a")
        assert bool(main["mma_sync"]) == (on_tensor_cores and target == "sm_80")
        assert main["async_copy_4"], "weights come by asynchronous copies"
        assert bool(main["async_copy_16"]) == is_aligned, "so do the maps, 16 bytes at a time"
        assert bool(main["load_16"]) == (is_aligned and case.full), "what is added to is read likewise"
        assert not is_aligned or main["store_16"]
    elif case.op not in ("active_rows", "recurrent_scan") and is_aligned:
        assert main["store_16"]
        assert main["load_16"] or case.op == "seed"


@pytest.mark.parametrize("target", TARGETS)
def test_every_case_was_compiled(target: str, compiled: dict[str, list[dict[str, Any]]]) -> None:
    expected = {case.name for case in cases() if case.target == target}
    assert expected == {name for name in compiled if name.startswith(target)}


@pytest.mark.parametrize("target", TARGETS)
def test_two_programs_of_a_full_table_fit(target: str, compiled: dict[str, list[dict[str, Any]]]) -> None:
    """Small tiles are for calls with few programs or rows; more than one must run on a multiprocessor at a time."""
    for case in cases():
        if case.target == target and case.tile and case.tile.rows <= 32 and case.tile.slices <= 128:
            for kernel in compiled[case.name]:
                assert 2 * kernel["reg"] * 32 * case.tile.warps <= 2**16
                assert 2 * (kernel["shared"] + 1024) <= SHARED[target]
