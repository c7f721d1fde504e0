"""What this installation can do on this machine."""

import platform
from typing import Any

import torch

from fwdkern.ops import native_info
from fwdkern.ops.backend import gpu_obstacle, serving


def info() -> dict[str, Any]:
    """Versions, devices, and for every backend whether it runs here and why.

    Returns:
        ``fwdkern``, ``torch``, ``python``: versions; ``devices``: names; ``native``: the compiled library (built,
        compiler, instruction set, nvcc); ``backends``: name to one sentence; ``ops``: for ``cpu`` and, with a GPU,
        ``cuda`` tensors which backend serves each op unless asked otherwise, and why.
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
            "triton": _on_gpu("triton", "Triton kernels on the GPU"),
            "cuda": _cuda(native),
        },
        "ops": {
            kind: {op: f"{name}, {reason}" for op, (name, reason) in serving(torch.device(kind)).items()}
            for kind in ("cpu", "cuda")
            if kind == "cpu" or gpus
        },
    }


def _on_gpu(backend: str, found: str) -> str:
    if not torch.cuda.is_available():
        return "absent: there is no GPU that torch can use"
    obstacle = gpu_obstacle(backend, "gathered_gemm", torch.device("cuda"), torch.float32)
    return f"absent: {obstacle}" if obstacle else found


def _cuda(native: dict[str, Any]) -> str:
    if native["without_cuda"]:
        return f"absent: {native['without_cuda']}"
    return f"{_on_gpu('cuda', 'CUDA kernels on the GPU')}; compiled by nvcc {native['nvcc']}"


def _version() -> str:
    from fwdkern import __version__

    return __version__
