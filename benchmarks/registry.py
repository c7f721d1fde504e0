"""All workloads, and the figures they must reach."""

import functools

import torch

from benchmarks.workload import Goal, Workload
from benchmarks.workloads import classes, gpu, kernel, layers, ops, recurrent, units

_LAYERS = ((64, 32, 192), (256, 14, 192), (512, 14, 96))  # channels, side, slices

WORKLOADS = [
    Workload("digits-units", "Digit reader 64², all units of relu_4", units.of_digits),
    Workload("digits-classes", "Digit reader 64², all 10 class maps", classes.all_of_digits),
    Workload(
        "resnet20-last-block",
        "ResNet-20, CIFAR photograph, all units of the last residual block",
        units.of_resnet_block,
        [Goal("speed-up", 5), Goal("speed-up", 20, "algorithm1")],
    ),
    Workload(
        "resnet20-all-layers",
        "ResNet-20, CIFAR photograph, all units of all 19 ReLUs in one pass",
        layers.of_resnet,
        [Goal("slow-down", 2, "fwdkern, layer3.2 alone")],
    ),
    Workload(
        "squeezenet-features5",
        "SqueezeNet 1.1 224², all 93 312 units of features.5 as 31² windows, streamed",
        units.of_squeezenet_as_windows,
        [Goal("speed-up", 50, "dense batched slices"), Goal("memory", 2 * 2**30)],
    ),
    Workload(
        "squeezenet-1000-classes",
        "SqueezeNet 1.1 224², all 1000 class maps of one photograph",
        classes.all_of_squeezenet,
        [Goal("speed-up", 15, "vmap(vjp)"), Goal("speed-up", 3, "dense batched transposes")],
    ),
    Workload(
        "squeezenet-batch8",
        "SqueezeNet 1.1 224², one class map each for 8 photographs, everything included",
        classes.one_each_of_squeezenet,
        [Goal("speed-up", 1.5, "Captum"), Goal("memory ratio", 0.6, "Captum")],
        memory=("Captum, contiguous", "Captum, channels last"),
    ),
    Workload(
        "squeezenet-side-doubled",
        "SqueezeNet 1.1, all units of features.5 as windows, 448² against 224²",
        units.of_squeezenet_at_two_sizes,
        [Goal("slow-down", 4.5, "fwdkern, 224²"), Goal("working memory ratio", 1.1, "fwdkern, 224²")],
        memory=("fwdkern, 224²",),
    ),
    *(
        Workload(
            f"gathered-gemm-{channels}x{side}x{slices}-density-{density}",
            f"gathered_gemm 3×3, {channels} channels, {side}², {slices} slices, density {density}",
            functools.partial(kernel.gathered_gemm, channels, side, slices, density),
            [Goal("share", 0.75) if density < 1 else Goal("speed-up", 0.8)],
        )
        for density in (0.3, 1.0)
        for channels, side, slices in _LAYERS
    ),
    *(
        workload
        for kind, bound in (("rnn", 10), ("lstm", 5))
        for workload in (
            Workload(
                f"{kind}-last-output",
                f"{kind.upper()}, 256 hidden units, 128 steps, one output of the last step, all tokens × 64 dimensions",
                functools.partial(recurrent.last_output, kind),
                [Goal("speed-up", 5)],
            ),
            Workload(
                f"{kind}-all-units",
                f"{kind.upper()}, 256 hidden units, 128 steps, all units of all steps, all tokens",
                functools.partial(recurrent.all_units, kind),
                [Goal("speed-up", bound)],
            ),
        )
    ),
]

_IN_PRECISION = [
    Goal("speed-up", 5, f"dense batched slices, {precision}", of=f"fwdkern, {precision}")
    for precision in ("tf32", "bf16")
]
_NO_SLOWER = Goal("slow-down", 1, "Triton kernels, tf32", of="CUDA kernels, tf32")

