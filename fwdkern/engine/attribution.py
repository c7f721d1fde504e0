"""From a tape and a request to a result."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from fwdkern.engine.completeness import PRECISION_TOLERANCE, TOLERANCE, check_completeness
from fwdkern.engine.dense import bias_mass, forward_maps, receptive_boxes, reverse_maps
from fwdkern.engine.features import Features, position_shape
from fwdkern.engine.memory import format_bytes, free_bytes, parse_bytes, release, require_memory, zeros
from fwdkern.engine.options import Options
from fwdkern.engine.planner import Plan, Way, choose, dense_products, plan_dense, plan_rows, rows_backend, worth_rows
from fwdkern.engine.rounding import rounding
from fwdkern.engine.rows.device import DevicePass
from fwdkern.engine.rows.program import NoRowForm, Program, compile_program
from fwdkern.engine.rows.run import Output, run_forward, run_reverse
from fwdkern.engine.tape import Tape, record
from fwdkern.engine.units import Units
from fwdkern.engine.window import Window
from fwdkern.errors import DeviceMemoryError, InputError
from fwdkern.graph import Network
from fwdkern.ops.native import lend_threads
from fwdkern.ops.row_program import CompiledPass, RowPass
from fwdkern.ops.row_sums import row_sums
from fwdkern.relevance import Relevance


class Finished(NamedTuple):
    """A result that nobody has checked yet, the sums ``[B, K]`` of its maps' elements and of their magnitudes, and the
    tolerance of the coarsest type that the network computes in."""

    result: Relevance
    sums: Tensor
    magnitude: Tensor
    tolerance: float


@dataclass(frozen=True)
class Request:
    """What to compute for one step of a tape."""

    step: int
    units: Units
    layer: str


class Job:
    """Some requests for different steps of one tape: planned, then run."""

    def __init__(
        self, network: Network | None, tape: Tape, requests: list[Request], features: Features, options: Options
    ) -> None:
        self.network, self.tape, self.requests = network, tape, requests
        self.features, self.options = features, options
        self.steps = [request.step for request in requests]
        self._first: tuple[Tape, Program] | None = None
        if options.layout == "window" and (features.kind != "pixels" or tape.input.dim() != 4):
            raise InputError('layout="window" crops maps of pixels of images [B, C, H, W]; use layout="dense"')

    @cached_property
    def plan(self) -> Plan:
        """The ways weighed and the one chosen. Several layers are always one pass of forward mode."""
        targets = sum(request.units.count for request in self.requests)
        ways = plan_dense(self.tape, self.steps, self.features.count, targets, self.options)
        notes = []
        backend, reason = rows_backend(self.tape, self.options)
        worth = worth_rows(self.tape, self.steps, ways, self.features.count, targets)
        if backend and not worth and self.options.backend == "auto":
            backend, reason = None, "the dense engine is done before row lists are made"
        if backend:
            try:
                with self._on_device():
                    tape, program = self._compiled(0)
                    batch = len(self.tape.input)
                    ways += plan_rows(tape, program, self.features, targets, batch, self.options, backend)
                    if backend != "cpu" and (dense := dense_products(tape, program, self.options)):
                        notes.append(dense)
            except NoRowForm as obstacle:
                reason = str(obstacle)
        if reason:
            notes.append(f"rows: {reason}")
        if len(self.requests) > 1:
            ways = [way for way in ways if way.mode == "forward"]
        return choose(ways, self.options, notes)

    @property
    def map_size(self) -> int:
        """Numbers in one map of the first request."""
        return self._map_size(self.requests[0])

    def _map_size(self, request: Request) -> int:
        window = self._windows(request)
        return torch.Size(self.features.shape if window is None else window.size).numel()

    def run(self) -> list[Relevance]:
        """The results of all requests, in order.

        Raises:
            DeviceMemoryError: a GPU's memory ran out; the message says what was needed and what would fit.
        """
        try:
            with rounding(self.options.precision, self.tape.input.device):
                return self._run()
        except torch.OutOfMemoryError as error:
            given = str(error).split(". ")[0]
        # Behind the handler the pass's frames are gone, and with them its tensors.
        raise self._out_of_memory(given)

    def _run(self) -> list[Relevance]:
        windows = [self._windows(request) for request in self.requests]
        shapes = [self.features.shape if window is None else window.size for window in windows]
        x = self.tape.input
        require_memory(self._result_bytes(), "the maps of these units", x.device)
        way = self.plan.chosen
        counts = [request.units.count for request in self.requests]
        scores = [zeros((len(x), count, *shape), x) for count, shape in zip(counts, shapes, strict=True)]
        if way.engine == "dense" and way.mode == "reverse":
            masses = [self._run_dense_reverse(way, scores[0], windows[0])]
        else:
            if way.engine == "dense":
                self._run_dense_forward(way, scores, windows)
            else:
                with lend_threads(), self._on_device():
                    self._run_rows(way, scores, windows)
            mass = bias_mass(self.tape, self.steps)
            masses = [request.units.gather(mass[request.step]) for request in self.requests]
        return [
            check(self._finish(request, part, own, window, way), way.engine, self.options)
            for request, part, own, window in zip(self.requests, scores, masses, windows, strict=True)
        ]

    def static(self, way: Way) -> Finished:
        """One dense reverse pass for the one request, without whatever reads the device or depends on what it holds."""
        (request,) = self.requests
        x = self.tape.input
        scores = x.new_zeros(len(x), request.units.count, *self.features.shape)
        mass = self._run_dense_reverse(way, scores, None)
        return self._finish(request, scores, mass, None, way)

    def _result_bytes(self) -> int:
        count = sum(len(self.tape.input) * request.units.count * self._map_size(request) for request in self.requests)
        return count * self.tape.input.element_size()

    def _out_of_memory(self, given: str) -> DeviceMemoryError:
        """What a request that ran out of memory needed, and the ``memory=`` with which it fits."""
        device, self._first, tried = self.tape.input.device, None, self.__dict__.pop("plan", None)
        release(device)
        free, result = free_bytes(device), self._result_bytes()
        needs = f"its maps take {format_bytes(result)}"
        advice = "ask for fewer units at a time (iter_units) or for fewer inputs"
        if tried is not None:
            needs += f", the work on them {format_bytes(tried.chosen.bytes)}"
            # Half of what is left, since the count leaves out libraries and fragments.
            room = format_bytes(max(min(free - result, tried.chosen.bytes) // 2, 0)).replace(" ", "")
            if self._fits(room):
                advice = f'use memory="{room}", which fits, or {advice}'
        return DeviceMemoryError(
            f"{device} ran out of memory on this request: {needs}, and {format_bytes(free)} are free. {given}. "
            f"What was taken for it has been given back; {advice}"
        )

    def _fits(self, memory: str) -> bool:
        """Whether the request has a way under another ``memory=``."""
        try:
            options = replace(self.options, memory=parse_bytes(memory))
            return bool(Job(self.network, self.tape, self.requests, self.features, options).plan)
        except (InputError, torch.OutOfMemoryError):
            return False

    def _compiled(self, example: int) -> tuple[Tape, Program]:
        """Tape and program of one input of the batch; those of the first, which the plan is made of, are kept."""
        if example == 0 and self._first is not None:
            return self._first
        tape = self._tape_of(example)
        needs = {request.step: request.units.mask(example) for request in self.requests}
        compiled = tape, compile_program(tape, needs)
        if example == 0:
            self._first = compiled
        return compiled

    def _tape_of(self, example: int) -> Tape:
        """The tape of one input alone: the row engine takes inputs one by one."""
        if len(self.tape.input) == 1:
            return self.tape
        assert self.network is not None  # without one, rows are not asked for
        if self.network.batch is not None:
            raise NoRowForm(f"the network fixes a batch of {self.network.batch}, and rows take one input at a time")
        names = [request.layer for request in self.requests]
        return record(self.network, self.tape.input[example : example + 1], names)

    def _output(self, request: Request, example: int, scores: Tensor, window: Window | None) -> Output:
        flat = request.units.flat
        if flat is not None:
            flat = flat[example if len(flat) > 1 else 0]
        if window is None:
            return Output(request.step, flat, scores.flatten(1))
        return Output(request.step, flat, scores, window.origin[example if len(window.origin) > 1 else 0])

    def _run_rows(self, way: Way, scores: list[Tensor], windows: list[Window | None]) -> None:
        labels = self.features.labels
        for example in range(len(self.tape.input)):
            tape, program = self._compiled(example)
            outputs = [
                self._output(request, example, part[example], window)
                for request, part, window in zip(self.requests, scores, windows, strict=True)
            ]
            own = labels[example if len(labels) > 1 else 0]
            if way.mode == "forward":
                run_forward(tape, program, self.features, own, outputs, way.size, self._carry)
            else:
                run_reverse(tape, program, self.features, own, outputs[0], way.size, self._carry)

    def _on_device(self) -> AbstractContextManager[object]:
        """New tensors are made where the input is; on the CPU they are anyway."""
        device = self.tape.input.device
        return nullcontext() if device.type == "cpu" else device

    def _carry(self, carried: RowPass) -> CompiledPass | DevicePass:
        options = self.options
        backend, _ = rows_backend(self.tape, options)
        assert backend is not None, "the plan has chosen rows"
        if backend == "cpu":
            return CompiledPass(carried, options.storage)
        return DevicePass(carried, options.storage, backend, options.precision, options.memory)

    def _run_dense_forward(self, way: Way, scores: list[Tensor], windows: list[Window | None]) -> None:
        for start, stop, maps in forward_maps(self.tape, self.features, self.steps, way.size):
            for request, part, window in zip(self.requests, scores, windows, strict=True):
                rows = request.units.gather(maps[request.step])  # [slices, B, K]
                if window is not None:
                    window.place(rows.permute(1, 2, 0), start, part)
                    continue
                for example, own in enumerate(part.flatten(2)):
                    # Torch is quick at turning a whole matrix into another one, and at copying lines.
                    to, turned = own[:, start:stop], rows[:, example].contiguous().T
                    to.copy_(turned if to.is_contiguous() else turned.contiguous())

    def _run_dense_reverse(self, way: Way, scores: Tensor, window: Window | None) -> Tensor:
        """Fill the scores of the one request; returns its units' bias mass ``[B, K]``."""
        (request,) = self.requests
        mass = scores.new_zeros(scores.shape[:2])
        for start, stop, pulled, part in reverse_maps(self.tape, request.step, request.units, way.size):
            mass[:, start:stop] = part.T
            maps = self.features.contract(pulled, self.tape.input)
            scores[:, start:stop] = (
                maps.view_as(scores[:, start:stop]) if window is None else window.crop(maps, start, stop)
            )
        return mass

    def _windows(self, request: Request) -> Window | None:
        if self.options.layout == "dense":
            return None
        return Window(self._fields(request), tuple(self.tape.input.shape[2:]))

    def _fields(self, request: Request) -> Tensor:
        """Receptive fields of a request's units, int64 ``[1 or B, 4, K]``: y0, x0, y1, x1."""
        device = self.tape.input.device
        boxes = self.tape.geometry.get(("boxes", request.step, device))
        if boxes is None:
            boxes = receptive_boxes(self.tape, [request.step])[request.step][:, :1]
            self.tape.geometry["boxes", request.step, device] = boxes
        examples = 1 if request.units.flat is None else len(request.units.flat)
        return torch.stack([union_boxes(request.units, boxes, example) for example in range(examples)])

    def _finish(self, request: Request, scores: Tensor, mass: Tensor, window: Window | None, way: Way) -> Finished:
        positions = self.features.positions
        outside, addend = None, None
        if self.options.bias == "uniform":
            if window is not None:
                addend = mass / positions
                outside = mass * (1 - scores.shape[2] * scores.shape[3] / positions)
            elif self.features.kind == "segments":
                even = scores.new_full((1, 1, positions), 1 / positions)
                scores.flatten(2).add_(self.features.spread(even) * mass.unsqueeze(2))
            else:
                addend = mass / self.features.count  # the channels of a position share its part
        elif self.options.bias == "receptive_field":
            outside = self._spread_over_fields(request, scores, mass, window)
        rows = scores.view(mass.numel(), -1)
        sums, magnitude = row_sums(rows, None if addend is None else addend.flatten())
        result = Relevance(
            scores,
            mass,
            request.units.gather(self.tape.steps[request.step].value),
            request.units.index,
            request.layer,
            self.features.kind,
            way.mode,
            bias_in_scores=self.options.bias != "separate",
            origin=None if window is None else window.origin.expand(len(scores), -1, -1),
            outside=outside,
        )
        return Finished(result, sums.view_as(mass), magnitude.view_as(mass), self._tolerance)

    @cached_property
    def _tolerance(self) -> float:
        """That of the coarsest type: parts of a float64 network may compute in float32, as many norms do."""
        return max(TOLERANCE.get(step.value.dtype, 0.0) for step in self.tape.steps)

    def _spread_over_fields(
        self, request: Request, scores: Tensor, mass: Tensor, window: Window | None
    ) -> Tensor | None:
        """Add bias mass to maps; returns what of it lies outside windows: that of units that see nothing."""
        fields = self._fields(request)
        outside = torch.zeros_like(mass)
        for example in range(len(scores)):
            own = fields[example if len(fields) > 1 else 0]
            if window is None:
                grid = position_shape(self.tape.input, self.tape.sequence)
                weights = self.features.spread(field_weights(own, grid, None, scores.dtype))
                weights = weights[example if len(weights) > 1 else 0].view_as(scores[example])
            else:
                weights = field_weights(own, self.tape.input.shape[2:], window.of(example), scores.dtype)
                weights = weights.view_as(scores[example])
                left = mass[example] * (1 - weights.flatten(1).sum(1))
                outside[example] = torch.where(_sees(own), 0, left)
            scores[example] += weights * mass[example].view(-1, *[1] * (scores.dim() - 2))
        return None if window is None else outside


