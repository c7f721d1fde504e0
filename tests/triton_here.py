"""Whether Triton kernels can be tested here."""

import functools
import importlib.metadata


@functools.cache
def missing(interpreter: bool) -> str | None:
    """What keeps Triton's compiler, or its interpreter, from running, None if nothing does."""
    try:
        triton = importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        return "triton is not installed"
    numpy = importlib.metadata.version("numpy")
    if interpreter and _release(triton) < (3, 7) and _release(numpy) >= (2, 4):
        return f"the interpreter of triton {triton} fails with numpy {numpy}; it needs numpy before 2.4"
    return None


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])
