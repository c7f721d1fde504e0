"""What is computed of every input, and how little of it is kept."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fwdkern.engine.features import patches
from fwdkern.errors import InputError
from fwdkern.metrics import AverageDrop, AverageIncrease, Deletion, Insertion, masked_scores
from fwdkern.metrics.metric import Metric
from fwdkern.model import FusedModel
from fwdkern.preprocessing import Preprocessing
from fwdkern.relevance import Relevance
from fwdkern.saliency import Saliency
from fwdkern.scale.choices import Dtype, Keep, Maps, Measure, choice

OF_CLASSES = (Maps.RELEVANCE, Maps.SALIENCY)
OF_LAYERS = (Maps.CHANNELS, Maps.UNITS)
OF_BOTH = (Maps.DECOMPOSITION, Maps.CONTRIBUTIONS)

# One table of rows: columns with one entry a row each.
Table = dict[str, np.ndarray]


@dataclass(frozen=True)
class Work:
    """What is computed of every input, and what is kept of it.

    Attributes:
        maps: ``"relevance"`` or ``"saliency"`` of classes, ``"channels"`` or ``"units"`` of layers, ``"decomposition"``
            of a class map into those of a layer's units, ``"contributions"`` of a layer's channels to a class score.
        target: classes; without any, the ``top`` highest. ``"all"``: every class.
        layers: names of layers; units: coordinates in each of them.
        strongest: keep this many channels of the largest value; of decompositions, so many units and the rest.
        features: ``"pixels"``, ``"channels"`` or ``"patches:N"``, sums over squares of N pixels (of saliency, means).
        bias, mode, backend: as in ``FusedModel.attribute``.
        dtype: of the maps on disk, ``"float32"``, or ``"float16"``, where each map is divided by its largest entry, its
            ``scale``.
        keep: ``"maps"`` of all inputs, ``"values"`` without maps, or of each channel the ``best`` inputs with maps.
        metrics: of ``Measure``, for one class an input.
    """

    maps: str = "relevance"
    target: tuple[int, ...] | str = ()
    top: int = 1
    layers: tuple[str, ...] = ()
    units: tuple[tuple[int, ...], ...] = ()
    strongest: int | None = None
    features: str = "pixels"
    bias: str = "uniform"
    mode: str = "auto"
    backend: str = "auto"
    dtype: str = "float16"
    keep: str = "maps"
    best: int = 9
    metrics: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        choice("maps", self.maps, Maps)
        choice("keep", self.keep, Keep)
        choice("dtype", self.dtype, Dtype)
        for name in self.metrics:
            choice("metrics", name, Measure)
        by_layer = self.maps not in OF_CLASSES
        if by_layer and not self.layers:
            raise InputError(f"maps={self.maps!r} are about a layer: name one.")
        if not by_layer and self.layers:
            raise InputError(f"maps={self.maps!r} are about classes, not about the layer {self.layers[0]!r}.")
        if bool(self.units) != (self.maps == "units"):
            raise InputError('Give coordinates of units with maps="units", and only there.')
        if self.strongest is not None and self.maps not in ("channels", "decomposition"):
            raise InputError('strongest is for maps="channels" and maps="decomposition".')
        if self.keep == "best" and (self.maps != "channels" or self.strongest is not None):
            raise InputError('keep="best" is for maps="channels", all of them: it keeps the best inputs of each.')
        if self.metrics and not (self.maps in OF_CLASSES and self.features == "pixels" and self._classes == 1):
            raise InputError("Metrics judge one class map an input, of pixels: ask for one class.")
        if self.maps in OF_BOTH and self._classes != 1:
            raise InputError(f"maps={self.maps!r} are of one class an input: ask for one.")
        for name in ("top", "best", *(("strongest",) if self.strongest is not None else ())):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} must be at least 1")

    @property
    def _classes(self) -> int | None:
        if isinstance(self.target, str):
            return None
        return len(self.target) or self.top

    def settings(self) -> dict[str, Any]:
        """The attributes as JSON values."""
        return asdict(self)

    def checked(self, net: FusedModel, classes: int | None) -> "Work":
        """The same work with the layers' own names, checked against a network.

        Raises:
            InputError, LayerError: it does not fit.
        """
        if classes is None and self.maps not in OF_LAYERS:
            raise InputError("The model does not return class scores [B, classes]; ask for maps of channels or units.")
        if self.target != "all" and classes is not None:
            for target in self.target:
                if not 0 <= int(target) < classes:
                    raise InputError(f"target: there is no class {target}; the model knows {classes}, from 0.")
            if self.top > classes:
                raise InputError(f"top is {self.top}, but the model knows {classes} classes.")
        return replace(self, layers=tuple(net.layer(name).name for name in self.layers))


class Engine:
    """Does the work on batches of one network.

    Args:
        net: made by ``fuse``; preprocessing: its inputs', for the metrics, which mask images before normalisation.
    """

    def __init__(self, net: FusedModel, work: Work, preprocessing: Preprocessing) -> None:
        self.net, self.work, self.preprocessing = net, work, preprocessing
        self._saliency = Saliency(net, baselines=preprocessing.black) if work.maps == "saliency" else None

    @torch.no_grad()
    def run(self, pixels: Tensor) -> dict[str, Table]:
        """One table for each layer, or one called "" for class maps, with one row for each input.

        pixels: ``[B, C, H, W]`` in [0, 1].
        """
        if pixels.is_cpu:
            pixels = pixels.contiguous(memory_format=torch.channels_last)  # convolutions are faster so
        inputs = self.preprocessing.normalise(pixels)
        work = self.work
        if work.maps in OF_CLASSES:
            return {"": self._of_classes(pixels, inputs)}
        return {layer: self._of_layer(inputs, layer) for layer in work.layers}

    def _of_classes(self, pixels: Tensor, inputs: Tensor) -> Table:
        if self._saliency is not None:
            scores = self.net(inputs)
            target = self._target(scores)  # [B, K]
            maps = torch.stack([self._saliency.attribute(inputs, one) for one in target.T.contiguous()], 1)
            side = _patch(self.work.features)
            kept = maps if side is None else F.avg_pool2d(maps, side, ceil_mode=True)
            table = {"target": target, "output": scores.gather(1, target)}
        else:
            work = self.work
            # The top class costs no pass of its own.
            asked = None if not work.target and work.top == 1 else self._target(self.net(inputs))
            result = self.net.attribute(inputs, asked, self._features(inputs), work.bias, work.mode, work.backend)
            target, maps = result.units, self._laid_out(result, inputs)
            kept = maps
            table = {"target": target, "output": result.outputs, "delta": result.delta, "bias": result.bias}
        table |= self._kept_maps(kept)
        if self.work.metrics:
            table |= self._measured(pixels, maps[:, 0], target[:, 0])
        return _arrays(table)

    def _of_layer(self, inputs: Tensor, layer: str) -> Table:
        work, net = self.work, self.net
        if work.maps == "contributions":
            parts = net.contributions(inputs, self._one_class(inputs), layer)
            table = {"target": parts.target, "output": parts.outputs, "rest": parts.rest, "delta": parts.delta}
            return _arrays(
                table | {"share": parts.shares.flatten(2).sum(2) if parts.shares.dim() > 2 else parts.shares}
            )
        if work.maps == "decomposition":
            target = self._one_class(inputs)
            result = net.decompose(
                inputs, target, layer, work.strongest or 16, self._features(inputs), work.bias, work.backend
            )
            table = {"target": target, "unit": result.units, "output": result.outputs, "delta": result.delta}
            return _arrays(table | self._kept_maps(self._laid_out(result, inputs)))
        units = "channels" if work.maps == "channels" else torch.tensor(work.units, device=inputs.device)
        result = net.attribute_units(
            inputs, layer, units, self._features(inputs), work.bias, work.mode, backend=work.backend
        )
        maps = self._laid_out(result, inputs)
        table = {"output": result.outputs, "delta": result.delta}
        if work.strongest is not None:
            chosen = (
                result.outputs.abs().sort(dim=1, descending=True, stable=True).indices[:, : work.strongest]
            )  # [B, S]
            every = torch.arange(len(chosen), device=chosen.device)[:, None]
            table = {"channel": chosen, **{name: column.gather(1, chosen) for name, column in table.items()}}
            maps = maps[every, chosen]
        return _arrays(table | self._kept_maps(maps))

    def _kept_maps(self, maps: Tensor) -> dict[str, Tensor]:
        """maps: ``[B, K, ...]``."""
        if self.work.keep == Keep.VALUES:
            return {}
        if self.work.dtype == Dtype.FLOAT32:
            return {"map": maps.float()}
        # float16 ends at 6e-8 and 65504, which maps of probabilities, or of sums over channels, fall out of.
        largest = maps.flatten(2).abs().amax(2)  # [B, K]
        divisor = torch.where(largest > 0, largest, 1).view(*largest.shape, *[1] * (maps.dim() - 2))
        return {"map": (maps / divisor).half(), "scale": largest.float()}

    def _target(self, scores: Tensor) -> Tensor:
        """Classes ``[B, K]``."""
        if self.work.target == "all":
            return torch.arange(scores.shape[1], device=scores.device).expand(len(scores), -1)
        if not self.work.target:
            return scores.topk(self.work.top).indices
        return torch.tensor(self.work.target, device=scores.device).expand(len(scores), -1)

    def _one_class(self, inputs: Tensor) -> Tensor:
        return self._target(self.net(inputs))[:, 0]

    def _features(self, inputs: Tensor) -> str | Tensor:
        side = _patch(self.work.features)
        return self.work.features if side is None else patches(side, (inputs.shape[2], inputs.shape[3]))

    def _laid_out(self, result: Relevance, inputs: Tensor) -> Tensor:
        """Maps ``[B, K, H, W]``, ``[B, K, C, H, W]``, or with patches ``[B, K, rows, columns]``."""
        side = _patch(self.work.features)
        if side is None:
            return result.scores
        rows, columns = (-(-length // side) for length in inputs.shape[2:])
        return result.scores.view(*result.scores.shape[:2], rows, columns)

    def _measured(self, pixels: Tensor, maps: Tensor, target: Tensor) -> dict[str, Tensor]:
        found: dict[str, Metric] = {}
        normalise = self.preprocessing.normalise
        masked = masked_scores(self.net, pixels, maps, target, normalise)
        for name in self.work.metrics:
            if name in (Measure.DROP, Measure.INCREASE):
                change = (AverageDrop if name == Measure.DROP else AverageIncrease)("softmax")
                change.update(masked)
                found[name] = change
            else:
                curve = (Insertion if name == Measure.INSERTION else Deletion)(self.net, normalise)
                curve.update(pixels, maps, target)
                found[name] = curve
        return {name: metric.values() for name, metric in found.items()}


class Reduction:
    """Of the channels of a layer: statistics over inputs, and the inputs with the highest values with their maps.

    Args:
        best: how many inputs of each channel are kept; 0 for statistics alone.
    """

    def __init__(self, best: int) -> None:
        self.best = best
        self._statistics: Table | None = None
        self._best: Table | None = None

    def add(self, keys: np.ndarray, output: np.ndarray, **kept: np.ndarray) -> None:
        """keys: ``[B]``; output: values ``[B, C]``; kept: what is kept of the best, as maps ``[B, C, ...]``."""
        values = output.astype(np.float64)
        self.merge(
            {
                "count": np.full(values.shape[1], len(values)),
                "sum": values.sum(0),
                "squares": (values**2).sum(0),
                "smallest": values.min(0),
                "largest": values.max(0),
            },
            None
            if not kept
            else {
                "key": np.broadcast_to(keys, values.T.shape),
                "output": output.T,
                **{name: np.moveaxis(column, 0, 1) for name, column in kept.items()},
            },
        )

    def merge(self, statistics: Mapping[str, np.ndarray], best: Mapping[str, np.ndarray] | None) -> None:
        """Add what another one has gathered: rows are channels."""
        known = self._statistics
        combine = {"smallest": np.minimum, "largest": np.maximum}
        self._statistics = (
            dict(statistics)
            if known is None
            else {name: combine.get(name, np.add)(known[name], statistics[name]) for name in known}
        )
        if best is None:
            return
        both = dict(best) if self._best is None else {n: np.concatenate([self._best[n], best[n]], 1) for n in best}
        # Equal values go by key, so that the order in which parts are added does not matter.
        order = np.lexsort((both["key"].astype(str), -both["output"]), axis=1)[:, : self.best]
        each = np.arange(len(order))[:, None]
        self._best = {name: column[each, order] for name, column in both.items()}

    def tables(self, layer: str) -> dict[str, Table]:
        """What was gathered, by the names under which it is stored."""
        found = {} if self._statistics is None else {f"statistics/{layer}": self._statistics}
        return found if self._best is None else {**found, f"best/{layer}": self._best}


def _patch(features: str) -> int | None:
    kind, _, side = features.partition(":")
    if features in ("pixels", "channels"):
        return None
    if kind != "patches" or not side.isdigit() or int(side) == 0:
        raise InputError(f"features={features!r}; expected pixels, channels or patches:N, for example patches:8.")
    return int(side)


def _arrays(table: Mapping[str, Tensor]) -> Table:
    return {name: column.detach().cpu().numpy() for name, column in table.items()}
