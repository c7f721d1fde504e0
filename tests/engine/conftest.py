"""The planner's measurements go to a folder of the test run, never to the user's cache."""

from pathlib import Path

import pytest

from fwdkern.engine import calibration
from fwdkern.ops import native


@pytest.fixture(scope="session")
def calibration_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("calibration")


@pytest.fixture(autouse=True)
def own_calibration(calibration_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "cache_file", lambda: calibration_folder / "calibration.json")


@pytest.fixture
def native_library() -> object:
    library, reason = native.load()
    if library is None:
        pytest.skip(f"compiled library: {reason}")
    return library


@pytest.fixture(params=native.ISA_NAMES)
def isa(request: pytest.FixtureRequest, native_library: object, monkeypatch: pytest.MonkeyPatch) -> str:
    if native.ISA_NAMES.index(request.param) > native_library.available_isa():  # type: ignore[attr-defined]
        pytest.skip(f"this machine does not run {request.param}")
    monkeypatch.setenv("FWDKERN_CPU_ISA", request.param)
    return request.param
