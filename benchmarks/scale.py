"""How much of the bare engine's throughput `fwdkern batch` keeps, and what each stage costs.

    python -m benchmarks.scale                                  # 1024 JPEGs through SqueezeNet
    python -m benchmarks.scale --network digits --images 10000  # many small pictures; memory over the run

Bare is the engine on pictures that are decoded already, in one process. A figure is printed only if every map of every
run equals bare's. Rates of runs are those between the first and the last shard, so that starting processes and
capturing the model, which a long run does once, do not count; they are printed beside them.

One worker with a core to itself has its pictures read and its shards written on the others. So it is run once more with
everything held to one core, which is what several workers that fill the machine compare with.
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image
from torch import nn

import fwdkern
from benchmarks import networks
from benchmarks.photographs import imagenet_preprocessing
from fwdkern import scale
from fwdkern.digits import digits_net, examples
from fwdkern.preprocessing import Preprocessing, load_image

_PICTURE = (375, 500)  # the usual size of a photograph of ImageNet


@dataclass(frozen=True)
class Network:
    """A model, what its pictures go through, and how to draw one of them."""

    model: nn.Module
    preprocessing: Preprocessing
    draw: Callable[[int, Path], None]


@dataclass
class Run:
    """One run: images a second once it is under way, seconds before the first shard, seconds an image by stage, and
    the private memory of all processes, each second, in bytes."""

    rate: float
    start: float
    stages: dict[str, float]
    size: float
    memory: list[int] = field(default_factory=list)


def digits() -> Network:
    """The built-in digit reader on 64 × 64 PNG files."""
    canvases = (examples().images[:, 0] * 255).round().byte().numpy()

    def draw(index: int, folder: Path) -> None:
        picture = np.roll(canvases[index % 24], (index // 24 % 64, index // 1536), (0, 1))
        Image.fromarray(picture).save(folder / f"{index:06d}.png")

    return Network(digits_net(), Preprocessing(channels=1, crop=(64, 64)), draw)


def squeezenet() -> Network:
    """SqueezeNet 1.1 on JPEG files of 500 × 375 pixels, made of 100 photographs."""
    preprocessing = imagenet_preprocessing()
    shown = preprocessing.display(networks.imagenet_photos(100)).permute(0, 2, 3, 1)
    photos = [
        Image.fromarray((photo * 255).round().byte().numpy()).resize(_PICTURE[::-1], Image.Resampling.BICUBIC)
        for photo in shown
    ]

    def draw(index: int, folder: Path) -> None:
        moved = np.roll(np.asarray(photos[index % len(photos)]), 31 * (index // len(photos)), (0, 1))
        Image.fromarray(moved).save(folder / f"{index:06d}.jpg", quality=85)

    return Network(networks.squeezenet(), preprocessing, draw)


def bare(network: Network, folder: Path, batch_size: int, threads: int) -> tuple[float, dict[str, np.ndarray]]:
    """Images a second of the engine alone, and its maps by file name."""
    torch.set_num_threads(threads)
    paths = sorted(folder.iterdir())
    net = fwdkern.fuse(network.model, network.preprocessing(load_image(paths[0]))[None])
    maps, seconds, timed = {}, 0.0, 0
    for start in range(0, len(paths), batch_size):
        group = paths[start : start + batch_size]
        inputs = torch.stack([network.preprocessing(load_image(path)) for path in group])
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        begin = time.perf_counter()
        scores = net.attribute(inputs).scores.numpy()
        if start:  # the first batch warms up
            seconds, timed = seconds + time.perf_counter() - begin, timed + len(group)
        maps |= {path.name: scores[i] for i, path in enumerate(group)}
    return timed / seconds, maps


def batch(network: Network, folder: Path, workers: int, arguments: argparse.Namespace, maps: dict) -> Run:
    """One run of the product; raises SystemExit where its maps are not bare's."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "out"
        watch = Watch()
        with watch:
            summary = scale.run(
                [str(folder)],
                out,
                network.model,
                network.preprocessing,
                workers=workers,
                threads=arguments.threads,
                batch_size=arguments.batch_size,
                shard_size=arguments.shard_size,
            )
        check(scale.open(out), maps)
        events = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    shards = [event for event in events if event["event"] == "shard"]
    if len(shards) < 4 * workers:
        raise SystemExit(f"{len(shards)} shards are too few for {workers} workers: give more images")
    # The first shards wait for the process that writes to start, while the next ones are being computed.
    first, last = shards[2 * workers - 1], shards[-1]
    made = sum(event["inputs"] for event in shards[2 * workers :])
    stages = {name: spent / summary.made for name, spent in summary.stages.items()}
    rate = made / (last["time"] - first["time"])
    return Run(rate, first["time"] - events[0]["time"], stages, summary.bytes / summary.made, watch.memory)


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Whatever this process starts meanwhile stays on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def check(results: scale.Results, maps: dict[str, np.ndarray]) -> None:
    """Raise SystemExit unless every map is there, once, and is bare's to the rounding of float16."""
    if results.failures or sorted(results) != sorted(maps):
        raise SystemExit("REFUSED: the run lacks inputs or has others; no figure is printed")
    errors = []
    for key in results:
        expected = maps[key]
        errors.append(np.abs(results[key]["map"] - expected).max() / np.abs(expected).max())
    worst = float(np.max(errors))  # NaN if a map is all zeros, and then no check
    if not worst <= 1e-3:
        raise SystemExit(f"REFUSED: maps differ by {worst:.1e} of their largest entry; no figure is printed")
    print(f"  all {len(maps)} maps are there once and within {worst:.1e} of the bare engine's", file=sys.stderr)


