"""One visitor's network and what it does at the inputs that are looked at; every public method answers one question."""

import warnings
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

import fwdkern
from fwdkern.app import methods
from fwdkern.app.answers import Answer
from fwdkern.app.grid import Grid
from fwdkern.app.input_source import InputSource, read_picture
from fwdkern.app.network_source import NetworkSource, Opened, open_network
from fwdkern.engine.attribution import Job, Request, union_boxes
from fwdkern.engine.decomposition import contributions
from fwdkern.engine.dense import receptive_boxes
from fwdkern.engine.features import parse_features
from fwdkern.engine.options import Options, parse_options
from fwdkern.engine.shares import shares_below
from fwdkern.engine.tape import Tape
from fwdkern.engine.units import Units, parse_target, parse_units
from fwdkern.errors import CompletenessWarning, FwdkernError, InputError, LayerError
from fwdkern.preprocessing import Preprocessing
from fwdkern.sentiment import split

PAGE = 24  # channels
_TAPES = 3  # inputs whose forward pass is kept
_SORTS = ("activation", "relevance", "number")


class Explorer:
    """A parsed network; ``pixels`` bounds the size of images."""

    def __init__(self, source: NetworkSource, preprocessing: Preprocessing | None, pixels: int) -> None:
        self.source, self.pixels = source, pixels
        self.opened: Opened = open_network(source)
        self.preprocessing = preprocessing or self.opened.preprocessing
        self.net = fwdkern.fuse(self.opened.model, self.opened.example())
        self._tapes: OrderedDict[str, Tape] = OrderedDict()
        self._shares: dict[tuple[str, int, str], Tensor | str] = {}
        self._opened: tuple[Tape, int] | None = None  # the layer whose channels were shown last
        self._reasons = _unexplained(self.net.tape(self.opened.example()))

    def prepare(self, preprocessing: Preprocessing) -> None:
        """Turn images into inputs in another way from now on."""
        self.preprocessing = preprocessing
        self._tapes.clear()
        self._shares.clear()

    def describe(self) -> dict[str, Any]:
        """The network for the page: what it reads, its classes, its layers with the reasons why some have no maps."""
        try:
            class_layer, note = self.net.class_layer
            shape = self.net.layer(class_layer).shape
            count = shape[0] if len(shape) == 1 else 0
        except InputError as error:
            class_layer, note, count = None, str(error), 0
        return {
            "id": self.source.identity,
            "label": self.source.label,
            "reads": "text" if self.opened.reader else "images",
            "trained": self.opened.trained,
            "classes": count,
            "classNames": self.opened.classes,
            "classLayer": class_layer,
            "note": note,
            "preprocessing": None if self.preprocessing is None else _described(self.preprocessing),
            "layers": [
                {
                    "name": layer.name,
                    "operator": layer.operator,
                    "shape": list(layer.shape),
                    "parents": list(layer.parents),
                    "rule": layer.rule,
                    "reason": self._reasons.get(layer.name, ""),
                }
                for layer in self.net.layers
            ],
        }

    def look(self, source: InputSource) -> Answer:
        """The input as the network gets it, and the scores of all classes."""
        tape = self._tape(source)
        about: dict[str, Any] = {"id": source.identity, "label": source.label}
        arrays: dict[str, np.ndarray] = {}
        if self.opened.reader is not None:
            tokens = split(source.text)
            known = self.opened.reader.vocabulary.encode(tokens)
            about |= {"tokens": tokens, "known": [row != 0 for row in known]}
        else:
            assert self.preprocessing is not None
            shown = self.preprocessing.display(tape.input)[0]
            picture = (shown.expand(3, -1, -1) * 255).round().byte()
            arrays["picture"] = picture.permute(1, 2, 0).numpy()
        scores = self._scores(tape)
        if scores is not None:
            arrays["scores"] = _floats(scores)
            arrays["probabilities"] = _floats(scores.softmax(0))
        return arrays, about

    def class_map(self, source: InputSource, target: int | None) -> Answer:
        """The relevance map of a class, None for the top one."""
        tape = self._tape(source)
        step, name = self._class_step(tape)
        units = parse_target(target, tape.steps[step].value)
        arrays, about = self._map(tape, Request(step, units, name))
        return arrays, {**about, "class": int(units.index[0, 0])}

    def saliency(
        self,
        source: InputSource,
        target: int | None,
        method: str,
        parameters: dict[str, Any],
        progress: Callable[[int, int], None],
    ) -> Answer:
        """One method's map of a class."""
        if self.opened.reader is not None:
            raise InputError("These methods make maps of images; this network reads sentences.")
        own = method == "fwdkern"
        assert self.preprocessing is not None
        model = self.net if own else self.opened.model
        made = methods.make(method, model, parameters, self.preprocessing.black, progress)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CompletenessWarning)
            found = made.attribute(self._tape(source).input, target)
        layer = getattr(made, "layer", None)
        return {"map": _floats(found[0].detach())}, {"method": method, "layer": layer}

    def channels(self, source: InputSource, layer: str, target: int | None, sort: str, page: int) -> Answer:
        """One page of a layer's channels as feature maps, the first in the asked order first."""
        if sort not in _SORTS:
            raise InputError(f"sort={sort!r} is not one of {', '.join(_SORTS)}")
        tape, name = self._tape(source), self.net.layer(layer).name
        step = tape.find(name)
        value = tape.steps[step].value[0]
        grid = Grid(tuple(value.shape))
        maps = grid.arrange(value)
        self._opened = tape, step
        activation = maps.flatten(1).amax(1)
        shares = self._class_shares(source, tape, name, target)
        relevance = None if isinstance(shares, str) else grid.arrange(shares).flatten(1).sum(1)
        key = {"activation": activation, "relevance": relevance}.get(sort)
        order = torch.arange(len(maps)) if key is None else key.argsort(descending=True, stable=True)
        pages = -(-len(order) // PAGE)
        page = min(max(page, 0), pages - 1)
        chosen = order[page * PAGE : (page + 1) * PAGE]
        arrays = {
            "maps": _floats(maps[chosen]),
            "channel": chosen.numpy(),
            "activation": _floats(activation[chosen]),
        }
        if relevance is not None:
            arrays["relevance"] = _floats(relevance[chosen])
        return arrays, {
            "layer": name,
            "page": page,
            "pages": pages,
            "channels": len(maps),
            "reason": shares if isinstance(shares, str) else "",
            "limit": float(maps.abs().max()),
        }

    def channel(self, source: InputSource, layer: str, channel: int, target: int | None) -> Answer:
        """One channel: its values at all positions and what each of them brings to the class."""
        tape, name = self._tape(source), self.net.layer(layer).name
        value = tape.steps[tape.find(name)].value[0]
        grid = Grid(tuple(value.shape))
        _check_place(grid, name, channel, 0, 0)
        arrays = {"values": _floats(grid.arrange(value)[channel])}
        shares = self._class_shares(source, tape, name, target)
        if not isinstance(shares, str):
            arrays["shares"] = _floats(grid.arrange(shares)[channel])
        return arrays, {"layer": name, "channel": channel, "reason": shares if isinstance(shares, str) else ""}

    def channel_map(self, source: InputSource, layer: str, channel: int) -> Answer:
        """The map over the input of the sum of a channel's units."""
        tape, name = self._tape(source), self.net.layer(layer).name
        step = tape.find(name)
        value = tape.steps[step].value
        grid = Grid(tuple(value.shape[1:]))
        _check_place(grid, name, channel, 0, 0)
        if value.dim() != 4:
            raise InputError(
                f"The units of {name} have the shape {list(value.shape[1:])}: there is no map of a channel."
            )
        # The sum is linear, so its map is one pull of all the channel's units, which only the dense engine does.
        arrays, about = self._map(tape, Request(step, _ChannelSum.of(grid.shape, channel), name))
        return arrays, {**about, "layer": name, "channel": channel}

    def unit(self, source: InputSource, layer: str, channel: int, row: int, column: int, target: int | None) -> Answer:
        """One unit: its map, receptive field, value, completeness error, share of the class, and what feeds it."""
        tape, name = self._tape(source), self.net.layer(layer).name
        step = tape.find(name)
        value = tape.steps[step].value
        grid = Grid(tuple(value.shape[1:]))
        _check_place(grid, name, channel, row, column)
        flat = grid.flat(channel, row, column)
        index = torch.tensor([np.unravel_index(flat, grid.shape) if grid.shape else []], dtype=torch.long)
        units = parse_units(index, value, name)
        arrays, about = self._map(tape, Request(step, units, name))
        shares = self._class_shares(source, tape, name, target)
        return arrays, {
            **about,
            "layer": name,
            "index": index[0].tolist(),
            "channel": channel,
            "row": row,
            "column": column,
            "field": self._field(tape, step, units),
            "share": None if isinstance(shares, str) else float(shares.flatten()[flat]),
            "classScore": self._class_score(tape, target),
            "reason": shares if isinstance(shares, str) else "",
            "below": self._below(tape, step, flat),
        }

    def work_ahead(self) -> None:
        """While nothing is asked: find where the units of the layer look that is being looked at."""
        if self._opened is not None:
            with suppress(FwdkernError):  # told when it is asked for
                _boxes(*self._opened)
            self._opened = None

    def _below(self, tape: Tape, step: int, flat: int, count: int = 12) -> dict[str, Any]:
        """The strongest contributing units one layer down."""
        shares = shares_below(tape, step, flat)
        found: list[dict[str, Any]] = []
        total, units = 0.0, 0
        for parent, part in shares.parts.items():
            total += float(part.double().sum())
            units += int(part.count_nonzero())
            name, grid = tape.steps[parent].name, Grid(tuple(part.shape))
            if tape.sequence and parent == 0:
                part, grid = part.sum(1), Grid((part.shape[0],))
            strongest = part.flatten().abs().topk(min(count, part.numel())).indices
            for place in strongest[part.flatten()[strongest] != 0].tolist():
                channel, row, column = grid.place(place)
                found.append(
                    {
                        "layer": name,
                        "channel": channel,
                        "row": row,
                        "column": column,
                        "share": float(part.flatten()[place]),
                        "value": float(tape.steps[parent].value[0].flatten()[place]) if parent else None,
                    }
                )
        found.sort(key=lambda unit: -abs(unit["share"]))
        return {"units": found[:count], "count": units, "sum": total, "bias": shares.bias}

    def _map(self, tape: Tape, request: Request) -> Answer:
        job = Job(None, tape, [request], parse_features("pixels", tape.input, tape.sequence), _options())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CompletenessWarning)  # the error is shown beside the map
            (result,) = job.run()
        return {"map": _floats(result.scores[0, 0])}, {
            "value": float(result.outputs[0, 0]),
            "bias": float(result.bias[0, 0]),
            "delta": float(result.delta[0, 0]),
            "mode": result.mode,
        }

    def _field(self, tape: Tape, step: int, units: Units) -> list[int]:
        """y0, x0, y1, x1."""
        return [int(side) for side in union_boxes(units, _boxes(tape, step))[:, 0]]

    def _tape(self, source: InputSource) -> Tape:
        if source.identity not in self._tapes:
            self._tapes[source.identity] = self.net.tape(self._encoded(source))
            while len(self._tapes) > _TAPES:
                gone, _ = self._tapes.popitem(last=False)
                self._shares = {key: value for key, value in self._shares.items() if key[0] != gone}
        self._tapes.move_to_end(source.identity)
        return self._tapes[source.identity]

    def _encoded(self, source: InputSource) -> Tensor:
        reader = self.opened.reader
        if (source.kind == "text") != (reader is not None):
            reads = "sentences" if reader else "images"
            raise InputError(f"{self.source.label} reads {reads}; {source.label!r} is none.")
        if reader is not None:
            return torch.tensor([reader.vocabulary.encode(split(source.text))])
        assert self.preprocessing is not None
        inputs = self.preprocessing(read_picture(source, self.pixels))[None]
        return inputs.to(next(self.net.network.parameters(), inputs).dtype)

    def _class_step(self, tape: Tape) -> tuple[int, str]:
        name, _ = self.net.class_layer
        return tape.find(name), name

    def _scores(self, tape: Tape) -> Tensor | None:
        """Class scores [classes], None where the network returns something else."""
        try:
            scores = tape.steps[self._class_step(tape)[0]].value
        except InputError:
            return None
        return scores[0] if scores.dim() == 2 else None

    def _class_score(self, tape: Tape, target: int | None) -> float | None:
        scores = self._scores(tape)
        return None if scores is None else float(scores.max() if target is None else scores[target])

    def _class_shares(self, source: InputSource, tape: Tape, layer: str, target: int | None) -> Tensor | str:
        """What each unit of a layer brings to the class score, or the reason why that is not known."""
        scores = self._scores(tape)
        if scores is None:
            return "The network does not return class scores."
        chosen = int(scores.argmax()) if target is None else target
        key = (source.identity, chosen, layer)
        if key not in self._shares:
            step, name = self._class_step(tape)
            own = tape.find(layer)
            value = tape.steps[own].value
            if own == step:
                units = parse_target(chosen, value)
                self._shares[key] = torch.zeros_like(value[0]).index_copy(0, units.index[0], scores[units.index[0]])
                return self._shares[key]
            request = Request(step, parse_target(chosen, tape.steps[step].value), name)
            try:
                found = contributions(tape, request, Request(own, parse_units("all", value, layer), layer))
                self._shares[key] = found.shares[0]
            except FwdkernError as error:
                self._shares[key] = str(error)
        return self._shares[key]


