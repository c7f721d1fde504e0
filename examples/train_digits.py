"""Train the embedded digit reader and write its weights and the example canvases.

Without options they go into the folder build/digits; `--out fwdkern/digits` replaces those of the package.
"""

import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import Progress, TimeElapsedColumn
from torch import Tensor
from torch.nn import functional as F

from fwdkern.digits import CLASSES, Canvases, DigitsNet, canvases, digits_net
from fwdkern.digits.files import EXAMPLES, WEIGHTS, pack, write

POOL = 512
BATCH = 64
TEST_CANVASES = 2000
EXAMPLE_CANVASES = 24


def train(net: DigitsNet, pools: int, epochs: int, seed: int, progress: Progress) -> None:
    """Train in place on pools * 512 canvases with training digits, each seen `epochs` times."""
    drawing = progress.add_task("drawing canvases", total=pools)
    drawn = []
    for pool in range(pools):
        drawn.append(canvases(POOL, seed * pools + pool, split="train"))
        progress.advance(drawing)
    images = torch.cat([part.images for part in drawn])
    labels = torch.cat([part.labels for part in drawn])

    batches_per_epoch = len(images) // BATCH
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.01)
    steps = epochs * batches_per_epoch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps)
    training = progress.add_task("training", total=steps)
    net.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(images)).split(BATCH)[:batches_per_epoch]:
            loss = F.cross_entropy(net(images[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            progress.update(training, advance=1, description=f"training, loss {loss.item():.3f}")
    net.eval()


@torch.no_grad()
def accuracy(net: DigitsNet, test: Canvases) -> float:
    right: list[Tensor] = [
        net(images).argmax(1) == labels
        for images, labels in zip(test.images.split(BATCH), test.labels.split(BATCH), strict=True)
    ]
    return torch.cat(right).float().mean().item()


def main(
    out: Annotated[Path, typer.Option(help="Folder for the two safetensors files.")] = Path("build/digits"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the weights, the canvases and their order.")] = 0,
    pools: Annotated[int, typer.Option(min=1, help="Training canvases, in pools of 512.")] = 44,
    epochs: Annotated[int, typer.Option(min=1, help="How often each training canvas is seen.")] = 3,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:
    """Train the embedded digit reader and write digits.safetensors and examples.safetensors."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    start = time.perf_counter()
    net = DigitsNet()
    with Progress(*Progress.get_default_columns(), TimeElapsedColumn()) as progress:
        train(net, pools, epochs, seed, progress)
        seconds = time.perf_counter() - start
        progress.add_task("drawing held-out canvases", total=None)
        test = canvases(TEST_CANVASES, seed, split="test")

    measured = accuracy(net, test)
    about = {
        "classes": ",".join(CLASSES),
        "held_out_accuracy": f"{measured:.4f}",
        "held_out_canvases": str(TEST_CANVASES),
        "seed": str(seed),
    }
    write(net.state_dict(), out / WEIGHTS.name, about)
    shown = canvases(EXAMPLE_CANVASES, seed + 1, split="test")
    origin = {"classes": about["classes"], "split": "test", "seed": str(seed + 1)}
    write(pack(shown), out / EXAMPLES.name, origin)

    reloaded = accuracy(digits_net(out / WEIGHTS.name), test)
    if reloaded != measured:
        raise SystemExit(
            f"The weights read back from {out} get {reloaded:.4f} of the canvases right, "
            f"those in memory {measured:.4f}; do not use them."
        )
    print(f"held-out accuracy {measured:.4f} on {TEST_CANVASES} canvases, {seconds:.0f} s of training")
    for path in (out / WEIGHTS.name, out / EXAMPLES.name):
        print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    typer.run(main)