class Watch(threading.Thread):
    """Private memory of this process and all that it started, each second. Use it with `with`."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.memory: list[int] = []
        self._end = threading.Event()

    def run(self) -> None:
        while not self._end.wait(1):
            own = psutil.Process()
            self.memory.append(sum(map(_private, (own, *own.children(recursive=True)))))

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self.join()


def _private(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().uss)
    except psutil.Error:
        return 0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=["squeezenet", "digits"], default="squeezenet")
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--shard-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    network = {"digits": digits, "squeezenet": squeezenet}[arguments.network]()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for index in range(arguments.images):
            network.draw(index, folder)
        alone: list[float] = []
        held: list[Run] = []
        runs: dict[int, list[Run]] = {workers: [] for workers in arguments.workers}
        for _ in range(arguments.rounds):  # interleaved, so that a busy minute hits all of them
            rate, maps = bare(network, folder, arguments.batch_size, arguments.threads)
            alone.append(rate)
            with one_core():
                held.append(batch(network, folder, 1, arguments, maps))
            for workers in runs:
                runs[workers].append(batch(network, folder, workers, arguments, maps))
    print(f"{arguments.images} images, {arguments.network}, {arguments.threads} thread(s) a worker")
    print(f"{'bare engine':24}{statistics.median(alone):8.1f} images/s")
    report("1 worker on one core", held, alone, held)
    for workers, found in runs.items():
        report(f"{workers} worker(s)", found, alone, held)


def report(name: str, runs: list[Run], alone: list[float], held: list[Run]) -> None:
    """Medians over rounds; ratios are taken within rounds."""
    rate = statistics.median(run.rate for run in runs)
    share = statistics.median(run.rate / rate for run, rate in zip(runs, alone, strict=True))
    gain = statistics.median(run.rate / one.rate for run, one in zip(runs, held, strict=True))
    start = statistics.median(run.start for run in runs)
    print(
        f"{name:24}{rate:8.1f} images/s, {share:.2f} of bare, {gain:.2f} of one worker on one core; {start:.1f} s "
        "before its first shards"
    )
    stages = {name: statistics.median(run.stages[name] for run in runs) * 1e3 for name in runs[0].stages}
    print("    " + ", ".join(f"{name} {spent:.3g} ms" for name, spent in stages.items()), end="")
    print(f" an image; {runs[0].size / 1e3:.3g} kB written")
    for run in runs:
        quarter = len(run.memory) // 4
        if quarter:
            early, late = max(run.memory[quarter : 2 * quarter]), max(run.memory[-quarter:])
            print(f"    memory: {early / 2**20:.0f} MiB in the second quarter, {late / 2**20:.0f} in the last")


if __name__ == "__main__":
    main()
