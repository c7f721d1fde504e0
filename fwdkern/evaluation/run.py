"""Every method on every image, once."""

import math
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from fwdkern.baselines import Method
from fwdkern.errors import InputError
from fwdkern.evaluation.images import Example
from fwdkern.evaluation.measures import Batch, measure, no_measures
from fwdkern.evaluation.methods import settings_of
from fwdkern.evaluation.records import Records
from fwdkern.preprocessing import Preprocessing

UNREADABLE = "picture cannot be read or cropped"


def run(
    model: nn.Module,
    methods: Mapping[str, Method],
    examples: Sequence[Example],
    preprocessing: Preprocessing,
    records: Records,
    target: str = "top",
    batch_size: int = 10,
    progress: Callable[[str], None] = lambda what: None,
) -> None:
    """Measure the maps of all methods and append them to the records; what is recorded already is left out.

    All methods see a batch one after the other, so that their times belong to the same images on the same machine.

    Args:
        model: in evaluation mode, from inputs ``[B, C, H, W]`` to raw class scores ``[B, classes]``.
        methods: from names to methods, made for this model.
        target: which class the maps are of, ``"top"`` or ``"label"``.
        batch_size: images at a time; they must have one size after preprocessing.
        progress: called after each batch of each method.

    An image that cannot be read, or has no label where one is needed, gets a row with the reason and no numbers.
    """
    if target not in ("top", "label"):
        raise InputError(f'target={target!r} is not one of "top", "label"')
    for name, method in methods.items():
        records.register(name, settings_of(method))
    done = {name: {row["image"] for row in records.rows(name)} for name in methods}
    for start in range(0, len(examples), batch_size):
        group = examples[start : start + batch_size]
        waiting = [name for name in methods if any(example.name not in done[name] for example in group)]
        if waiting:
            usable, batch, failures = _read(model, group, preprocessing, target)
            for name in waiting:
                missing = [i for i, example in enumerate(usable) if example.name not in done[name]]
                failed = {image: reason for image, reason in failures.items() if image not in done[name]}
                rows = [_failure(image, reason) for image, reason in failed.items()]
                if batch is not None and missing:
                    part = _part(batch, missing)
                    rows += _measured(model, methods[name], [usable[i] for i in missing], part, preprocessing)
                records.append(name, rows)
                records.register(name, settings_of(methods[name]))
        for _ in methods:
            progress(group[-1].name)


def batches(count: int, batch_size: int = 10) -> int:
    """How many batches ``run`` makes of so many images."""
    return math.ceil(count / batch_size)


def _read(
    model: nn.Module, group: Sequence[Example], preprocessing: Preprocessing, target: str
) -> tuple[list[Example], Batch | None, dict[str, str]]:
    """What can be used of a group, and why the others cannot."""
    usable: list[Example] = []
    failures: dict[str, str] = {}
    pixels: list[Tensor] = []
    boxes: list[Tensor] = []
    for example in group:
        if target == "label" and example.label is None:
            failures[example.name] = "no label"
            continue
        try:
            picture = example.load()
            pixels.append(preprocessing.pixels(picture))
        except InputError:
            failures[example.name] = UNREADABLE
            continue
        boxes.append(preprocessing.map_boxes(example.boxes or [], (picture.height, picture.width)))
        usable.append(example)
    if not usable:
        return [], None, failures
    if len({part.shape for part in pixels}) > 1:
        raise InputError("The images have several sizes after preprocessing; give --crop or --size.")
    weight = next(model.parameters(), pixels[0])
    raw = torch.stack(pixels).to(weight.device, weight.dtype, memory_format=torch.channels_last)
    with torch.no_grad():
        outputs = model(preprocessing.normalise(raw))
    if not isinstance(outputs, Tensor) or outputs.dim() != 2:
        raise InputError("The model does not return class scores [B, classes], so there is nothing to evaluate.")
    wanted = outputs.argmax(1)
    if target == "label":
        wanted = torch.tensor([example.label for example in usable], device=outputs.device)
        if wrong := [example for example in usable if not 0 <= (example.label or 0) < outputs.shape[1]]:
            raise InputError(
                f"{wrong[0].name} has the label {wrong[0].label}, but the model knows {outputs.shape[1]} classes."
            )
    return usable, Batch(raw, outputs, wanted, boxes), failures


def _part(batch: Batch, chosen: list[int]) -> Batch:
    if len(chosen) == len(batch.pixels):
        return batch
    pixels = batch.pixels[chosen].contiguous(memory_format=torch.channels_last)
    return Batch(pixels, batch.outputs[chosen], batch.target[chosen], [batch.boxes[i] for i in chosen])


def _measured(
    model: nn.Module, method: Method, examples: list[Example], batch: Batch, preprocessing: Preprocessing
) -> list[dict[str, object]]:
    inputs = preprocessing.normalise(batch.pixels)
    start = _now(inputs)
    maps = method.attribute(inputs, batch.target)
    seconds = (_now(inputs) - start) / len(examples)
    values, reasons = measure(model, preprocessing.normalise, batch, maps)
    return [
        {
            "image": example.name,
            "target": int(batch.target[i]),
            "seconds": f"{seconds:.6f}",
            "reasons": reasons[i],
            **{name: "" if math.isnan(column[i]) else f"{column[i]:.6g}" for name, column in values.items()},
        }
        for i, example in enumerate(examples)
    ]


def _failure(image: str, reason: str) -> dict[str, object]:
    return {"image": image, "target": "", "seconds": "", "reasons": reason, **dict.fromkeys(no_measures(), "")}


def _now(like: Tensor) -> float:
    if like.is_cuda:
        torch.cuda.synchronize(like.device)
    return time.perf_counter()
