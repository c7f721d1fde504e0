"""A fused network described in words."""

import torch

from fwdkern.graph import Network
from fwdkern.ops.backend import serving


def describe(network: Network, device: torch.device) -> str:
    """What fuse swapped, folded and left, one line a layer; and what serves the ops on the device."""
    lines = []
    width = max((len(layer.name) for layer in network.layers), default=0)
    for layer in network.layers:
        how = layer.module or "plain operator"
        rule = layer.rule or "NO RULE: layers behind it cannot be explained"
        shape = "×".join(map(str, layer.shape)) or "scalar"
        lines.append(f"{layer.name:<{width}}  {layer.operator:<24} {shape:<14} {how:<26} {rule}")
    swapped = sum(bool(layer.module) for layer in network.layers)
    missing = [layer.name for layer in network.layers if layer.rule is None]
    batch = "any" if network.batch is None else f"{network.batch} only: the model fixes it"
    summary = [
        f"{len(network.layers)} layers: {swapped} run in drop-in modules, {len(network.layers) - swapped} as plain "
        f"operators; {len(network.absorbed)} layers folded into a neighbour, {network.constants} constants computed "
        "ahead",
        f"batch size: {batch}",
        f"layers without a rule: {', '.join(missing) if missing else 'none'}",
    ]
    return "\n".join([*lines, "", *summary, *_backends(device)])


def _backends(device: torch.device) -> list[str]:
    """Ops that the same backend serves for the same reason share a line."""
    shared: dict[tuple[str, str], list[str]] = {}
    for op, choice in serving(device).items():
        shared.setdefault(choice, []).append(op)
    return [
        f"on {device.type}, backend {name} serves {', '.join(ops)}: {reason}" for (name, reason), ops in shared.items()
    ]
