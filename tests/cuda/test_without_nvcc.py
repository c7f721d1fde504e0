"""The library's binding where there is no nvcc, compiled as such also where there is one."""

import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "csrc"


def test_binding_compiles() -> None:
    pybind11 = pytest.importorskip("pybind11")
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("c++ is not installed")
    folders = (str(SOURCES / "include"), pybind11.get_include(), sysconfig.get_paths()["include"])
    command = [compiler, "-std=c++17", "-fsyntax-only", "-Wall", "-Wextra", "-Werror"]
    command += [f"-I{folder}" for folder in folders]
    run = subprocess.run([*command, SOURCES / "python" / "cuda.cpp"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-4000:]
