"""Small calls of every CUDA kernel under NVIDIA's compute-sanitizer."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fwdkern.ops.backend import gpu_obstacle

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("tool", ["memcheck", "racecheck"])
def test_small_cases(tool: str, gpu: torch.device) -> None:
    obstacle = gpu_obstacle("cuda", "row_combine", gpu, torch.float32)
    sanitizer = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
    if obstacle or sanitizer is None:
        pytest.skip(obstacle or "compute-sanitizer is not installed")
    command = [
        sanitizer,
        "--tool",
        tool,
        "--error-exitcode",
        "9",
        sys.executable,
        "-m",
        "tests.gpu.small_cases",
        "cuda",
    ]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, (run.stdout + run.stderr)[-4000:]