# In order of what matters most: where time runs out, the last ones are left out.
GPU_WORKLOADS = [
    *(
        Workload(
            f"gpu-gathered-gemm-{channels}x{side}x{slices}-density-{density}",
            f"gathered_gemm 3×3 in tf32, {channels} channels, {side}², {slices} slices, density {density}",
            functools.partial(gpu.kernel, channels, side, slices, density, "cuda"),
            [Goal("share", 0.5)],
        )
        for density in (0.15, 0.3, 1.0)
        for channels, side, slices in ((256, 14, 256), (512, 14, 512))
    ),
    Workload(
        "gpu-resnet50-layer3",
        "Shaped as ResNet-50 224², all 200 704 units of layer3, streamed",
        functools.partial(gpu.units, gpu.resnet50_layer3, 224, 512, "cuda"),
        [*_IN_PRECISION, _NO_SLOWER],
    ),
    Workload(
        "gpu-vgg16-block4",
        "Shaped as VGG-16 224², all 401 408 units of block 4, streamed",
        functools.partial(gpu.units, gpu.vgg_block4, 224, 256, "cuda"),
        [*_IN_PRECISION, _NO_SLOWER],
    ),
    Workload(
        "gpu-squeezenet-1000-classes",
        "SqueezeNet 1.1 224², all 1000 class maps of one photograph",
        functools.partial(gpu.classes, "cuda"),
        [Goal("speed-up", 5, "vmap(vjp)"), _NO_SLOWER],
    ),
    Workload(
        "gpu-squeezenet-batch64",
        "SqueezeNet 1.1 224², one class map each for 64 photographs, everything included",
        functools.partial(gpu.one_each, "cuda", 64),
        [
            Goal("speed-up", 1.5, "Captum"),
            Goal("slow-down", 1, "fwdkern, tf32", of="CUDA kernels beside convolutions, tf32"),
        ],
    ),
    Workload(
        "gpu-resnet20-last-block",
        "ResNet-20, CIFAR photograph, all units of the last residual block",
        functools.partial(gpu.resnet20, "cuda"),
        [*_IN_PRECISION, _NO_SLOWER],
    ),
    Workload(
        "gpu-squeezenet-features5",
        "SqueezeNet 1.1 224², all 93 312 units of features.5 as 31² windows, streamed",
        functools.partial(gpu.squeezenet_windows, "cuda"),
        [*_IN_PRECISION, _NO_SLOWER],
    ),
    *(
        Workload(f"gpu-op-{name}", title, build, [Goal("speed-up", 0.7, ops.COPY)])
        for name, title, build in (
            (
                "active-rows",
                "active_rows, 512 channels, 112², density 0.3",
                functools.partial(ops.active_rows, 512, 112, 0.3, "cuda"),
            ),
            (
                "row-combine",
                "row_combine, 131 072 rows of 4 terms, 256 slices, float32",
                functools.partial(ops.row_combine, 131072, 256, 4, torch.float32, "cuda"),
            ),
            (
                "row-combine-bfloat16",
                "row_combine, 131 072 rows of 4 terms, 256 slices, bfloat16",
                functools.partial(ops.row_combine, 131072, 256, 4, torch.bfloat16, "cuda"),
            ),
            ("contract", "contract, 256 targets, 224² pixels", functools.partial(ops.contract, 224**2, 256, 3, "cuda")),
            ("seed", "seed, 3 · 224² rows, 256 slices", functools.partial(ops.seed, 3 * 224**2, 256, "cuda")),
            (
                "row-sums",
                "row_sums, 1000 rows of 3 · 224², added to",
                functools.partial(ops.row_sums, 1000, 3 * 224**2, "cuda"),
            ),
            (
                "gate-maps",
                "gate_maps, 64 maps, 512 channels, 56², density 0.3",
                functools.partial(ops.gate_maps, 64, 512, 56, 0.3, "cuda"),
            ),
        )
    ),
    *(
        Workload(
            f"gpu-op-gathered-gemm-{precision}-{channels}x{side}x{slices}",
            f"gathered_gemm 3×3 in {precision}, {channels} channels, {side}², {slices} slices, backends",
            functools.partial(ops.gathered_gemm, channels, side, slices, 0.3, precision, "cuda"),
            [Goal("share", 0.6)],
        )
        for precision in ("ieee", "tf32", "bf16")
        for channels, side, slices in ((256, 14, 256), (512, 14, 512))
    ),
]


def find(name: str) -> Workload:
    """The workload of that name.

    Raises:
        KeyError: there is none; the message lists all.
    """
    for workload in (*WORKLOADS, *GPU_WORKLOADS):
        if workload.name == name:
            return workload
    raise KeyError(f"no workload is called {name!r}; there are {', '.join(w.name for w in WORKLOADS)}")
