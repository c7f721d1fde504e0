"""Peak memory of a run whose size is known."""

import pytest
import torch

from benchmarks import memory
from benchmarks.workload import Contender, Sample
from fwdkern.relevance import Relevance

_MEBIBYTE = 2**18  # floats


@pytest.mark.skipif(not memory._RESET.exists(), reason="this system does not tell a process its peak")
def test_peak_holds_scratch_and_result() -> None:
    def run() -> torch.Tensor:
        scratch = torch.ones(192 * _MEBIBYTE)
        return torch.ones(64 * _MEBIBYTE) + scratch.sum()

    contender = Contender("c", "own", {"": run}, lambda maps: Sample(maps, maps > 0))
    measured = memory.measure_here(contender, "")
    assert measured.result == 64 * 2**20
    # Two of 64 MiB beside 192 of scratch. Smaller ones might come from pages that the allocator has kept.
    assert 310 * 2**20 < measured.peak < 340 * 2**20


@pytest.mark.skipif(not memory._RESET.exists(), reason="this system does not tell a process its peak")
def test_in_a_process_of_its_own() -> None:
    measured = memory.measure("digits-classes", "fwdkern", "")
    assert measured is not None
    assert measured.result >= 10 * 64 * 64 * 4
    assert measured.peak >= 10 * 64 * 64 * 4


def test_a_failing_child_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="'nobody' failed"):
        memory.measure("digits-classes", "nobody", "")


def test_bytes_of_results() -> None:
    maps = torch.zeros(1, 2, 3, 3)
    result = Relevance(maps, torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(2, 1), "layer", "pixels", "forward")
    assert memory.result_bytes({"a": result, "b": [maps, (maps,)], "c": 1}) == 4 * (18 + 2 + 2 + 2) + 2 * 4 * 18
