"""Local functions of a file, put in place of their calls."""

from typing import Any

from fwdkern.errors import InputError


def inline(model: Any, most: int) -> Any:
    """The model without local functions.

    Raises InputError for functions that call themselves, and where more than `most` nodes would come out.
    """
    if not model.functions:
        return model
    import onnx.inliner

    _refuse_explosion(model, most)
    try:
        flat = onnx.inliner.inline_local_functions(model)
    except Exception as error:
        raise InputError(f"the local functions of the file cannot be put in place: {str(error)[:300]}") from error
    # Those written for other opsets than the model's stay behind; calls of them are unknown operators from here on.
    del flat.functions[:]
    return flat


def _refuse_explosion(model: Any, most: int) -> None:
    bodies = {(function.domain, function.name): function.node for function in model.functions}
    if len(bodies) != len(model.functions):
        raise InputError("the file holds two local functions of one name")
    callees = {key: [(n.domain, n.op_type) for n in nodes] for key, nodes in bodies.items()}
    sizes: dict[Any, int] = {}
    open_calls = {key: {c for c in calls if c in bodies} for key, calls in callees.items()}
    while len(sizes) < len(bodies):
        ready = [key for key, needs in open_calls.items() if key not in sizes and needs <= sizes.keys()]
        if not ready:
            raise InputError("a local function of the file calls itself")
        for key in ready:
            sizes[key] = min(sum(sizes.get(callee, 1) for callee in callees[key]), most + 1)
    if sum(sizes.get((n.domain, n.op_type), 1) for n in model.graph.node) > most:
        raise InputError(f"the file has over {most} nodes once its local functions are put in place")
