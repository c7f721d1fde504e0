"""The same work on a Ray dataset from Python."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from fwdkern.errors import InputError
from fwdkern.preprocessing import Preprocessing
from fwdkern.scale.packages import need
from fwdkern.scale.shards import decode, fused
from fwdkern.scale.work import Engine, Work


def map_batches(
    dataset: Any,
    model: nn.Module | Callable[[], nn.Module],
    preprocessing: Preprocessing,
    work: Work | None = None,
    *,
    image: str = "image",
    batch_size: int = 16,
    workers: int = 1,
    threads: int = 1,
    device: str = "cpu",
) -> Any:
    """A Ray dataset with maps beside what it held; lazy, like everything in Ray Data.

    Args:
        dataset: of rows with a column ``image``: the bytes of image files, or pictures uint8 ``[H, W]`` or
            ``[H, W, C]``.
        model: in evaluation mode, or a function that returns it, which every worker calls once.
        preprocessing: with a crop or a size, so that all maps have one shape.
        work: not with ``keep="best"``, which is about all rows together.

    Returns:
        The rows, without ``image``, with the columns of ``Work`` and ``reason``: why a picture could not be decoded, ""
        for the others. Rows with a reason hold zeros.

    How often a failed block is tried, and where results are kept, is up to Ray Data and the caller.
    """
    ray = need("ray.data")
    work = work or Work()
    if preprocessing.output_size is None or work.keep == "best":
        raise InputError("map_batches needs a crop or a size, and keep other than 'best': all rows have one shape.")
    return dataset.map_batches(
        _Rows,
        fn_constructor_args=(model, preprocessing, work, image, threads, device),
        batch_size=batch_size,
        batch_format="numpy",
        compute=ray.ActorPoolStrategy(size=workers),
        num_cpus=threads if device == "cpu" else 0,
        num_gpus=0 if device == "cpu" else 1,
    )


class _Rows:
    """Work on batches of a dataset."""

    def __init__(
        self, model: Any, preprocessing: Preprocessing, work: Work, image: str, threads: int, device: str
    ) -> None:
        torch.set_num_threads(threads)
        assert preprocessing.output_size is not None
        self._shape = (preprocessing.channels, *preprocessing.output_size)
        self._device, self._image, self._preprocessing = torch.device(device), image, preprocessing
        net = fused(model if isinstance(model, nn.Module) else model(), self._shape, self._device)
        with torch.no_grad():
            classes = net(torch.zeros(1, *self._shape, device=self._device)).shape[-1]
        self._engine = Engine(net, work.checked(net, classes), preprocessing)

    def __call__(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self._image not in batch:
            raise InputError(f"The dataset has no column {self._image!r}; it has {', '.join(batch)}.")
        found = [self._picture(value) for value in batch[self._image]]
        reasons = np.array([picture if isinstance(picture, str) else "" for picture in found], dtype=object)
        # Pictures that cannot be decoded go along as black ones, so that every row has its columns.
        black = np.zeros(self._shape, np.uint8)
        levels = torch.from_numpy(np.stack([black if isinstance(picture, str) else picture for picture in found]))
        tables = self._engine.run(levels.to(self._device).float() / 255)
        rows = {name: values for name, values in batch.items() if name != self._image}
        for layer, table in tables.items():
            for column, values in table.items():
                values[reasons != ""] = 0
                rows[f"{layer}/{column}" if layer else column] = values
        return {**rows, "reason": reasons}

    def _picture(self, value: Any) -> np.ndarray | str:
        if isinstance(value, bytes):
            return decode("the picture", value, self._preprocessing)
        from PIL import Image

        return self._preprocessing.levels(Image.fromarray(np.asarray(value, np.uint8))).numpy()
