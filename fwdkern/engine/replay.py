"""Few class maps an input, at a fixed shape: everything between input and maps as one static function of tensors, which
a GPU records as a CUDA graph and then replays.

Such a request is some hundred small operators, which Python launches slower than a GPU works them off. A request of a
kind that was not seen before runs as ever, which also warms up what libraries do lazily; the second one is recorded.
What reads the device stays outside: checks of inputs and targets before a replay, that of completeness behind it.

Active rows are not recorded: how many there are, and so what is launched, differs from input to input.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from fwdkern.engine.attribution import Finished, Job, Request
from fwdkern.engine.features import parse_features
from fwdkern.engine.memory import release
from fwdkern.engine.options import Options
from fwdkern.engine.planner import Way
from fwdkern.engine.rounding import rounding
from fwdkern.engine.tape import record
from fwdkern.engine.units import Units, parse_target
from fwdkern.graph import Network
from fwdkern.relevance import Relevance

logger = logging.getLogger("fwdkern")

# Graphs that a network keeps, each with the memory of one pass; the one not used for longest goes first.
KEPT = 4

# From the input and the targets (None for each input's top class) to what Job.static gives.
Static = Callable[[Tensor, Tensor | None], Finished]


class Kind(NamedTuple):
    """What requests must share so that one graph serves them."""

    network: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    channels_last: bool
    targets: int  # of each input, 0 for its top class
    features: str
    bias: str
    precision: str


class Ask(NamedTuple):
    """A request that a graph may serve: its targets are int64 ``[B, K]``, or None for each input's top class."""

    kind: Kind
    network: Network
    x: Tensor
    target: Tensor | None
    options: Options


def class_maps(
    network: Network, layer: str, features: str, options: Options, way: Way, x: Tensor, target: Tensor | None
) -> Finished:
    """The static function: forward pass, targets pulled back, maps and their sums. Reads nothing from the device."""
    with rounding(options.precision, x.device):
        tape = record(network, x, [layer])
        step = tape.find(layer)
        value = tape.steps[step].value
        chosen = value.argmax(1, keepdim=True) if target is None else target
        request = Request(step, Units(tuple(value.shape[1:]), chosen, chosen), layer)
        return Job(network, tape, [request], parse_features(features, x), options).static(way)


def ask(network: Network, layer: str, x: Tensor, target: object, features: object, options: Options) -> Ask | None:
    """The request as a graph would serve it; None where none can.

    Raises:
        InputError: the target does not fit.
    """
    plain = options.backend in ("auto", "torch") and options.mode in ("auto", "reverse") and options.layout == "dense"
    if (
        not plain
        or not _on_gpu(x)
        or network.sequence  # recurrences read on the host where maps begin
        or options.bias == "receptive_field"  # receptive fields are made on the host
        or features not in ("pixels", "channels")
        or isinstance(target, str)
        or torch.is_autocast_enabled(x.device.type)
        or len(network.index[layer].shape) != 1
    ):
        return None
    chosen = None
    if target is not None:
        chosen = parse_target(target, x.new_empty(len(x), *network.index[layer].shape)).index
    kind = Kind(
        id(network),
        tuple(x.shape),
        x.dtype,
        x.device,
        x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last),
        0 if chosen is None else chosen.shape[1],
        str(features),
        options.bias,
        options.precision,
    )
    return Ask(kind, network, x, chosen, options)


class Replays:
    """The graphs of one network. A copy of it begins without any: graphs hold addresses."""

    def __init__(self) -> None:
        # A way: seen once; None: could not be recorded.
        self._known: OrderedDict[Kind, Way | Recorded | None] = OrderedDict()

    def __reduce__(self) -> tuple[type["Replays"], tuple[()]]:
        return Replays, ()

    def clear(self) -> None:
        """Give back what graphs hold."""
        devices = {kind.device for kind in self._known}
        self._known.clear()
        for device in devices:
            release(device)

    def seen(self, asked: Ask, way: Way) -> None:
        """Remember that a request ran the ordinary way; where that was one dense reverse pass, the next is recorded."""
        if asked.kind not in self._known and (way.engine, way.mode, way.passes) == ("dense", "reverse", 1):
            self._known[asked.kind] = way

    def serve(self, asked: Ask, layer: str) -> Finished | None:
        """What a graph computes for a request, None if it has to run the ordinary way."""
        known = self._known.get(asked.kind)
        if isinstance(known, Way):
            if known.bytes > asked.options.memory:
                return None
            function = partial(class_maps, asked.network, layer, asked.kind.features, asked.options, known)
            known = self._known[asked.kind] = self._record(function, asked)
        if known is None:
            return None
        self._known.move_to_end(asked.kind)
        self._trim()
        return known(asked.x, asked.target)

    def _record(self, function: Static, asked: Ask) -> "Recorded | None":
        try:
            return Recorded(function, asked.x, asked.target)
        except RuntimeError as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            logger.warning("requests of shape %s run without a CUDA graph: %s", list(asked.x.shape), reason)
        release(asked.x.device)
        return None

    def _trim(self) -> None:
        recorded = [kind for kind, known in self._known.items() if isinstance(known, Recorded)]
        for kind in recorded[:-KEPT]:
            del self._known[kind]


class Graph(Protocol):
    """A recorded piece of work."""

    def replay(self) -> None:
        """Do it again, with what its inputs now hold."""


class Recorded:
    """A static function with its own inputs, recorded once. Calls on several streams take turns."""

    def __init__(self, function: Static, x: Tensor, target: Tensor | None) -> None:
        with torch.inference_mode(False), torch.no_grad():
            self._x = x.clone()
            self._target = None if target is None else target.clone()
            self._graph, self._output = record_graph(lambda: function(self._x, self._target), x.device)
        self._lock = threading.Lock()
        self._done = torch.cuda.Event()

    def __call__(self, x: Tensor, target: Tensor | None) -> Finished:
        """The function at other values: copies of what it computes."""
        with self._lock, torch.no_grad():
            stream = torch.cuda.current_stream(x.device)
            stream.wait_event(self._done)  # a call on another stream may still read
            self._x.copy_(x)
            if self._target is not None and target is not None:
                self._target.copy_(target)
            self._graph.replay()
            result, sums, magnitude, tolerance = self._output
            copies = Finished(_copied(result), sums.clone(), magnitude.clone(), tolerance)
            self._done.record(stream)
        return copies


def record_graph(run: Callable[[], Finished], device: torch.device) -> tuple[Graph, Finished]:
    """Run once to warm up, then record, on a stream of its own."""
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(device):
        with torch.cuda.stream(stream):
            run()
        # Other threads may go on allocating.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            output = run()
    torch.cuda.current_stream(device).wait_stream(stream)
    return graph, output


def _copied(result: Relevance) -> Relevance:
    copies = {name: value.clone() for name, value in vars(result).items() if isinstance(value, Tensor)}
    return replace(result, **copies)  # type: ignore[arg-type]


def _on_gpu(x: Tensor) -> bool:
    return x.is_cuda
