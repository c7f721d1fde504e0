"""Names of layers: the module path where one module is one operator, else path and operator."""

import re
from typing import Any

from torch import fx

_OVERLOAD = re.compile(r"^aten\.|\..*$|^_+")


def operator_name(target: Any) -> str:
    """``aten.max_pool2d.default`` as ``max_pool2d``."""
    text = str(target) if not hasattr(target, "__name__") or "aten" in str(target) else target.__name__
    return _OVERLOAD.sub("", _OVERLOAD.sub("", text))


def module_paths(node: fx.Node) -> list[str]:
    """Module paths around a node, outermost first; a second call of one module reads ``path@1``."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = []
    for key, (path, _) in stack.items():
        if "_empty_nn_module_stack" in key:
            continue
        repeat = re.search(r"@\d+$", key)
        paths.append(path + (repeat.group() if repeat and "@" not in path else ""))
    return paths


def name_nodes(nodes: list[fx.Node]) -> tuple[dict[fx.Node, str], dict[str, fx.Node]]:
    """Give every node a unique name.

    Returns:
        The names, and for every module whose result is one node that node, so that a block can be asked for too.
    """
    paths = {node: module_paths(node) for node in nodes}
    members: dict[str, list[fx.Node]] = {}
    for node in nodes:
        for path in paths[node]:
            members.setdefault(path, []).append(node)
    names: dict[fx.Node, str] = {}
    taken = set(members)
    for node in nodes:
        inner = paths[node][-1] if paths[node] else ""
        if inner and members[inner] == [node]:
            names[node] = inner
            continue
        base = f"{inner}.{operator_name(node.target)}".lstrip(".")
        name, count = base, 0
        while name in taken:
            count += 1
            name = f"{base}_{count}"
        taken.add(name)
        names[node] = name
    results = {}
    for path, inside in members.items():
        group = set(inside)
        leaving = [node for node in inside if any(user not in group for user in node.users)]
        if path and len(leaving) == 1:
            results[path] = leaving[0]
    return names, results
