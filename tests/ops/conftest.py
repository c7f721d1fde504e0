"""Shared by the op tests: the native library must be there unless its absence is stated."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from fwdkern.ops import native


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """OpenMP regions around tiny references take most of the time on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def native_library():
    library, reason = native.load()
    if library is None:
        pytest.skip(f"compiled library: {reason}")
    return library


@contextmanager
def _poisoned() -> Iterator[None]:
    """Fill `torch.empty` results with NaN or the largest integer, so that an unwritten element shows."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic)
        torch.utils.deterministic.fill_uninitialized_memory = fill


@pytest.fixture
def poisoned():
    with _poisoned():
        probe = torch.empty(2)
        assert probe.isnan().all(), "poisoning does not work"
        yield
