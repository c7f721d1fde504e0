"""The same function of one tensor, recorded as a CUDA graph or compiled."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from benchmarks.workload import Unavailable

Function = Callable[[Tensor], Tensor]
# Seconds that torch.compile may take for one contender.
COMPILE_SECONDS = 45.0


def recorded(function: Function) -> Function:
    """A CUDA graph for each shape, recorded at the first call with it. Results are copies.

    Raises, when called:
        Unavailable: there is no GPU, or the function cannot be recorded.
    """
    known: dict[torch.Size, tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = {}

    def run(x: Tensor) -> Tensor:
        if x.shape not in known:
            known[x.shape] = _record(function, x)
        graph, inputs, output = known[x.shape]
        inputs.copy_(x)
        graph.replay()
        return output.clone()

    return run


def _record(function: Function, x: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor, Tensor]:
    if not x.is_cuda:
        raise Unavailable("CUDA graphs need a GPU")
    inputs, graph = x.clone(), torch.cuda.CUDAGraph()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    try:
        with torch.cuda.stream(stream):
            function(inputs)
        with torch.cuda.graph(graph, stream=stream):
            output = function(inputs)
    except RuntimeError as error:
        raise Unavailable(f"no CUDA graph: {str(error).splitlines()[0]}") from None
    torch.cuda.current_stream().wait_stream(stream)
    return graph, inputs, output


def compiled(function: Function, seconds: float | None = None) -> Function:
    """torch.compile of the operators that the first call runs.

    Raises, when called first:
        Unavailable: it failed, or took longer than ``seconds`` (COMPILE_SECONDS).
    """
    ready: list[Function] = []

    def run(x: Tensor) -> Tensor:
        if ready:
            return ready[0](x)
        limit = COMPILE_SECONDS if seconds is None else seconds
        try:
            with within(limit):
                made = torch.compile(make_fx(function)(x))
                result = made(x)
        except TimeoutError:
            raise Unavailable(f"torch.compile took more than {limit:.0f} s") from None
        except Exception as error:  # whatever its stages raise
            first = (str(error).strip().splitlines() or [""])[0]
            raise Unavailable(f"torch.compile failed, {type(error).__name__}: {first[:120]}") from None
        ready.append(made)
        return result

    return run


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in the main thread when the time is over."""

    def over(number: int, frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
