"""Which engine and mode serve a request, from exact multiply counts and the machine's measured rates."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from fwdkern.engine.calibration import rates
from fwdkern.engine.dense import slice_bytes
from fwdkern.engine.features import Features
from fwdkern.engine.memory import format_bytes
from fwdkern.engine.options import Options
from fwdkern.engine.rows import routing
from fwdkern.engine.rows.blocks import make_blocks
from fwdkern.engine.rows.fields import integral_images, sums_inside, windows
from fwdkern.engine.rows.geometry import mirrored_taps, taps
from fwdkern.engine.rows.program import Combination, Node, Product, Program
from fwdkern.engine.tape import Tape
from fwdkern.errors import BackendError, InputError
from fwdkern.ops import native, native_info
from fwdkern.ops.backend import GPU_BACKENDS, gpu_obstacle
from fwdkern.ops.row_program import ALIGNMENT
from fwdkern.rules.convolution import Convolution
from fwdkern.rules.linear import Linear
from fwdkern.rules.matmul import Contraction
from fwdkern.rules.recurrent import Recurrent

# Dense maps in flight: wide enough to fill every core, small enough to stay near the caches.
DENSE_WORKING_SET = 256 * 2**20
# Sides of pixel tiles, and targets of a pass. On a GPU wide rows fill its tiles; the numbers for it are unmeasured.
TILE_SIDE = {"cpu": 8, "gpu": 16}
REVERSE_CHUNKS = {"cpu": (64, 128), "gpu": (256,)}
# Host seconds for one node of one block.
_HOST = 2e-6
# Fewer slices than this are not worth compiling row lists for.
_FEW = 8
# Host seconds of making them: for a layer, and for one of its units.
_LAYER, _UNIT = 5e-4, 2e-8


@dataclass(frozen=True)
class Way:
    """One way to serve a request.

    Attributes:
        engine: ``"rows"`` or ``"dense"``; mode: ``"forward"`` or ``"reverse"``.
        size: side of the pixel tiles for rows forward, else slices or targets per pass; passes: how many of those.
        multiplies: multiply-adds for the whole batch; seconds: predicted; bytes: held beside the result.
    """

    engine: str
    mode: str
    size: int
    passes: int
    multiplies: float
    seconds: float
    bytes: int


@dataclass(frozen=True)
class Plan:
    """The way chosen, the ways weighed, and why others were not possible. Printing it shows a table."""

    chosen: Way
    ways: list[Way]
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        head = f"{'':2}{'engine':8}{'mode':9}{'size':>6}{'passes':>8}{'multiplies':>13}{'seconds':>10}{'memory':>12}"
        lines = [head]
        for way in self.ways:
            mark = "→ " if way is self.chosen else "  "
            lines.append(
                f"{mark}{way.engine:8}{way.mode:9}{way.size:>6}{way.passes:>8}{way.multiplies:>13.3g}"
                f"{way.seconds:>10.3g}{format_bytes(way.bytes):>12}"
            )
        return "\n".join([*lines, *self.notes])


def rows_backend(tape: Tape, options: Options) -> tuple[str | None, str]:
    """The backend that can carry active rows for this tape, None if there is none, and why. ``"auto"`` stands for
    kernels for GPUs, of which every op then chooses its own.

    Raises:
        BackendError: one that cannot was asked for by name.
    """
    x, asked = tape.input, options.backend
    if asked == "torch":
        return None, "the torch backend was asked for"
    if asked != "auto":
        reason = _rows_obstacle(asked, x, options)
        if reason is not None:
            raise BackendError(f'backend={asked!r} cannot serve this request: {reason}. Use backend="auto"')
        return asked, ""
    reasons = []
    for name in GPU_BACKENDS if x.device.type == "cuda" else ("cpu",):
        reason = _rows_obstacle(name, x, options)
        if reason is None:
            return ("cpu" if name == "cpu" else "auto"), ""
        reasons.append(reason)
    return None, "; ".join(dict.fromkeys(reasons))


def _rows_obstacle(name: str, x: Tensor, options: Options) -> str | None:
    if x.dtype is not torch.float32:
        return f"active rows are float32, the input is {str(x.dtype).removeprefix('torch.')}"
    if name != "cpu":
        return gpu_obstacle(name, "gathered_gemm", x.device, options.storage)
    if x.device.type != "cpu":
        return f"the compiled library runs on the CPU, the input is on {x.device}"
    if not native_info()["built"]:
        return f"the compiled library is absent ({native_info()['reason']})"
    return None


def plan_dense(tape: Tape, steps: list[int], slices: int, targets: int, options: Options) -> list[Way]:
    """The dense engine's ways for a batch."""
    macs = dense_multiplies(tape, steps)
    each = max(slice_bytes(tape, steps), 1)
    rate = rates(torch.get_num_threads(), str(tape.input.device)).dense
    ways = []
    for mode, work in (("forward", slices), ("reverse", targets)):
        room = min(DENSE_WORKING_SET, options.memory)
        size = max(1, min(work, room // each))
        passes = -(-work // size)
        extra = passes if mode == "forward" else 0  # each forward pass carries a slice of bias mass
        total = macs * (work + extra)
        ways.append(Way("dense", mode, size, passes, total, total / rate, each * size))
    return ways


def dense_multiplies(tape: Tape, steps: list[int]) -> float:
    """Multiply-adds of one slice through all layers up to some steps, for the whole batch."""
    total = 0.0
    for i in tape.ancestors(steps)[1:]:
        step = tape.steps[i]
        each = 1
        if isinstance(step.frozen, (Recurrent, Contraction)):
            total += step.frozen.multiplies
            continue
        if isinstance(step.frozen, Convolution):
            weight = step.frozen.weight
            each = weight[0].numel() if not step.frozen.transposed else weight.numel() // weight.shape[1]
        elif isinstance(step.frozen, Linear):
            each = step.frozen.weight.shape[1]
        total += each * step.value.numel()
    return total


def plan_rows(
    tape: Tape, program: Program, features: Features, targets: int, batch: int, options: Options, backend: str
) -> list[Way]:
    """The row engine's ways, from the first input's row lists for a batch of similar ones.

    A reverse pass whose targets do not reach all rows does less than is counted here.
    """
    kind = "cpu" if backend == "cpu" else "gpu"
    rate, side = rates(torch.get_num_threads(), str(tape.input.device)), TILE_SIDE[kind]
    # A GPU takes as many blocks side by side as memory admits, but at least one.
    workers = native.threads() if backend == "cpu" else 1
    precision = options.precision if backend != "cpu" else None
    counts, each = Counts(program, precision), options.storage.itemsize
    ways = []
    x = tape.input[0]
    blocks = make_blocks(features, tuple(x.shape), features.labels[0], side)
    reached = windows(tape, list(program.nodes), blocks, None if features.kind == "segments" else side)
    work, gathered, widest = counts.forward(reached, torch.tensor([len(block.ids) for block in blocks], device="cpu"))
    seconds = work / rate.rows + gathered * rate.gather + len(blocks) * len(program.nodes) * _HOST
    held = min(workers, len(blocks)) * _held(program, widest * each, features.count)
    ways.append(Way("rows", "forward", side, len(blocks), work * batch, seconds * batch, held))
    total = counts.total
    rows = sum(len(node.rows) for node in program.nodes.values() if node.source is None)
    for chunk in REVERSE_CHUNKS[kind]:
        size = chunk_size(targets, min(chunk, options.memory // max(each * rows * workers, 1)))
        passes = -(-targets // size)
        seconds = total * targets / rate.rows + passes * (total * rate.gather + len(program.nodes) * _HOST)
        held = min(workers, passes) * _held(program, rows * size * each, targets)
        ways.append(Way("rows", "reverse", size, passes, float(total * targets * batch), seconds * batch, held))
        if targets <= chunk:
            break
    return ways


def chunk_size(targets: int, most: int) -> int:
    """Targets of one pass: as equal as whole vectors can be, so that threads end together, and at least two passes
    where each has a vector."""
    most = max(1, min(targets, most))
    passes = max(-(-targets // most), 2 if targets >= 2 * ALIGNMENT else 1)
    even = -(-targets // passes)
    vectors = min(-(-even // ALIGNMENT), most // ALIGNMENT)
    return vectors * ALIGNMENT or even


def _held(program: Program, maps: int, slices: int) -> int:
    """Bytes that one block's pass holds, its maps and numbers."""
    return maps + 4 * (program.row_count + slices)


def product_of(term: Product, node: Node, program: Program) -> routing.Product:
    """A product as the choice of its route sees it."""
    parent, shape = program.nodes[term.parent].rows, tuple(term.weight.shape)
    units = [rows.channels * rows.grid[0] * rows.grid[1] for rows in (parent, node.rows)]
    return routing.Product(len(parent), units[0], len(node.rows), units[1], shape, term.groups)


def dense_products(tape: Tape, program: Program, options: Options) -> str:
    """Which layers' products a GPU does dense, as a note; "" for none."""
    found = []
    for node in program.nodes.values():
        for term in node.terms:
            if isinstance(term, Product):
                product = product_of(term, node, program)
                if routing.route(product, options.precision) == "dense":
                    found.append("{} ({:.2f} x {:.2f})".format(tape.steps[node.step].name, *product.densities))
    return f"dense products, by density: {', '.join(found)}" if found else ""


class Counts:
    """Multiply-adds of a program, counted from its row lists.

    ``precision``: of a GPU's products, of which those with nearly all rows are done dense; None where all gather.

    Attributes:
        total: multiply-adds per slice of all rows.
    """

    def __init__(self, program: Program, precision: str | None = None) -> None:
        self._program, self._precision = program, precision
        self._rows: dict[int, Tensor] = {}
        self._terms: dict[int, list[Tensor]] = {}
        self.total = 0
        for i, node in program.nodes.items():
            if node.source is not None:
                continue  # its readers read what it copies
            self._rows[i] = integral_images(node.rows.offset.diff().view(1, *node.rows.grid))
            self._terms[i] = [integral_images(self._pairs(term, node)) for term in node.terms]
            self.total += sum(int(integral[:, -1, -1].sum()) for integral in self._terms[i])

    def forward(self, reached: Tensor, slices: Tensor) -> tuple[float, float, int]:
        """Multiply-adds of all blocks, weights gathered, and floats of the widest block.

        Args:
            reached: windows int64 ``[blocks, nodes, 4]``; slices: int64 ``[blocks]``.
        """
        number = {i: k for k, i in enumerate(self._program.nodes)}
        floats = torch.zeros_like(slices)
        gathered = torch.zeros_like(slices)
        for i, rows in self._rows.items():
            own = reached[:, number[i]]
            floats += sums_inside(rows, own[:, None]) * slices
            for term, pairs in zip(self._program.nodes[i].terms, self._terms[i], strict=True):
                inside = own[:, None]
                if isinstance(term, Product) and not self._is_dense(term, self._program.nodes[i]):
                    inside = _readers(term, own, reached[:, number[term.parent]])
                gathered += sums_inside(pairs, inside)
        return float((gathered * slices).sum()), float(gathered.sum()), int(floats.max())

    def _is_dense(self, term: Product, node: Node) -> bool:
        return (
            self._precision is not None
            and routing.route(product_of(term, node, self._program), self._precision) == "dense"
        )

    def _pairs(self, term: Product | Combination, node: Node) -> Tensor:
        if isinstance(term, Product) and self._is_dense(term, node):
            return torch.full((1, *node.rows.grid), term.weight.numel(), dtype=torch.int64)
        return _pairs(term, node, self._program)


def _pairs(term: Product | Combination, node: Node, program: Program) -> Tensor:
    """Multiply-adds per slice of every position of a node's grid: of a product through every tap ``[T, H, W]``, of a
    combination ``[1, H, W]``."""
    own = node.rows.offset.diff()
    if isinstance(term, Combination):
        return term.offset[node.rows.offset].diff().view(1, *node.rows.grid)
    parent = program.nodes[term.parent].rows
    table = (mirrored_taps if term.mirrored else taps)(term.geometry, node.rows.whole, parent.whole).T
    # A tap that reads nothing, -1, picks the zero at the end.
    count = torch.cat([parent.offset.diff(), torch.zeros(1, dtype=torch.int64)])
    return (count[table] * own // term.groups).view(-1, *node.rows.grid)


def _readers(term: Product, own: Tensor, parent: Tensor) -> Tensor:
    """The positions inside windows ``own`` ``[blocks, 4]`` that read positions inside windows ``parent`` through each
    tap, as rectangles ``[blocks, T, 4]``."""
    sides = []
    for axis in (0, 1):
        kernel, stride, padding, dilation = (side[axis] for side in term.geometry)
        shift = torch.arange(kernel, device=own.device) * dilation - padding
        low, high = parent[:, 2 * axis, None], parent[:, 2 * axis + 1, None]  # [blocks, 1]
        if term.mirrored:
            first, last = low * stride + shift, (high - 1) * stride + shift + 1
        else:
            first, last = -((shift - low) // stride), -((shift - high) // stride)
        bounds = own[:, None, 2 * axis : 2 * axis + 2]  # [blocks, 1, 2]
        first = torch.maximum(first, bounds[..., 0])
        sides.append((first, torch.maximum(torch.minimum(last, bounds[..., 1]), first)))
    (y0, y1), (x0, x1) = sides
    shape = (len(own), y0.shape[1], x0.shape[1])
    wide = [y0[:, :, None], y1[:, :, None], x0[:, None, :], x1[:, None, :]]
    return torch.stack([side.expand(shape).flatten(1) for side in wide], 2)


def choose(ways: list[Way], options: Options, notes: list[str]) -> Plan:
    """The way predicted to be fastest among those that the options allow and memory admits."""
    allowed = [way for way in ways if options.mode in ("auto", way.mode)]
    if options.backend not in ("auto", "torch"):
        allowed = [way for way in allowed if way.engine == "rows"]
        if not allowed:
            problem = "; ".join(notes)
            raise BackendError(f'backend={options.backend!r} cannot serve this request: {problem}. Use backend="auto"')
    fitting = [way for way in allowed if way.bytes <= options.memory]
    if not fitting:
        least = min(allowed, key=lambda way: way.bytes)
        raise InputError(
            f"the request needs at least {format_bytes(least.bytes)} beside its result, more than "
            f"memory={format_bytes(options.memory)}; allow more, or ask for fewer inputs at a time"
        )
    return Plan(min(fitting, key=lambda way: way.seconds), ways, notes)


def worth_rows(tape: Tape, steps: list[int], ways: list[Way], slices: int, targets: int) -> bool:
    """Whether row lists can pay: enough slices to share each gathered weight, and dense work that takes longer than
    making the lists of the first input and as long again for what they save."""
    order = tape.ancestors(steps)
    lists = len(order) * _LAYER + sum(tape.steps[i].value[0].numel() for i in order) * _UNIT
    seconds = min(way.seconds for way in ways) / len(tape.input)
    return min(slices, targets) >= _FEW and seconds > 2 * lists
