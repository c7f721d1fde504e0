"""Which parts of the package may import which."""

import ast
import graphlib
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "fwdkern").rglob("*.py"))
}
# From the top down: none imports one before it, not even inside a function.
LAYERS = (("cli", "app", "scale"), ("engine",), ("ops",), ("kernels",))


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= inner & FILES.keys() or {node.module}
    return names & FILES.keys()


def test_no_layer_imports_one_above_it() -> None:
    rank = {name: depth for depth, names in enumerate(LAYERS) for name in names}
    wrong, seen = [], set()
    for name, path in FILES.items():
        own = rank.get((name + ".").split(".")[1])
        for other in imported(path) if own is not None else ():
            seen.add(own)
            if rank.get((other + ".").split(".")[1], own) < own:
                wrong.append(f"{name} imports {other}")
    assert not wrong
    assert {0, 1, 2} <= seen  # imports were found


def test_weights_models_and_readers_import_in_one_direction() -> None:
    some = {name for name in FILES if name.startswith(("fwdkern.models", "fwdkern.sentiment", "fwdkern.weights"))}
    graph = {name: imported(FILES[name]) & some for name in some}
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert order.index("fwdkern.weights") < order.index("fwdkern.sentiment.files") < order.index("fwdkern.models")
