"""Dense batched convolutions with the slices as the batch; gates and pool winners frozen, batch norm folded."""

import functools
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse

from benchmarks.formats import FORMATS
from benchmarks.rivals.faster import compiled, recorded
from benchmarks.rivals.parts import over_slices
from benchmarks.units import UnitMaps
from benchmarks.workload import Contender

Way = Callable[[Callable[[Tensor], Tensor]], Callable[[Tensor], Tensor]]


def dense_slices_on_gpu(
    problem: UnitMaps, pixels: range, chunks: Iterable[int], dtype: torch.dtype, name: str, compiles: bool = True
) -> list[Contender]:
    """The same in channels last and one dtype, what is frozen found in float32: launched operator by operator or as a
    CUDA graph (best of both and of the chunks), and, where it ``compiles``, compiled (the largest chunk)."""
    chunks = list(chunks)
    ways: dict[str, Way] = {"": lambda function: function, ", CUDA graph": recorded}
    variants = {
        f"{chunk} a chunk{label}": _prepared(problem, pixels, chunk, dtype, way)
        for chunk in chunks
        for label, way in ways.items()
    }
    largest = max(chunks)
    contenders = [over_slices(f"dense batched slices, {name}", problem, pixels, variants)]
    if compiles:
        one = {f"{largest} a chunk": _prepared(problem, pixels, largest, dtype, compiled)}
        contenders.append(over_slices(f"dense batched slices, {name}, compiled", problem, pixels, one))
    return contenders


def _prepared(problem: UnitMaps, pixels: range, chunk: int, dtype: torch.dtype, way: Way) -> Callable[[], Tensor]:
    """A run whose first call freezes the network, and records or compiles it."""
    layout = torch.channels_last

    @functools.cache
    def carry() -> Callable[[Tensor], Tensor]:
        return way(FrozenNetwork(problem.front, problem.x, layout).to(dtype).run)

    @torch.no_grad()
    def run() -> Tensor:
        parts = [
            carry()(slices.to(dtype).contiguous(memory_format=layout)) for slices in seeds(problem.x, pixels, chunk)
        ]
        return torch.cat([part.flatten(1).float() for part in parts])

    return run


def dense_slices(problem: UnitMaps, pixels: range, chunks: Iterable[int]) -> Contender:
    """Each chunk of slices goes through all layers at once; best of two memory formats and of the chunks."""
    variants = {
        f"{name}, {chunk} a chunk": functools.partial(run, problem.front, problem.x, pixels, chunk, layout)
        for name, layout in FORMATS.items()
        for chunk in chunks
    }
    return over_slices("dense batched slices", problem, pixels, variants)


@torch.no_grad()
def run(front: nn.Module, x: Tensor, pixels: range, chunk: int, layout: torch.memory_format) -> Tensor:
    """[slices, units]."""
    carry = FrozenNetwork(front, x, layout)
    parts = [carry.run(slices.contiguous(memory_format=layout)) for slices in seeds(x, pixels, chunk)]
    return torch.cat([part.flatten(1) for part in parts])


@torch.no_grad()
def run_all_layers(front: nn.Module, x: Tensor, chunk: int, layout: torch.memory_format) -> list[Tensor]:
    """[slices, units] of every activation, in order of execution."""
    carry = FrozenNetwork(front, x, layout)
    results: list[Tensor] = []
    start = 0
    for slices in seeds(x, range(x.shape[2] * x.shape[3]), chunk):
        carry.kept = []
        carry.run(slices.contiguous(memory_format=layout))
        if not results:
            results = [part.new_empty(x.shape[2] * x.shape[3], part[0].numel()) for part in carry.kept]
        for result, part in zip(results, carry.kept, strict=True):
            result[start : start + len(part)] = part.flatten(1)
        start += len(slices)
    return results


def seeds(x: Tensor, pixels: range, chunk: int) -> Iterable[Tensor]:
    """The input units' maps, transposed: [chunk, C, H, W], slice p is x at pixel p and 0 elsewhere. x: [1, C, H, W]."""
    flat = x[0].flatten(1)  # [C, H·W]
    for start in range(pixels.start, pixels.stop, chunk):
        chosen = torch.arange(start, min(start + chunk, pixels.stop))
        part = x.new_zeros(len(chosen), *flat.shape)
        part[torch.arange(len(chosen)), :, chosen] = flat[:, chosen].T
        yield part.unflatten(2, x.shape[2:])


class FrozenNetwork(fx.Interpreter):
    """A network that is linear in its input: gates and winners are those of x. run: [S, C, H, W] -> [S, *shape].

    ``kept``, where it is a list, collects the output of every ReLU.
    """

    def __init__(self, front: nn.Module, x: Tensor, layout: torch.memory_format) -> None:
        super().__init__(fuse(fx.symbolic_trace(front)).to(memory_format=layout))
        self.frozen: dict[str, Tensor] = {}
        self.recording = True
        self.kept: list[Tensor] | None = None
        self.run(x.contiguous(memory_format=layout))
        self.recording = False

    def to(self, dtype: torch.dtype) -> "FrozenNetwork":
        """In another dtype from here on, with what was frozen before."""
        self.module.to(dtype)
        self.frozen = {
            name: value.to(dtype) if value.is_floating_point() else value for name, value in self.frozen.items()
        }
        return self

    def run_node(self, n: fx.Node) -> Tensor:
        module = self.module.get_submodule(str(n.target)) if n.op == "call_module" else None
        if isinstance(module, nn.ReLU) or n.target is F.relu:
            return self._relu(n)
        match module:
            case nn.MaxPool2d():
                return self._max_pool(n, module)
            case nn.Conv2d() if not self.recording:
                geometry = (module.stride, module.padding, module.dilation, module.groups)
                return F.conv2d(self._parent(n), module.weight, None, *geometry)
            case nn.Linear() if not self.recording:
                return F.linear(self._parent(n), module.weight)
        return super().run_node(n)

    def _parent(self, n: fx.Node) -> Tensor:
        return self.env[n.all_input_nodes[0]]

    def _relu(self, n: fx.Node) -> Tensor:
        x = self._parent(n)
        if self.recording:
            self.frozen[n.name] = (x > 0).to(x.dtype)
        out = x * self.frozen[n.name]
        if self.kept is not None:
            self.kept.append(out)
        return out

    def _max_pool(self, n: fx.Node, pool: nn.MaxPool2d) -> Tensor:
        x = self._parent(n)
        if self.recording:
            geometry = (pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode)
            out, self.frozen[n.name] = F.max_pool2d(x, *geometry, return_indices=True)
            return out
        winners = self.frozen[n.name]  # [1, C, h, w], positions in H·W
        if x.is_contiguous(memory_format=torch.channels_last):
            index = winners[0].flatten(1).T.expand(len(x), -1, -1)  # [S, h·w, C]
            picked = x.permute(0, 2, 3, 1).flatten(1, 2).gather(1, index)
            return picked.unflatten(1, winners.shape[2:]).permute(0, 3, 1, 2)
        return x.flatten(2).gather(2, winners.flatten(2).expand(len(x), -1, -1)).unflatten(2, winners.shape[2:])
