"""Ray: a cluster of our own on this machine, or one that is there, and the stages of a run on it."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from fwdkern.errors import FwdkernError, InputError
from fwdkern.scale.packages import need
from fwdkern.scale.shards import Compute, Decode, Recipe, Row, Write

# Shares of a core that Ray sets aside: reading waits for the disk, writing even more so.
_DECODER, _WRITER = 0.5, 0.25
_OBJECT_STORE = 2**30


class Cluster:
    """Where a run computes. Use it with `with`; a cluster that was there before stays.

    Args:
        address: of a Ray cluster; None for one of our own, unless this process has joined one already.
        device: ``"cpu"`` or ``"cuda"``; workers: how many processes compute, None for one a GPU or a core.
    """

    def __init__(self, address: str | None, device: str, workers: int | None) -> None:
        kind = torch.device(device).type
        if kind not in ("cpu", "cuda"):
            raise InputError(f"device={device!r}: work at scale runs on cpu or cuda.")
        if workers is not None and workers < 1:
            raise InputError(f"workers={workers} must be at least 1")
        if address is None:
            # Ray would otherwise listen to the network, for other machines to join. It reads this when imported; the
            # name notwithstanding it counts everywhere.
            os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        self._ray, self._address, self._gpu, self._asked = need("ray"), address, kind == "cuda", workers
        need("ray.data")
        self._own = False
        self.place = "cuda:0" if self._gpu else "cpu"  # Ray shows each worker its own GPU only
        self.workers = workers or 0

    @property
    def threads(self) -> int:
        """Of each worker on this machine, by default."""
        if self._gpu or self._address is not None:
            return 1
        return max(1, _cores() // (self._asked or _cores()))

    def __enter__(self) -> "Cluster":
        if not self._ray.is_initialized():
            self._join()
            self._own = True
        try:
            self._count()
        except InputError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._own:
            self._ray.shutdown()

    def _join(self) -> None:
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        try:
            with _silent():
                if self._address is None:
                    self._start(quiet)
                else:
                    self._ray.init(address=self._address, **quiet)
        except Exception as error:  # Ray raises whatever comes; a node that starts too slowly is a bare Exception
            self._ray.shutdown()
            where = "start on this machine" if self._address is None else f"be reached at {self._address}"
            raise FwdkernError(f"Ray cannot {where} ({error}). Is the machine too busy?") from error

    def _count(self) -> None:
        """Settle the number of workers, and see that there is room for them."""
        there = self._ray.cluster_resources()
        if not self.workers:
            self.workers = int(there.get("GPU", 0)) if self._gpu else max(1, int(there.get("CPU", 1) * 4 / 5))
        if self._gpu and there.get("GPU", 0) < max(self.workers, 1):
            raise InputError(
                f"Ray knows {there.get('GPU', 0):g} GPUs, but {self.workers or 'the'} workers want one each."
            )
        if not self._gpu and there.get("CPU", 0) < self.workers + _DECODER + _WRITER:
            raise InputError(
                f"Ray has {there.get('CPU', 0):g} cores to give; {self.workers} workers need one each, and one more "
                "for reading and writing: give fewer --workers."
            )

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """A function's result on a worker of the kind that computes."""
        remote = self._ray.remote(num_cpus=0 if self._gpu else 1, num_gpus=int(self._gpu))(function)
        return self._ray.get(remote.remote(*arguments))

    def stream(self, rows: Sequence[Row], recipe: Recipe, model: nn.Module, write: Write) -> Iterator[Row]:
        """Send shards through the stages; they come back as they are written, in any order."""
        if not rows:
            return
        ray = self._ray
        self._quieten()
        shared = ray.put(model)
        stages = (
            ray.data.from_items(list(rows), override_num_blocks=len(rows))
            .map_batches(Decode(recipe).__call__, batch_size=None, batch_format="numpy", num_cpus=_DECODER)
            .map_batches(
                Compute,
                fn_constructor_args=(recipe, _Fetch(shared)),
                batch_size=None,
                batch_format="numpy",
                compute=ray.data.ActorPoolStrategy(size=self.workers),
                num_cpus=0 if self._gpu else 1,
                num_gpus=int(self._gpu),
            )
            .map_batches(write.__call__, batch_size=None, batch_format="numpy", num_cpus=_WRITER)
        )
        try:
            yield from stages.iter_rows()
        except ray.exceptions.RayError as error:
            raise FwdkernError(str(error).strip().splitlines()[-1]) from error

    def _start(self, quiet: dict[str, Any]) -> None:
        workers = self._asked or (torch.cuda.device_count() if self._gpu else _cores())
        self.workers = workers
        self._ray.init(
            address="local",
            num_cpus=2 * max(workers, 1),  # as many again for reading and writing
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE,
            **quiet,
        )

    def _quieten(self) -> None:
        context = self._ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        for name in ("ray", "ray.data"):
            logging.getLogger(name).setLevel(logging.ERROR)


class _Fetch:
    """A model on the cluster, loaded where this is called."""

    def __init__(self, reference: Any) -> None:
        self._reference = reference

    def __call__(self) -> nn.Module:
        model: nn.Module = need("ray").get(self._reference)
        return model


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Ray's C++ half told to be quiet, and kept from saying that it was told so.."""
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _cores() -> int:
    return len(os.sched_getaffinity(0))
