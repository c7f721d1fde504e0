"""An nvcc that fails costs the CUDA kernels, not the library, and the library says what happened."""

import distutils.core as build_tools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def broken_nvcc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """First on the path."""
    nvcc = tmp_path / "bin" / "nvcc"
    nvcc.parent.mkdir()
    nvcc.write_text("#!/bin/sh\nexit 1\n")
    nvcc.chmod(0o755)
    monkeypatch.setenv(
        "PATH", os.pathsep.join([str(nvcc.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
    )
    monkeypatch.delenv("CUDACXX", raising=False)


def configure(build: Path, cuda: str) -> subprocess.CompletedProcess[str]:
    pybind11 = pytest.importorskip("pybind11")
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    options = {
        "FWDKERN_CUDA": cuda,
        "FWDKERN_PYTHON": "ON",
        "FWDKERN_TESTS": "OFF",
        "Python_EXECUTABLE": sys.executable,
        "pybind11_DIR": pybind11.get_cmake_dir(),
    }
    command = ["cmake", "-S", str(ROOT), "-B", str(build), *(f"-D{name}={value}" for name, value in options.items())]
    return subprocess.run(command, capture_output=True, text=True)


def test_cmake_goes_on_without(broken_nvcc: None, tmp_path: Path) -> None:
    done = configure(tmp_path, "auto")
    assert done.returncode == 0, done.stderr
    commands = (tmp_path / "compile_commands.json").read_text()
    assert ".cu" not in commands and "module.cpp" in commands
    assert "nvcc does not work here" in commands, "the module tells why"
    done = configure(tmp_path, "1")
    assert done.returncode != 0 and "FWDKERN_CUDA=1, but nvcc does not work here" in done.stderr


@pytest.mark.parametrize("compiles", ["nothing", "without CUDA"])
def test_setup_tries_again_without(compiles: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nvcc passes CMake's test and fails on the sources."""
    pytest.importorskip("pybind11")
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("FWDKERN_CUDA", raising=False)
    monkeypatch.delenv("FWDKERN_REQUIRE_NATIVE", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    distribution = build_tools.run_setup("setup.py", ["--quiet"], stop_after="init")
    command = distribution.get_command_obj("build_ext")
    command.ensure_finalized()
    command.build_lib, command.build_temp, command.inplace = str(tmp_path), str(tmp_path / "temporary"), False
    tried: list[list[str]] = []

    def run(options: list[str], build: list[str]) -> str | None:
        tried.append([option for option in options if "_CUDA" in option])
        if compiles == "nothing" or "-DFWDKERN_CUDA=0" not in options:
            return "the C++ or CUDA sources did not compile"
        (tmp_path / command.get_ext_filename("fwdkern._native")).touch()
        return None

    monkeypatch.setattr(type(command), "_run", staticmethod(run))
    command.build_extension(distribution.ext_modules[0])
    assert tried == [
        ["-DFWDKERN_CUDA=auto", "-UFWDKERN_NO_CUDA"],
        ["-DFWDKERN_CUDA=0", "-DFWDKERN_NO_CUDA=nvcc did not compile the sources"],
    ]
    notice = tmp_path / "fwdkern" / "_native_failure.txt"
    assert notice.exists() == (compiles == "nothing")
    monkeypatch.setenv("FWDKERN_CUDA", "1")
    with pytest.raises(Exception, match="did not compile"):  # who asks for CUDA by name wants it
        command.build_extension(distribution.ext_modules[0])
    assert tried[2:] == [["-DFWDKERN_CUDA=1", "-UFWDKERN_NO_CUDA"]]
