"""Every CUDA kernel in the compiled library: what it takes of a GPU, and the instructions that it was written for."""

import re
from itertools import product
from pathlib import Path

import pytest

from fwdkern.ops import native
from fwdkern.ops.gathered_gemm import PRECISIONS
from tests import cuda_here
from tests.cuda.compiled import TARGETS, Kernel, kernels, plain_name

TYPES = ("float", "Bfloat16", "Float16")
WORDS = ("unsigned int", "unsigned short")
# Each name of a body, and what fills its brackets.
BODIES = {
    "CountRowsBody": [()],
    "ContractBody": product(TYPES, ("true", "false")),
    "GateBitsBody": [(each,) for each in ("unsigned char", *TYPES)],
    "GateMapsBody": product(WORDS, ("true", "false")),
    "ListRowsBody": [()],
    "MaxPoolBody": product(TYPES, ("true", "false")),
    "MaxUnpoolBody": product(TYPES, ("true", "false")),
    "Probe": [()],
    "RowCombineBody": product(TYPES, ("true", "false")),
    "RowSumsBody": [("true",), ("false",)],
    "SeedBody": [("true",), ("false",)],
    "SumRowsBody": [()],
}
KERNELS = [f"{name}<{', '.join(each)}>" if each else name for name, brackets in BODIES.items() for each in brackets]
# Bytes that a block may have without asking for more. Of the shared memory of sm_90 the system takes 1 KiB of a block.
SHARED = 48 * 1024
# Blocks have 256 threads: four of them fill half of a multiprocessor's 2048 with 65536 registers.
REGISTERS = 64


@pytest.fixture(scope="module")
def compiled() -> dict[tuple[str, str], Kernel]:
    """What is in the library, by target and name."""
    missing = cuda_here.unreadable()
    if missing:
        pytest.skip(missing)
    library, reason = native.load()
    assert library is not None, reason
    assert hasattr(library, "cuda"), "nvcc is there, and the library was built without it"
    return kernels(Path(library.__file__))


@pytest.mark.parametrize("cuda_target", TARGETS)
def test_all_kernels_are_there(cuda_target: str, compiled: dict[tuple[str, str], Kernel]) -> None:
    there = {name for target, name in compiled if target == cuda_target}
    assert set(KERNELS) <= there
    assert {name for name in there if not name.startswith(("gemm_kernel", "ListTerms"))} == set(KERNELS)


@pytest.mark.parametrize("cuda_target", TARGETS)
def test_nothing_spills(cuda_target: str, compiled: dict[tuple[str, str], Kernel]) -> None:
    for (target, name), kernel in compiled.items():
        if target == cuda_target:
            assert kernel.stack == kernel.local == 0, f"{name} has a stack"
            assert kernel.count("LDL") == kernel.count("STL") == 0, f"{name} spills registers"
            assert kernel.instructions, name


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("cuda_target", TARGETS)
def test_half_of_a_multiprocessor_is_filled(
    cuda_target: str, name: str, compiled: dict[tuple[str, str], Kernel]
) -> None:
    kernel = compiled[cuda_target, name]
    assert kernel.registers <= REGISTERS
    assert kernel.shared <= SHARED


@pytest.mark.parametrize("name", [name for name in KERNELS if "true" in name])
@pytest.mark.parametrize("cuda_target", TARGETS)
def test_aligned_maps_move_16_bytes_at_a_time(
    cuda_target: str, name: str, compiled: dict[tuple[str, str], Kernel]
) -> None:
    kernel = compiled[cuda_target, name]
    wide = (
        "<float" in name or "unsigned int" in name or "RowSums" in name
    )  # eight elements of four bytes are two accesses
    if name.startswith(("RowCombine", "Contract")):
        assert kernel.count("LDG.E.128") >= 4, "of several rows at once"
    elif not name.startswith("Seed"):
        assert kernel.count("LDG.E.128") >= (2 if wide else 1)
    if not name.startswith("Contract"):  # which writes lines of slices, an element a thread
        # Of the two wide stores of RowSums nvcc takes one apart.
        assert kernel.count("STG.E.128") >= (2 if wide and not name.startswith("RowSums") else 1)


@pytest.mark.parametrize("cuda_target", TARGETS)
def test_bits_are_packed_by_ballots_and_counted_in_hardware(
    cuda_target: str, compiled: dict[tuple[str, str], Kernel]
) -> None:
    for name in KERNELS:
        kernel = compiled[cuda_target, name]
        if name.startswith("GateBits"):
            assert kernel.count("VOTE") >= 32, f"{name}: a warp packs 32 positions"
        if name in ("CountRowsBody", "ListRowsBody"):
            assert kernel.count("POPC")


@pytest.mark.parametrize("cuda_target", TARGETS)
def test_phases_end_in_barriers(cuda_target: str, compiled: dict[tuple[str, str], Kernel]) -> None:
    for name in KERNELS:
        if name.startswith(("Contract", "CountRows", "RowSums", "SumRows")):
            assert compiled[cuda_target, name].count("BAR.SYNC") >= 2


@pytest.mark.parametrize("cuda_target", TARGETS)
def test_products(cuda_target: str, compiled: dict[tuple[str, str], Kernel]) -> None:
    """Of gathered_gemm: on tensor cores by the newest instruction of each target, but for `ieee`; fed by asynchronous
    copies; with at most 128 registers, so that 512 threads are on a multiprocessor."""
    instruction, other = ("HGMMA", "HMMA") if cuda_target == "sm_90a" else ("HMMA", "HGMMA")
    seen = set()
    for (target, name), kernel in compiled.items():
        match = re.fullmatch(r"gemm_kernel<GemmTile<\(Precision\)(\d), (\w+), (\d+), (\d+), (\d+)>>", name)
        if target != cuda_target or match is None:
            continue
        precision, rows = PRECISIONS[int(match[1])], int(match[4])
        seen.add((precision, match[2]))
        assert bool(kernel.count(instruction)) == (precision != "ieee"), name
        assert not kernel.count(other), name
        assert kernel.count("FFMA") >= 128 or precision != "ieee", "8 slices by 4 rows, and four terms unrolled"
        assert kernel.count("LDGSTS.E.BYPASS.LTC128B.128") + kernel.count("LDGSTS.E.BYPASS.128"), name
        assert kernel.count("STG.E.128") and kernel.count("LDG.E.128"), name
        by_element = kernel.count("LDG.E.U16") if precision == "bf16" else kernel.instructions["LDGSTS.E"]
        assert by_element >= 4, "weights, which no wider access can gather"
        assert kernel.registers <= 128, name
        if precision != "ieee" and cuda_target == "sm_90a":
            # The four of a step go on while the next copies are asked for, and are waited for once.
            assert kernel.count("HGMMA") == 4, name
            assert kernel.count("WARPGROUP.ARRIVE") == kernel.count("WARPGROUP.DEPBAR") == 1, name
        elif precision != "ieee":
            assert kernel.count("HMMA") == 4 * rows // 8 and kernel.count("LDSM") >= 4 * rows // 16, name
    assert seen == {(precision, each) for precision in PRECISIONS for each in TYPES} - {("bf16", "Float16")}


def test_names() -> None:
    body = "fwdkern::cuda::run<fwdkern::cuda::ContractBody<fwdkern::cuda::Float16, true> >"
    assert plain_name(body) == "ContractBody<Float16, true>"
    assert plain_name("fwdkern::cuda::(anonymous namespace)::other<float>") == "other<float>"
