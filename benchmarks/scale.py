"""How much of the bare engine's throughput `fwdkern batch` keeps, and what each stage costs.

    python -m benchmarks.scale                                  # 1024 JPEGs through SqueezeNet
    python -m benchmarks.scale --network digits --images 10000  # many small pictures; memory over the run

Bare is the engine on pictures that are decoded already, in one process. A figure is printed only if every map of every
run equals bare's. Rates of runs are those between the first and the last shard, so that starting processes and
capturing the model, which a long run does once, do not count; they are printed beside them.
"""

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image
from torch import nn

import fwdkern
from fwdkern import scale
from fwdkern.digits import digits_net, examples
from fwdkern.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, load_image

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
    """SqueezeNet 1.1 with random weights on JPEG files of 500 × 375 pixels."""
    from tests.networks.squeezenet import squeezenet1_1

    torch.manual_seed(0)
    preprocessing = Preprocessing(channels=3, resize=256, crop=(224, 224), mean=IMAGENET_MEAN, std=IMAGENET_STD)

    def draw(index: int, folder: Path) -> None:
        random = np.random.default_rng(index)
        coarse = random.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        large = Image.fromarray(coarse).resize(_PICTURE[::-1], Image.Resampling.BICUBIC)
        noisy = np.asarray(large, np.int16) + random.integers(-12, 12, (*_PICTURE, 3), dtype=np.int16)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{index:06d}.jpg", quality=85)

    return Network(squeezenet1_1().eval(), preprocessing, draw)


def bare(network: Network, folder: Path, batch_size: int, threads: int) -> tuple[float, dict[str, np.ndarray]]:
    """Images a second of the engine alone, and its maps by file name."""
    torch.set_num_threads(threads)
    paths = sorted(folder.iterdir())
    net = fwdkern.fuse(network.model, network.preprocessing(load_image(paths[0]))[None])
    maps, seconds, timed = {}, 0.0, 0
    for start in range(0, len(paths), batch_size):
        group = paths[start : start + batch_size]
        inputs = torch.stack([network.preprocessing(load_image(path)) for path in group])
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
    # What is written within the first shards' time was begun before it.
    first, last = shards[workers - 1], shards[-1]
    made = sum(event["inputs"] for event in shards[workers:])
    stages = {name: spent / summary.made for name, spent in summary.stages.items()}
    rate = made / (last["time"] - first["time"])
    return Run(rate, first["time"] - events[0]["time"], stages, summary.bytes / summary.made, watch.memory)


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
        runs: dict[int, list[Run]] = {workers: [] for workers in arguments.workers}
        for _ in range(arguments.rounds):  # interleaved, so that a busy minute hits all of them
            rate, maps = bare(network, folder, arguments.batch_size, arguments.threads)
            alone.append(rate)
            for workers in runs:
                runs[workers].append(batch(network, folder, workers, arguments, maps))
    report(arguments, alone, runs)


def report(arguments: argparse.Namespace, alone: list[float], runs: dict[int, list[Run]]) -> None:
    """Medians over rounds; ratios are taken within rounds."""
    print(f"{arguments.images} images, {arguments.network}, {arguments.threads} thread(s) a worker")
    print(f"bare engine        {statistics.median(alone):8.1f} images/s")
    for workers, found in runs.items():
        share = statistics.median(run.rate / rate for run, rate in zip(found, alone, strict=True))
        rate = statistics.median(run.rate for run in found)
        line = f"{workers} worker(s)        {rate:8.1f} images/s, {share:.2f} of bare"
        if workers > 1 and 1 in runs:
            gain = statistics.median(run.rate / one.rate for run, one in zip(found, runs[1], strict=True))
            line += f", {gain:.2f} of one worker"
        start = statistics.median(run.start for run in found)
        print(f"{line}; {start:.1f} s before its first shards")
        stages = {name: statistics.median(run.stages[name] for run in found) * 1e3 for name in found[0].stages}
        print("    " + ", ".join(f"{name} {spent:.3g} ms" for name, spent in stages.items()), end="")
        print(f" an image; {found[0].size / 1e3:.3g} kB written")
        for run in found:
            quarter = len(run.memory) // 4
            if quarter:
                early, late = max(run.memory[quarter : 2 * quarter]), max(run.memory[-quarter:])
                print(f"    memory: {early / 2**20:.0f} MiB in the second quarter, {late / 2**20:.0f} in the last")


if __name__ == "__main__":
    main()
