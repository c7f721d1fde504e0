"""A pytest plugin: a run in which a backend was skipped throughout, though this machine could have run it, fails.

Backends, instruction sets and GPU architectures to compile for are test parameters called ``backend``, ``isa``, and
``target`` (of Triton's kernels) or ``cuda_target``. Every value known to the package must have executed in every test
file that has it as a parameter, and in at least one; load with ``-p tests.backends_ran`` for whole runs.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests import cuda_here, triton_here

# What torch calls a processor that can run the instruction set.
CAPABILITIES = {"avx2": ("AVX2", "AVX512"), "avx512": ("AVX512",)}
Case = tuple[str, str]  # parameter and value, as ("isa", "avx2")


def pytest_configure(config: pytest.Config) -> None:
    """Switch the check on."""
    config.pluginmanager.register(Ran(), "fwdkern-backends-ran")


def known_values() -> dict[str, tuple[str, ...]]:
    """The values of each of the parameters."""
    # Imported here because coverage begins to count after the plugins are imported.
    from fwdkern.ops.backend import BACKENDS
    from fwdkern.ops.native import ISA_NAMES
    from tests.cuda import compiled
    from tests.kernels.cases import TARGETS

    return {"backend": BACKENDS, "isa": ISA_NAMES, "target": tuple(TARGETS), "cuda_target": compiled.TARGETS}


def could_run(case: Case) -> bool:
    """Whether this machine can run a case; torch and the packages installed are asked, not our own library."""
    name, value = case
    if name == "cuda_target":
        return cuda_here.unreadable() is None
    if case == ("backend", "cuda"):
        return cuda_here.missing() is None
    if value == "triton" or name == "target":
        return triton_here.missing(interpreter=name == "backend") is None
    if name != "isa" or value not in CAPABILITIES:
        return True
    return torch.backends.cpu.get_cpu_capability() in CAPABILITIES[value]


class Ran:
    """Counts which cases were collected and which of them executed."""

    def __init__(self) -> None:
        self.known = known_values()
        self.collected: Counter[tuple[str, Case]] = Counter()
        self.executed: Counter[tuple[str, Case]] = Counter()
        self.failures: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Iterator[Any]:
        """Note a test's cases in its report, which also reaches a process that only distributes the tests."""
        report = yield
        report.cases = list(self._keys(item))
        return report

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Count a case, and an executed one: its call ended otherwise than by a skip."""
        keys = [(path, (name, value)) for path, (name, value) in report.cases]
        if report.when == "setup":
            self.collected.update(keys)
        elif report.when == "call" and not report.skipped:
            self.executed.update(keys)

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Turn a good run bad where something never executed."""
        if session.config.option.collectonly or hasattr(session.config, "workerinput"):
            return
        self.failures = self.missing()
        if self.failures and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say what never executed."""
        if self.failures:
            terminalreporter.section("backends that did not run", red=True)
            for line in self.failures:
                terminalreporter.line(line)

    def missing(self) -> list[str]:
        """One line for every case that could have executed and did not."""
        known = [(name, value) for name, values in self.known.items() for value in values]
        seen = {case for _, case in self.collected}
        lines = [f"{name}={value}: no test has it as a parameter" for name, value in known if (name, value) not in seen]
        for (path, case), count in sorted(self.collected.items()):
            if could_run(case) and not self.executed[path, case]:
                lines.append(f"{'='.join(case)}: all {count} cases in {path} were skipped, though they could run here")
        return lines

    def _keys(self, item: pytest.Item) -> Iterator[tuple[str, Case]]:
        """File and case of a test, for each of its parameters that counts."""
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        for name, values in self.known.items():
            if parameters.get(name) in values:
                yield item.nodeid.split("::")[0], (name, parameters[name])
