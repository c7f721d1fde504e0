"""Package build: CMakeLists.txt describes the native library, this file only calls it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
FAILURE_FILE = "_native_failure.txt"
NO_CUDA = "nvcc did not compile the sources"  # as the library tells


class BuildFailure(Exception):
    """The native library was not built; the message is one sentence without paths."""


class CMakeBuild(build_ext):
    def build_extension(self, ext: Extension) -> None:
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        failure_file = target.parent / FAILURE_FILE
        failure_file.unlink(missing_ok=True)
        target.unlink(missing_ok=True)
        try:
            self._cmake(target)
        except BuildFailure as failure:
            # Who asks for CUDA by name wants it, not a package without.
            asked = (os.environ.get("FWDKERN_CUDA") or "auto") not in ("auto", "0")
            if asked or os.environ.get("FWDKERN_REQUIRE_NATIVE") == "1":
                raise
            failure_file.write_text(f"{failure}\n")
            print(
                f"fwdkern: the native library was not built ({failure}); the package works, more slowly.",
                file=sys.stderr,
            )

    def copy_extensions_to_source(self) -> None:
        """Editable installs: the outcome, library or notice, moves beside the sources."""
        for ext in self.extensions:
            built = Path(self.build_lib) / self.get_ext_filename(ext.name)
            source_dir = ROOT / "fwdkern"
            for produced in (built, built.parent / FAILURE_FILE):
                stale = source_dir / produced.name
                stale.unlink(missing_ok=True)
                if produced.exists():
                    shutil.copy2(produced, stale)

    def _cmake(self, target: Path) -> None:
        cmake = shutil.which("cmake")
        if cmake is None:
            raise BuildFailure("cmake was not found")
        try:
            import pybind11
        except ImportError:
            raise BuildFailure("pybind11 is not installed in the build environment") from None
        cuda = os.environ.get("FWDKERN_CUDA") or "auto"
        if cuda not in ("auto", "0", "1"):
            raise BuildFailure(f"FWDKERN_CUDA is {cuda!r}; expected auto, 0 or 1")
        build_dir = Path(self.build_temp).resolve() / "native"
        build_dir.mkdir(parents=True, exist_ok=True)
        configure = [
            cmake, "-S", str(ROOT), "-B", str(build_dir),
            f"-DCMAKE_BUILD_TYPE={'Debug' if self.debug else 'Release'}",
            f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={target.parent}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            "-DFWDKERN_PYTHON=ON",
            "-DFWDKERN_TESTS=OFF",
        ]  # fmt: skip
        if shutil.which("ninja"):
            configure += ["-G", "Ninja"]
        build = [cmake, "--build", str(build_dir), "--parallel"]
        failure = self._run([*configure, f"-DFWDKERN_CUDA={cuda}", "-UFWDKERN_NO_CUDA"], build)
        if failure and cuda == "auto" and os.environ.get("FWDKERN_REQUIRE_NATIVE") != "1":
            # An nvcc that does not get on with the sources must not cost the kernels for CPUs.
            print(f"fwdkern: once more without CUDA ({failure}).", file=sys.stderr)
            failure = self._run([*configure, "-DFWDKERN_CUDA=0", f"-DFWDKERN_NO_CUDA={NO_CUDA}"], build)
        if failure:
            raise BuildFailure(failure)
        if not target.exists():
            raise BuildFailure("the build did not produce the expected library")

    @staticmethod
    def _run(configure: list[str], build: list[str]) -> str | None:
        if subprocess.run(configure).returncode != 0:
            return "cmake found no working C++17 compiler, Python development files or, where asked for, nvcc"
        if subprocess.run(build).returncode != 0:
            return "the C++ or CUDA sources did not compile"
        return None


setup(
    packages=[*find_packages(include=["fwdkern", "fwdkern.*"]), "fwdkern.kernels"],
    # A bare top-level `kernels` would clash with another distribution of that name.
    package_dir={"fwdkern.kernels": "kernels"},
    ext_modules=[Extension("fwdkern._native", sources=[], optional=True)],
    cmdclass={"build_ext": CMakeBuild},
)