class _ChannelSum(Units):
    """The sum of one channel's units as a single row."""

    @classmethod
    def of(cls, shape: tuple[int, ...], channel: int) -> "_ChannelSum":
        return cls(shape, None, torch.tensor([[channel]]))

    @property
    def count(self) -> int:
        return 1

    def gather(self, values: Tensor) -> Tensor:
        lead = values.shape[: values.dim() - len(self.shape)]
        return values[(..., int(self.index[0, 0]), slice(None), slice(None))].reshape(*lead, 1, -1).sum(-1)

    def seed(self, start: int, stop: int, like: Tensor) -> Tensor:
        rows = like.new_zeros(1, *like.shape)
        rows[0, :, int(self.index[0, 0])] = 1
        return rows

    def mask(self, example: int) -> Tensor:
        mask = torch.zeros(self.shape, dtype=torch.bool)
        mask[int(self.index[0, 0])] = True
        return mask.flatten()


def _boxes(tape: Tape, step: int) -> Tensor:
    """Receptive fields of all units of a step, as `receptive_boxes` gives them; they depend on shapes alone."""
    key = ("boxes", step, tape.input.device)
    if key not in tape.geometry:
        tape.geometry[key] = receptive_boxes(tape, [step])[step][:, :1]
    return tape.geometry[key]


def _options() -> Options:
    return parse_options("uniform", "auto", "dense", "auto", "1GiB", False)


def _unexplained(tape: Tape) -> dict[str, str]:
    """Why layers cannot be explained: an operator without a rule, or one that they depend on."""
    reasons = {}
    for step, behind in zip(tape.steps, tape.obstacles(), strict=True):
        if behind:
            own = behind[0] == step.name
            why = str(tape.steps[tape.find(behind[0])].frozen)
            reasons[step.name] = why if own else f"behind {behind[0]}: {why}"
    return reasons


def _described(preprocessing: Preprocessing) -> dict[str, Any]:
    return {**asdict(preprocessing), "text": preprocessing.describe()}


def _check_place(grid: Grid, layer: str, *place: int) -> None:
    for what, value, size in zip(("channel", "row", "column"), place, grid.size, strict=True):
        if not 0 <= value < size:
            raise LayerError(f"{layer} has {what}s 0 to {size - 1}, not {value}.")


def _floats(values: Tensor) -> np.ndarray:
    return values.detach().float().cpu().numpy()
