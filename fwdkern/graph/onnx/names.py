"""Names of layers from what exporters leave in a file: module paths where there are any."""

import re
from typing import Any

_LONGEST = 200


def name_nodes(nodes: list[Any]) -> list[str]:
    """A dotted path for every node: its module's where the module is one node, else the module's and the operator."""
    scopes = [_scope(node) for node in nodes]
    prefixes: dict[str, int] = {}
    for scope in scopes:
        parts = scope.split(".")
        for end in range(1, len(parts) + 1):
            prefix = ".".join(parts[:end])
            prefixes[prefix] = prefixes.get(prefix, 0) + 1
    taken = set(prefixes)
    counts: dict[str, int] = {}
    names = []
    for node, scope in zip(nodes, scopes, strict=True):
        if scope and prefixes[scope] == 1:
            names.append(scope)
            continue
        base = f"{scope}.{_snake(node.op_type)}".lstrip(".")
        name = base
        while name in taken:
            counts[base] = counts.get(base, 0) + 1
            name = f"{base}_{counts[base]}"
        taken.add(name)
        names.append(name)
    return names


def _scope(node: Any) -> str:
    """Path of the module that the node comes from, "" where nothing says so."""
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes" and isinstance(entry.value, str):
            found = re.findall(r"'([^']*)'", entry.value[: 20 * _LONGEST])
            return _clean(found[-2]) if len(found) > 1 else ""
    # TensorFlow Lite's converter joins the names of what became one node.
    parts = [part for part in node.name[: 10 * _LONGEST].split(";")[0].split("/") if part]
    generic = re.compile(rf"(node_)?_?{re.escape(node.op_type)}(_\d+)?$", re.IGNORECASE)
    if parts and (generic.match(parts[-1]) or parts[-1].startswith("node_")):
        parts.pop()
    path: list[str] = []
    for part in parts:
        # Torch writes the children of a container by their whole path: /layer1/layer1.0/conv1/Conv
        if path and part.startswith(path[-1] + "."):
            path.pop()
        path.append(part)
    return _clean(".".join(path))


def _clean(path: str) -> str:
    parts = [re.sub(r"\W", "_", part, flags=re.ASCII) for part in path[:_LONGEST].split(".") if part]
    return ".".join(part + "_" if part.startswith("_") else part for part in parts)


def _snake(kind: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind).lower()
