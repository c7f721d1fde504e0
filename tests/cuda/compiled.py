"""The machine code of the CUDA kernels in the compiled library, as CUDA's own tools print it."""

import re
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.cuda_here import tool

TARGETS = ("sm_80", "sm_90a")


@dataclass
class Kernel:
    """One kernel for one target; registers of a thread, bytes of stack and local memory of a thread (spills lie there),
    bytes of shared memory of a block, and how often each instruction stands in the code, by its full name."""

    registers: int
    stack: int
    local: int
    shared: int
    instructions: Counter[str] = field(default_factory=Counter)

    def count(self, instruction: str) -> int:
        """How many instructions begin with this, as ``LDG.E.128``."""
        return sum(number for name, number in self.instructions.items() if name.startswith(instruction))


def kernels(library: Path) -> dict[tuple[str, str], Kernel]:
    """All kernels of a library by target and name, the name of the body where `run` runs one."""
    found: dict[tuple[str, str], Kernel] = {}
    target, name = "", ""
    for line in _printed("-res-usage", library):
        if match := re.match(r"arch = (\w+)", line):
            target = match[1]
        elif match := re.match(r" ?Function (\w.*):$", line):
            name = plain_name(match[1])
        elif "REG:" in line:
            use = {key: int(value) for key, value in re.findall(r"([A-Z]+):(\d+)", line)}
            found[target, name] = Kernel(use["REG"], use["STACK"], use["LOCAL"], use["SHARED"])
    counted = None
    for line in _printed("-sass", library):
        if match := re.match(r"arch = (\w+)", line):
            target = match[1]
        elif match := re.match(r"\s*Function : (.*)$", line):
            # Of a kernel that several objects contain, the linker keeps one for launches; all are the same.
            counted = found[target, plain_name(match[1])]
            counted.instructions.clear()
        elif counted is not None and (match := re.match(r"\s+/\*\w+\*/\s+(?:@!?U?P\w+ )?([A-Z][\w.]*)", line)):
            counted.instructions[match[1]] += 1
    return found


def plain_name(demangled: str) -> str:
    """``GateBitsBody<float>`` of ``fwdkern::cuda::run<fwdkern::cuda::GateBitsBody<float> >``."""
    name = re.sub(r"fwdkern::cuda::|\(anonymous namespace\)::", "", demangled).replace("> >", ">>")
    match = re.fullmatch(r"run<(.*)>", name)
    return match[1] if match else name


def _printed(option: str, library: Path) -> list[str]:
    dump, filter_ = tool("cuobjdump"), tool("c++filt")
    assert dump and filter_, "tests.cuda_here looks for them"
    text = subprocess.run([dump, option, library], capture_output=True, text=True, check=True).stdout
    return subprocess.run(
        [filter_, "--no-params"], input=text, capture_output=True, text=True, check=True
    ).stdout.splitlines()