def check(finished: Finished, engine: str, options: Options) -> Relevance:
    """A result whose maps are complete; warns, or raises if ``strict``, where one is not."""
    result, sums, magnitude, tolerance = finished
    if engine == "rows":
        tolerance = max(tolerance, TOLERANCE[options.storage], PRECISION_TOLERANCE[options.precision])
    check_completeness(result, sums, magnitude, tolerance, options.strict)
    return result


def field_weights(
    fields: Tensor, grid: torch.Size, window: tuple[Tensor, tuple[int, int]] | None, dtype: torch.dtype
) -> Tensor:
    """Weights ``[1, K, N]`` (or crops of them) that spread a unit's bias mass evenly over its receptive field; over
    all of the input for a unit that sees none of it. ``fields`` is ``[4, K]``."""
    device = fields.device
    height, width = grid if len(grid) == 2 else (1, grid.numel())
    whole = torch.tensor([0, 0, height, width], device=device)[:, None]
    y0, x0, y1, x1 = (side[:, None, None] for side in torch.where(_sees(fields), fields, whole))
    corner, size = (torch.zeros(1, 2, dtype=torch.int64, device=device), (height, width)) if window is None else window
    row = corner[:, 0, None, None] + torch.arange(size[0], device=device)[:, None]
    column = corner[:, 1, None, None] + torch.arange(size[1], device=device)
    inside = (row >= y0) & (row < y1) & (column >= x0) & (column < x1)  # [K, h, w]
    return (inside.to(dtype) / ((y1 - y0) * (x1 - x0))).flatten(1)[None]


def _sees(fields: Tensor) -> Tensor:
    """Which of the units with receptive fields ``[4, K]`` see anything, bool ``[K]``."""
    return (fields[2] > fields[0]) & (fields[3] > fields[1])


def union_boxes(units: Units, boxes: Tensor, example: int = 0) -> Tensor:
    """Receptive fields ``[4, K]`` of the units from those of all, ``[4, 1, *shape]``; of a sum the hull."""
    if units.flat is None:
        flat = boxes.reshape(4, units.shape[0], -1)
        return torch.cat([flat[:2].amin(2), flat[2:].amax(2)])
    chosen = units.flat[example if len(units.flat) > 1 else 0]
    return boxes.reshape(4, -1)[:, chosen]
