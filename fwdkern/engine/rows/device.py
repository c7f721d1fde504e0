"""A pass on any device, layer by layer through the ops: kernels for GPUs on one, references elsewhere.

Blocks go through a layer side by side, so that one call serves many tiles: its positions are all positions of all
blocks' windows, its rows those of these positions. Which rows these are is found on the device; the host knows only
how many, from sums over the row lists that it reads once, so that no call waits for another.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from fwdkern.engine.rows import routing
from fwdkern.engine.rows.fields import integral_images, sums_inside
from fwdkern.engine.window import crop
from fwdkern.ops import gathered_gemm, row_combine
from fwdkern.ops.contract import contract
from fwdkern.ops.gathered_gemm import Terms, list_terms
from fwdkern.ops.row_program import ALIGNMENT, CombinationTerm, ProductTerm, RowNode, RowPass, Sink, places
from fwdkern.ops.seed import seed

T = TypeVar("T")


@dataclass
class _Lists:
    """The windows of a node in some blocks: ``tile`` and ``position`` ``[positions]``, ``offset`` ``[positions + 1]``,
    and of each row its ``row_tile``, its number ``row`` in the node and its ``channel``; ``base``: its first row in the
    arena."""

    tile: Tensor
    position: Tensor
    offset: Tensor
    row_tile: Tensor
    row: Tensor
    channel: Tensor
    base: int


class _Inputs(NamedTuple):
    """What a product of a batch reads: ``taps`` int32 ``[positions, T]``, ``weight``, ``places`` int32 of the parent's
    rows where they are copies, and ``terms`` where a list of them is kept."""

    taps: Tensor
    weight: Tensor
    places: Tensor | None
    terms: Terms | None


class DevicePass:
    """A pass ready to run on the device of its lists.

    Args:
        storage: dtype of rows; backend: of the ops, "auto" where each chooses by its shapes; precision: of their
            products; memory: bytes that rows and lists may take, unless one block alone needs more.
    """

    def __init__(self, carried: RowPass, storage: torch.dtype, backend: str, precision: str, memory: int) -> None:
        self.nodes, self.seeds, self.sinks = carried.nodes, carried.seeds, carried.sinks
        self.storage, self.backend, self.precision, self.memory = storage, backend, precision, memory
        self.device = carried.seeds.slice.device
        nodes, blocks, slice_count = carried.nodes, carried.blocks, carried.slice_count
        self.sizes = [len(block) for block in blocks]
        width = max(self.sizes)
        self.width = -(-width // ALIGNMENT) * ALIGNMENT
        # [blocks, width], −1 beyond a block's last slice.
        self.slices = torch.stack([F.pad(block, (0, self.width - len(block)), value=-1) for block in blocks]).long()
        self.windows = carried.windows.cpu().expand(len(blocks), -1, -1)
        self._rows_in = torch.stack([self._count(n, node.offset.diff()) for n, node in enumerate(nodes)], 1)
        self._terms_in = [[self._count_terms(n, term) for term in node.terms] for n, node in enumerate(nodes)]
        held = torch.tensor([node.source is None for node in nodes], device="cpu")
        self._held_rows = (self._rows_in * held).sum(1)  # [blocks]
        self._routes = [[self._route(node, term) for term in node.terms] for node in nodes]
        self._places = [[places(nodes, term) for term in node.terms] for node in nodes]
        # Of every row of all nodes: its node, its position, and its number among the rows of the position.
        self._node_of = torch.cat([torch.full_like(node.channel, n, dtype=torch.int64) for n, node in enumerate(nodes)])
        position = [
            torch.arange(len(node.offset) - 1, device=self.device).repeat_interleave(
                node.offset.diff(), output_size=len(node.channel)
            )
            for node in nodes
        ]
        self._position_of = torch.cat(position)
        self._rank_of = torch.cat(
            [
                torch.arange(len(own), device=self.device) - node.offset[own]
                for node, own in zip(nodes, position, strict=True)
            ]
        )
        self._line = torch.tensor([node.grid[1] for node in nodes], device=self.device)
        # Where each slice stands: its block and its column.
        block_of = torch.full((slice_count + 1,), -1, device=self.device)
        column_of = torch.full((slice_count + 1,), -1, device=self.device)
        place = torch.arange(self.slices.numel(), device=self.device)
        block_of[self.slices.flatten()] = place // self.width
        column_of[self.slices.flatten()] = place % self.width
        block_of[slice_count] = column_of[slice_count] = -1  # what padding wrote, and where slice −1 looks
        self._block_of, self._column_of = block_of, column_of

    def run(self) -> None:
        """Fill the results, as many blocks at a time as memory admits."""
        each = self._held_rows * self.width * self.storage.itemsize + 64 * self._rows_in.sum(1) + self._dense_bytes()
        reverse = any(sink.transposed for sink in self.sinks)
        if reverse:
            # All chunks of targets meet the same rows, so that lists are made once.
            batch = _Batch(self, 0, 1, keeps=len(self.slices) > 1)
            for block in range(len(self.slices)):
                batch.first, batch.last = block, block + 1
                batch.run()
            return
        first = 0
        while first < len(self.slices):
            fitting = int((each[first:].cumsum(0) <= self.memory).sum())
            last = first + max(1, fitting)
            _Batch(self, first, last).run()
            first = last

    def _route(self, node: RowNode, term: ProductTerm | CombinationTerm) -> routing.Route:
        if isinstance(term, CombinationTerm):
            return "gathered"
        parent, (_, inputs, outputs) = self.nodes[term.parent], term.weight.shape
        units = (len(parent.offset) - 1) * inputs, (len(node.offset) - 1) * outputs * term.groups
        rows = len(parent.channel), len(node.channel)
        product = routing.Product(rows[0], units[0], rows[1], units[1], tuple(term.weight.shape), term.groups)
        return routing.route(product, self.precision)

    def _dense_bytes(self) -> Tensor:
        """What the outputs of the widest dense product of each block take, int64 ``[blocks]``."""
        area = (self.windows[..., 1] - self.windows[..., 0]) * (self.windows[..., 3] - self.windows[..., 2])
        widest = torch.zeros_like(area[:, 0])
        for n, routes in enumerate(self._routes):
            for term, chosen in zip(self.nodes[n].terms, routes, strict=True):
                if chosen == "dense":
                    widest = torch.maximum(widest, area[:, n] * term.weight.shape[2])  # type: ignore[union-attr]
        return widest * self.width * 4

    def _count(self, n: int, each: Tensor) -> Tensor:
        """Sums of what a node has ``each`` ``[positions]`` inside its windows, int64 ``[blocks]``, on the host."""
        return sums_inside(integral_images(each.view(1, *self.nodes[n].grid)), self.windows[:, n, None])

    def _count_terms(self, n: int, term: ProductTerm | CombinationTerm) -> Tensor | None:
        """Terms of a combination inside each block's window, int64 ``[blocks]``."""
        if isinstance(term, ProductTerm):
            return None
        node = self.nodes[n]
        return self._count(n, term.offset[node.offset].diff())


