"""What this installation can do on this machine."""

import platform
from typing import Any

import torch

from fwdkern.ops import native_info
from fwdkern.ops.backend import triton_obstacle


def info() -> dict[str, Any]:
    """Versions, devices, and for every backend whether it runs here and why.

    Returns:
        ``fwdkern``, ``torch``, ``python``: versions; ``devices``: names; ``native``: the compiled library (built,
        compiler, instruction set); ``backends``: name to one sentence.
    """
    native = native_info()
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    cpu = f"compiled library, {native['isa']} kernels" if native["built"] else f"absent: {native['reason']}"
    return {
        "fwdkern": _version(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "devices": [f"cpu ({torch.get_num_threads()} threads)", *gpus],
        "native": native,
        "backends": {
            "torch": "always there: the reference, any device and float dtype",
            "cpu": cpu,
            "triton": _triton(),
        },
    }


def _triton() -> str:
    if not torch.cuda.is_available():
        return "absent: there is no GPU that torch can use"
    obstacle = triton_obstacle("gathered_gemm", torch.device("cuda"), torch.float32)
    return f"absent: {obstacle}" if obstacle else "Triton kernels on the GPU"


def _version() -> str:
    from fwdkern import __version__

    return __version__
