"""Algorithm 1 of the thesis to the letter: one convolution a slice, transposes before and after."""

import copy
import functools
import operator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse

from benchmarks.rivals.parts import over_slices
from benchmarks.units import UnitMaps
from benchmarks.workload import Contender
from fwdkern.algorithm1 import convolution, max_pool, switch


def algorithm1(problem: UnitMaps, pixels: range) -> Contender:
    """The literal loop, with batch norm folded beforehand, on some pixels."""
    variants = {"": functools.partial(run, problem.front, problem.x, pixels)}
    return over_slices("algorithm1", problem, pixels, variants)


class _State(NamedTuple):
    values: Tensor  # [1, C, H', W']
    maps: Tensor  # [C, H', W', 1, slices]


@torch.no_grad()
def run(front: nn.Module, x: Tensor, pixels: range) -> Tensor:
    """[slices, units], maps without bias."""
    chosen = torch.arange(pixels.start, pixels.stop)
    maps = x.new_zeros(*x.shape[1:], 1, len(chosen))  # [C, H, W, 1, slices]
    flat = maps.flatten(1, 2).flatten(2)  # [C, H·W, slices]
    flat[:, chosen, torch.arange(len(chosen))] = x[0].flatten(1)[:, chosen]
    return _Loop(front).run(_State(x, maps)).maps.flatten(0, 2).flatten(1).T


class _Loop(fx.Interpreter):
    def __init__(self, front: nn.Module) -> None:
        super().__init__(fuse(fx.symbolic_trace(front)))
        self.linear: dict[str, nn.Conv2d] = {}
        for name, module in self.module.named_modules():
            if isinstance(module, nn.Conv2d):
                self.linear[name] = copy.copy(module)
                self.linear[name]._parameters = {**module._parameters, "bias": None}

    def run_node(self, n: fx.Node) -> Any:
        arguments = fx.node.map_arg(n.args, lambda node: self.env[node])
        module = self.module.get_submodule(str(n.target)) if n.op == "call_module" else None
        if isinstance(module, nn.ReLU) or n.target is F.relu:
            values = arguments[0].values.relu()
            return _State(values, switch(arguments[0].maps, values[0]))
        match module:
            case nn.Conv2d():
                maps = convolution(self.linear[str(n.target)], arguments[0].maps)
                return _State(module(arguments[0].values), maps)
            case nn.MaxPool2d():
                values = arguments[0].values
                return _State(module(values), max_pool(module, arguments[0].maps, values[0]))
        if n.op == "call_function":
            return _by_function(n.target, arguments, n.kwargs)
        return super().run_node(n)


def _by_function(function: object, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> _State:
    """What is done to the values [1, C, H', W'], done to the maps [C, H', W', 1, slices] as well."""
    match function:
        case operator.add | operator.iadd:
            return _State(*(mine + other for mine, other in zip(*arguments, strict=True)))
        case torch.cat:
            states = arguments[0]
            return _State(torch.cat([s.values for s in states], 1), torch.cat([s.maps for s in states], 0))
        case operator.getitem:
            state, index = arguments
            return _State(state.values[index], state.maps[index[1:]])
    if function is F.pad:
        state, amounts = arguments
        return _State(F.pad(state.values, amounts), F.pad(state.maps, (0, 0, 0, 0, *amounts)))
    raise NotImplementedError(f"algorithm1 as a rival knows no equation for {function}")
