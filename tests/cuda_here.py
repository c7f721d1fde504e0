"""Whether the CUDA kernels in the compiled library can be looked at here."""

import functools
import importlib.util
import os
import shutil
from pathlib import Path


@functools.cache
def missing() -> str | None:
    """What keeps the build from making the kernels for the usual GPUs, or the tests from reading them; None if nothing.

    The machine is asked, not the library: one that lacks its kernels though nvcc is there must not pass.
    """
    if shutil.which("nvcc") is None:
        return "nvcc is not installed"
    for name in ("FWDKERN_CUDA", "TORCH_CUDA_ARCH_LIST"):
        value = os.environ.get(name, "")
        if value not in ("", "auto", "1"):
            return f"{name} is {value}"
    for name in ("cuobjdump", "c++filt"):
        if tool(name) is None:
            return f"{name} is not installed"
    return None


def tool(name: str) -> str | None:
    """A program's path; triton brings some of CUDA's along."""
    spec = importlib.util.find_spec("triton")
    places = [] if spec is None or spec.origin is None else [Path(spec.origin).parent / "backends" / "nvidia" / "bin"]
    path = os.pathsep.join([os.environ.get("PATH", ""), *map(str, places)])
    return shutil.which(name, path=path)
