"""Whether CUDA kernels are built here, and can be looked at."""

import functools
import importlib.util
import os
import shutil
from pathlib import Path


@functools.cache
def missing() -> str | None:
    """What keeps the build from making the kernels, None if nothing.

    The machine is asked, not the library: one that lacks its kernels though nvcc is there must not pass.
    """
    if shutil.which("nvcc") is None:
        return "nvcc is not installed"
    choice = os.environ.get("FWDKERN_CUDA", "")
    return None if choice in ("", "auto", "1") else f"FWDKERN_CUDA is {choice}"


@functools.cache
def unreadable() -> str | None:
    """What keeps tests from reading the machine code for the usual GPUs, None if nothing."""
    if os.environ.get("TORCH_CUDA_ARCH_LIST"):
        return "TORCH_CUDA_ARCH_LIST asks for other GPUs"
    absent = [name for name in ("cuobjdump", "c++filt") if tool(name) is None]
    return missing() or (f"{absent[0]} is not installed" if absent else None)


def tool(name: str) -> str | None:
    """A program's path; triton brings some of CUDA's along."""
    spec = importlib.util.find_spec("triton")
    places = [] if spec is None or spec.origin is None else [Path(spec.origin).parent / "backends" / "nvidia" / "bin"]
    path = os.pathsep.join([os.environ.get("PATH", ""), *map(str, places)])
    return shutil.which(name, path=path)
