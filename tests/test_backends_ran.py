"""The plugin that fails a run in which a backend was skipped throughout."""

import pytest

from fwdkern.ops.backend import BACKENDS
from fwdkern.ops.native import ISA_NAMES
from tests import backends_ran
from tests.cuda import compiled
from tests.kernels.cases import TARGETS

pytest_plugins = "pytester"

ALL_RUN = f"""
    import pytest

    @pytest.mark.parametrize("backend", {BACKENDS!r})
    def test_backend(backend):
        pass

    @pytest.mark.parametrize("target", {list(TARGETS)!r})
    def test_target(target):
        pass

    @pytest.mark.parametrize("cuda_target", {list(compiled.TARGETS)!r})
    def test_cuda_target(cuda_target):
        pass

    @pytest.fixture(params={ISA_NAMES!r})
    def isa(request):
        return request.param

    @pytest.mark.parametrize("size", [1, 2])
    def test_isa(isa, size):
        pass
"""
SKIPS_ONE = """
    import pytest

    @pytest.mark.parametrize("size", [1, 2])
    @pytest.mark.parametrize("{name}", ["{value}"])
    def test_op({name}, size):
        if size >= {smallest_skipped}:
            pytest.skip("not today")
"""


@pytest.fixture(autouse=True)
def every_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests are about a machine that can run all of them."""
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr("tests.triton_here.missing", lambda interpreter: None)
    monkeypatch.setattr("tests.cuda_here.missing", lambda: None)
    monkeypatch.setattr("tests.cuda_here.unreadable", lambda: None)


def run(pytester: pytest.Pytester) -> pytest.RunResult:
    return pytester.runpytest_inprocess("-p", "tests.backends_ran", "-p", "no:cacheprovider")


def test_passes_when_all_ran(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_all=ALL_RUN)
    result = run(pytester)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.no_fnmatch_line("*backends that did not run*")


CASES = [(name, value) for name, values in backends_ran.known_values().items() for value in values]


@pytest.mark.parametrize("name, value", CASES)
def test_fails_when_one_file_skips_a_backend(pytester: pytest.Pytester, name: str, value: str) -> None:
    pytester.makepyfile(test_all=ALL_RUN, test_op=SKIPS_ONE.format(name=name, value=value, smallest_skipped=1))
    result = run(pytester)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"{name}={value}: all 2 cases in test_op.py were skipped*"])


def test_passes_when_some_cases_ran(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_all=ALL_RUN, test_op=SKIPS_ONE.format(name="backend", value="cpu", smallest_skipped=2))
    assert run(pytester).ret == pytest.ExitCode.OK


def test_passes_when_the_processor_lacks_it(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")
    pytester.makepyfile(test_all=ALL_RUN, test_op=SKIPS_ONE.format(name="isa", value="avx512", smallest_skipped=1))
    assert run(pytester).ret == pytest.ExitCode.OK


def test_passes_without_triton(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.triton_here.missing", lambda interpreter: "triton is not installed")
    pytester.makepyfile(test_all=ALL_RUN, test_op=SKIPS_ONE.format(name="backend", value="triton", smallest_skipped=1))
    assert run(pytester).ret == pytest.ExitCode.OK


@pytest.mark.parametrize("name, value, asked", [("backend", "cuda", "missing"), ("cuda_target", "sm_80", "unreadable")])
def test_passes_without_nvcc(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, name: str, value: str, asked: str
) -> None:
    monkeypatch.setattr(f"tests.cuda_here.{asked}", lambda: "nvcc is not installed")
    skipping = SKIPS_ONE.format(name=name, value=value, smallest_skipped=1)
    pytester.makepyfile(test_all=ALL_RUN, test_op=skipping)
    assert run(pytester).ret == pytest.ExitCode.OK


def test_fails_when_no_test_has_the_parameter(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_op=SKIPS_ONE.format(name="backend", value="torch", smallest_skipped=3))
    result = run(pytester)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["backend=cpu: no test has it as a parameter"])


def test_a_failing_case_has_run(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_all=ALL_RUN.replace("pass", "assert False"))
    result = run(pytester)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.no_fnmatch_line("*backends that did not run*")


@pytest.mark.parametrize(
    "capability, runnable",
    [("DEFAULT", {"scalar"}), ("AVX2", {"scalar", "avx2"}), ("AVX512", {"scalar", "avx2", "avx512"})],
)
def test_could_run_follows_the_processor(monkeypatch: pytest.MonkeyPatch, capability: str, runnable: set[str]) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)
    assert {isa for isa in ISA_NAMES if backends_ran.could_run(("isa", isa))} == runnable