class _Batch:
    """Blocks first .. last of a pass, side by side. One that ``keeps`` its lists can run again for other blocks with
    the same windows."""

    def __init__(self, whole: DevicePass, first: int, last: int, keeps: bool = False) -> None:
        self.whole, self.first, self.last = whole, first, last
        self._kept: dict[Any, Any] | None = {} if keeps else None
        self._room = whole.memory // 8  # for lists of terms
        windows = whole.windows[first:last]  # [tiles, nodes, 4], on the host
        area = (windows[..., 1] - windows[..., 0]) * (windows[..., 3] - windows[..., 2])
        self._area = area.to(whole.device)
        # A tile's positions begin here among those of its node, and a node's among those of all.
        self._tile_base = (area.cumsum(0) - area).to(whole.device)
        node_base = F.pad(area.sum(0).cumsum(0), (1, 0))
        self._node_base = node_base.to(whole.device)
        self._window = windows.to(whole.device)
        self.lists: list[_Lists] = []
        used = 1  # row 0 of the arena is zero
        starts = []
        for n, node in enumerate(whole.nodes):
            lists = self._list(n, node, int(area[:, n].sum()), int(whole._rows_in[first:last, n].sum()), used)
            self.lists.append(lists)
            starts.append(lists.offset[:-1] + used)
            if node.source is None:
                used += len(lists.row)
        self._start = torch.cat(starts)
        self.arena = torch.empty(used, whole.width, dtype=whole.storage, device=whole.device)
        self.arena[0] = 0

    def _list(self, n: int, node: RowNode, positions: int, rows: int, base: int) -> _Lists:
        device, window = self.whole.device, self._window[:, n]
        tile = torch.arange(len(window), device=device).repeat_interleave(self._area[:, n], output_size=positions)
        within = torch.arange(positions, device=device) - self._tile_base[tile, n]
        y0, _, x0, x1 = window[tile].unbind(1)
        position = (y0 + within // (x1 - x0)) * node.grid[1] + x0 + within % (x1 - x0)
        count = node.offset[position + 1] - node.offset[position]
        offset = F.pad(count.cumsum(0), (1, 0))
        shift = (node.offset[position] - offset[:-1]).repeat_interleave(count, output_size=rows)
        row = shift + torch.arange(rows, device=device)
        row_tile = tile.repeat_interleave(count, output_size=rows)
        return _Lists(tile, position, offset, row_tile, row, node.channel[row], base)

    def _once(self, key: Any, make: Callable[[], T]) -> T:
        """What ``make`` gives, made at most once by a batch that keeps."""
        if self._kept is None:
            return make()
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def _local(self, tile: Tensor, n: Tensor | int, position: Tensor) -> Tensor:
        """The place of a node's positions among its positions in this batch, −1 where they lie outside the tile's
        window."""
        y0, y1, x0, x1 = self._window[tile, n].unbind(-1)
        line = self.whole._line[n]
        y, x = position // line, position % line
        inside = (y >= y0) & (y < y1) & (x >= x0) & (x < x1)
        local = self._tile_base[tile, n] + (y - y0) * (x1 - x0) + x - x0
        return torch.where(inside, local, -1)

    def _locate(self, tile: Tensor, row: Tensor) -> Tensor:
        """Where the arena holds rows by their numbers among the rows of all nodes, int32; 0, the zero row, for those
        outside their windows."""
        whole = self.whole
        n = whole._node_of[row]
        local = self._local(tile, n, whole._position_of[row])
        start = self._start[(local.clamp_min(0) + self._node_base[n])]
        return torch.where(local >= 0, start + whole._rank_of[row], 0).to(torch.int32)

    def run(self) -> None:
        for n, node in enumerate(self.whole.nodes):
            sinks = [sink for sink in self.whole.sinks if sink.node == n]
            if any(sink.transposed for sink in sinks):
                self._turn_over(n, sinks)
                continue
            if node.source is None:
                self._fill(n, node)
            for sink in sinks:
                self._deliver(n, sink)

    def _rows(self, n: int) -> Tensor:
        lists = self.lists[n]
        return self.arena[lists.base : lists.base + len(lists.row)]

    def _fill(self, n: int, node: RowNode) -> None:
        lists, out, begun = self.lists[n], self._rows(n), False
        if n == self.whole.seeds.node:
            self._seed(lists, out)
            return
        for k, term in enumerate(node.terms):
            if isinstance(term, ProductTerm):
                multiply = self._multiply if self.whole._routes[n][k] == "gathered" else self._multiply_dense
                multiply(n, k, term, out, begun)
            else:
                terms = self._once((n, k), functools.partial(self._combination, n, k, term))
                row_combine(self.arena[: lists.base], *terms, accumulate=begun, out=out, backend=self.whole.backend)
            begun = True

    def _seed(self, lists: _Lists, out: Tensor) -> None:
        whole = self.whole
        own = whole.seeds.slice[lists.row].long()  # −1 looks at the last entry
        here = whole._block_of[own] == lists.row_tile + self.first
        column = torch.where(here, whole._column_of[own], -1).to(torch.int32)
        value = whole.seeds.value[lists.row].to(_coefficients(whole.storage))
        seed(value, column, out, backend=whole.backend)

    def _taps(self, lists: _Lists, term: ProductTerm) -> Tensor:
        """A product's taps in this batch: positions of the parent, −1 for none, int64 ``[positions, T]``."""
        table = term.taps[lists.position].long()
        local = self._local(lists.tile[:, None].expand_as(table), term.parent, table.clamp_min(0))
        return torch.where(table >= 0, local, -1)

    def _multiply_dense(self, n: int, k: int, term: ProductTerm, out: Tensor, accumulate: bool) -> None:
        whole, lists, parent = self.whole, self.lists[n], self.lists[term.parent]
        source = whole.nodes[term.parent].source
        if source is None:
            rows = torch.arange(len(parent.row), device=whole.device) + parent.base
        else:
            rows = self._locate(parent.row_tile, source[parent.row].long()).long()
        place = rows.new_zeros(len(parent.position), term.weight.shape[1])
        place[_positions_of(parent), parent.channel.long()] = rows
        dtype = _coefficients(whole.storage)
        found = routing.dense_product(
            self.arena[: lists.base],
            place,
            self._taps(lists, term),
            term.weight.to(dtype),
            _positions_of(lists),
            lists.channel,
            whole.precision,
        )
        if term.scale is not None:
            found *= term.scale[lists.row].to(dtype)[:, None]
        out.copy_(found + out if accumulate else found)

    def _multiply(self, n: int, k: int, term: ProductTerm, out: Tensor, accumulate: bool) -> None:
        whole, lists, parent = self.whole, self.lists[n], self.lists[term.parent]
        inputs = self._once((n, k), functools.partial(self._inputs, lists, term))
        gathered_gemm(
            self._read(lists, term, inputs.places),
            (parent.offset, parent.channel),
            (lists.offset, lists.channel),
            inputs.taps,
            inputs.weight,
            row_scale=None if term.scale is None else term.scale[lists.row].to(inputs.weight.dtype),
            groups=term.groups,
            accumulate=accumulate,
            out=out,
            in_index=inputs.places,
            precision=whole.precision,
            terms=inputs.terms,
            backend=whole.backend,
        )

    def _read(self, lists: _Lists, term: ProductTerm, places: Tensor | None) -> Tensor:
        """The maps that a product reads: its parent's rows, or those before its own, where they are copies."""
        return self._rows(term.parent) if places is None else self.arena[: lists.base]

    def _inputs(self, lists: _Lists, term: ProductTerm) -> _Inputs:
        whole, parent = self.whole, self.lists[term.parent]
        source = whole.nodes[term.parent].source
        index = None if source is None else self._locate(parent.row_tile, source[parent.row].long())
        taps, weight = self._taps(lists, term).to(torch.int32), term.weight.to(_coefficients(whole.storage))
        terms = None
        if self._kept is not None:
            terms = list_terms(
                self._read(lists, term, index),
                (parent.offset, parent.channel),
                taps,
                weight,
                groups=term.groups,
                in_index=index,
                precision=whole.precision,
                most=self._room,
                backend=whole.backend,
            )
            self._room -= terms.nbytes if terms else 0
        return _Inputs(taps, weight, index, terms)

    def _combination(self, n: int, k: int, term: CombinationTerm) -> tuple[Tensor, Tensor, Tensor]:
        """A combination's terms in this batch: offset, rows of the arena, coefficients."""
        whole, lists = self.whole, self.lists[n]
        inside = whole._terms_in[n][k]
        assert inside is not None
        total = int(inside[self.first : self.last].sum())
        count = term.offset[lists.row + 1] - term.offset[lists.row]
        offset = F.pad(count.cumsum(0), (1, 0))
        shift = (term.offset[lists.row] - offset[:-1]).repeat_interleave(count, output_size=total)
        entry = shift + torch.arange(total, device=whole.device)
        tile = lists.row_tile.repeat_interleave(count, output_size=total)
        place = whole._places[n][k]
        assert place is not None
        index = self._locate(tile, place[entry].long())
        return offset, index, term.coefficient[entry].to(_coefficients(whole.storage))

    def _turn_over(self, n: int, sinks: list[Sink]) -> None:
        """Reverse mode's last node, a combination, written as maps: one row a target."""
        (sink,) = sinks
        (term,) = self.whole.nodes[n].terms
        assert isinstance(term, CombinationTerm)
        terms = self._once((n, 0), functools.partial(self._combination, n, 0, term))
        targets = self.whole.slices[self.first, : self.whole.sizes[self.first]]
        pulled = contract(self.arena[:, : len(targets)], *terms, backend=self.whole.backend)  # [targets, rows]
        columns = sink.result.shape[1] if sink.origin is None else len(sink.slot)
        maps = sink.result.new_zeros(len(targets), columns)
        maps[:, sink.slot[self.lists[n].row]] = pulled.to(maps.dtype)
        if sink.origin is not None:
            size = (sink.result.shape[1], sink.result.shape[2])
            maps = crop(maps[None], sink.origin[None, targets], size, sink.image)[0]
        sink.result[targets] = maps

    def _deliver(self, n: int, sink: Sink) -> None:
        lists = self.lists[n]
        slot = sink.slot[lists.row][:, None]
        slices = self.whole.slices[self.first : self.last][lists.row_tile]  # [rows, width]
        there = (slot >= 0) & (slices >= 0)
        if sink.origin is None:
            place = slot * sink.result.shape[1] + slices
        else:
            height, width = sink.result.shape[1:]
            corner = sink.origin[slot.clamp_min(0).squeeze(1)]
            y, x = slices // sink.image - corner[:, :1], slices % sink.image - corner[:, 1:]
            there &= (y >= 0) & (y < height) & (x >= 0) & (x < width)
            place = (slot * height + y) * width + x
        # A row's element outside every window adds nothing to the first element.
        maps = torch.where(there, self._rows(n).to(sink.result.dtype), 0)
        sink.result.view(-1).index_add_(0, torch.where(there, place, 0).flatten(), maps.flatten())


def _positions_of(lists: _Lists) -> Tensor:
    """The place of each row's position among those of its node in a batch, int64 ``[rows]``."""
    place = torch.arange(len(lists.position), device=lists.offset.device)
    return place.repeat_interleave(lists.offset.diff(), output_size=len(lists.row))


def _coefficients(storage: torch.dtype) -> torch.dtype:
    return torch.float64 if storage is torch.float64 else torch.float32
