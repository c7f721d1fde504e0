"""How many saliency maps a second each method makes, beside what judging a map costs.

    python -m benchmarks.saliency                       # SqueezeNet
    python -m benchmarks.saliency --network mobilenet

All methods explain the same photographs in one process, in turn, so that a busy minute hits all of them. *judging* is
what an evaluation does with every map: to mask the image in two ways, to ask the network again, and to measure. A
figure is printed only if every map of a batch is the one that its image has alone.
"""

import argparse
import statistics
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks import networks
from benchmarks.photographs import imagenet_preprocessing
from benchmarks.timing import Effort, interleaved, seconds_of
from fwdkern.baselines import Method
from fwdkern.evaluation import METHODS, make_methods
from fwdkern.evaluation.measures import Batch, measure
from fwdkern.preprocessing import Preprocessing

_RANDOM = ("random", "smoothgrad", "mask")  # what they draw for an image depends on its place in the batch
_LONG = ("smoothgrad", "mask")  # timed once, on one photograph


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Preprocessing]] = {
    "squeezenet": (networks.squeezenet, imagenet_preprocessing()),
    "mobilenet": (networks.mobilenet, imagenet_preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))),
}


def check(name: str, method: Method, inputs: Tensor, target: Tensor) -> None:
    """Raise SystemExit unless a map does not depend on the images beside it."""
    together = method.attribute(inputs, target)
    alone = torch.cat([method.attribute(inputs[i : i + 1], target[i : i + 1]) for i in range(len(inputs))])
    error = (together - alone).abs().amax() / alone.abs().amax()
    if not error <= 1e-3:
        raise SystemExit(
            f"REFUSED: {name}'s maps differ by {error:.1e} from those of single images; no figure is printed"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=list(NETWORKS), default="squeezenet")
    parser.add_argument("--images", type=int, default=10, help="of one batch")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    make, preprocessing = NETWORKS[arguments.network]
    model = make()
    pixels = NETWORKS["squeezenet"][1].display(networks.imagenet_photos(arguments.images))
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    inputs = preprocessing.normalise(pixels)
    with torch.no_grad():
        outputs = model(inputs)
    batch = Batch(pixels, outputs, outputs.argmax(1), [torch.zeros(0, 4)] * len(pixels))
    methods = make_methods(model, list(METHODS), preprocessing.black)
    for name in methods:
        if name not in _RANDOM:
            check(name, methods[name], inputs, batch.target)
    maps = methods["gradcam"].attribute(inputs, batch.target)
    works: dict[str, Callable[[], object]] = {
        "judging": lambda: measure(model, preprocessing.normalise, batch, maps),
        **{
            name: lambda method=method: method.attribute(inputs, batch.target)
            for name, method in methods.items()
            if name not in _LONG
        },
    }
    taken = interleaved(works, Effort(arguments.rounds, seconds=120))
    times = {name: statistics.median(found) / len(inputs) for name, found in taken.items()}
    for name in _LONG:
        times[name] = seconds_of(lambda name=name: methods[name].attribute(inputs[:1], batch.target[:1]))
    print(f"{arguments.network}, {len(inputs)} photographs of 224 × 224 a batch, {arguments.threads} threads\n")
    print("| method | maps/s | times judging |\n|---|--:|--:|")
    judging = times.pop("judging")
    for name, found in times.items():
        print(f"| {name} | {1 / found:.3g} | {found / judging:.2g} |")
    print(f"| *judging* | {1 / judging:.3g} | 1 |")


if __name__ == "__main__":
    main()
