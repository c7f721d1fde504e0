"""The batch in a captured graph: first and alone in every value, as all rules want it.

Attention by windows folds windows into the batch dimension (``[B, H, W, C]`` to ``[B · windows, positions, C]``), and
torch's multi-head attention folds heads into it and moves it behind the tokens. Each such operator becomes the one
that does the same with the batch first and the rest beside it: ``[B, windows, positions, C]``.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, fx
from torch._dispatch.python import enable_python_dispatcher

from fwdkern.graph.nodes import is_whole_slice

aten = torch.ops.aten

_RESHAPES = {
    aten.view.default,
    aten.reshape.default,
    aten._unsafe_view.default,
    aten.flatten.using_ints,
    aten.unflatten.int,
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.unsqueeze.default,
}
_PERMUTATIONS = {aten.permute.default, aten.transpose.int, aten.t.default, aten.movedim.intlist, aten.numpy_T.default}
_COPIES = {aten.clone.default, aten.contiguous.default, aten.dropout.default, aten._to_copy.default, aten.to.dtype}
# Operators along some dimensions, by the place of that argument, that keep the rank; then those that may lower it.
_ALONG: dict[Any, int] = {
    aten.softmax.int: 1,
    aten._softmax.default: 1,
    aten.slice.Tensor: 1,
    aten.roll.default: 2,
    aten.flip.default: 1,
    aten.index_select.default: 1,
}
_LOWERING: dict[Any, int] = {
    aten.select.int: 1,
    aten.mean.dim: 1,
    aten.sum.dim_IntList: 1,
    aten.amax.default: 1,
    aten.linalg_vector_norm.default: 2,
}
# Of their operand they take the dtype and the device.
_MADE = {aten.new_zeros.default, aten.new_ones.default, aten.new_full.default}
_PRODUCTS = {aten.matmul.default, aten.bmm.default, aten.mm.default}


@dataclass(frozen=True)
class _Place:
    """Where the batch lies in a value: dimension ``dim`` is outer · B · inner. The value with the batch first has
    ``[B, *before, outer, inner, *behind]``, without an outer or inner of 1."""

    dim: int = 0
    outer: Any = 1
    inner: Any = 1

    @property
    def split(self) -> list[Any]:
        return [size for size in (self.outer, self.inner) if _hint(size) != 1]

    @property
    def plain(self) -> bool:
        return self.dim == 0 and not self.split

    def moved(self, dim: int) -> int:
        """Where another dimension is with the batch first."""
        if dim == self.dim:
            raise _Stays
        return dim + 1 if dim < self.dim else dim + len(self.split)

    def shape(self, batch: Any, sizes: list[Any]) -> list[Any]:
        return [batch, *sizes[: self.dim], *self.split, *sizes[self.dim + 1 :]]


class _Stays(Exception):
    """The operator is left as it is; if it cannot be explained so, its rule says why."""


def separate_batch(module: fx.GraphModule) -> tuple[int, ...]:
    """Rewrite operators on values in which the batch is not the first dimension alone.

    The graph then returns each value with the batch first. What is returned here says to which dimension of each the
    batch has to be moved for the model's own output.
    """
    separation = _Separation(module)
    separation.run()
    moved = separation.turn_outputs()
    module.graph.eliminate_dead_code()
    return moved


class _Separation:
    def __init__(self, module: fx.GraphModule) -> None:
        self.graph = module.graph
        self.places: dict[fx.Node, _Place] = {}
        self.first: dict[fx.Node, fx.Node] = {}  # a node's value with the batch first
        self.fakes: Any = None  # the mode that the values of the trace belong to
        self.sizes: dict[Any, Any] = {}  # the node that computes a symbolic size

    def run(self) -> None:
        source = next(node for node in self.graph.nodes if node.op == "placeholder")
        self.batch = source.meta["val"].shape[0]
        self.fakes = getattr(source.meta["val"], "fake_mode", None)
        self._track(source, source, _Place())
        if not isinstance(self.batch, int):
            with self.graph.inserting_after(source):
                size = self.graph.call_function(aten.sym_size.int, (source, 0))
            size.meta["val"] = self.batch
        node: Any
        for node in list(self.graph.nodes):
            value = node.meta.get("val")
            if isinstance(value, torch.SymInt):
                self.sizes.setdefault(value.node.expr, node)
            tracked = [given for given in node.all_input_nodes if given in self.places]
            if node.op != "call_function" or not tracked or not isinstance(value, Tensor):
                continue
            if node.target in _MADE:
                node.args = (self.first[node.args[0]], *node.args[1:])
                continue
            if is_whole_slice(node):
                place = self.places[node.args[0]]
                self._track(node, node if place.plain else self.first[node.args[0]], place)
                continue
            if node.target not in _REWRITE and not self._pointwise(node):
                if all(self.places[given].plain for given in tracked):
                    self._track(node, node, _Place())
                continue
            try:
                self._rewrite(node)
            except _Stays:
                if all(self.places[given].plain for given in tracked):
                    self._track(node, node, _Place())

    def turn_outputs(self) -> tuple[int, ...]:
        """Return values with the batch first, where it lies in one dimension of them alone."""
        output = next(node for node in self.graph.nodes if node.op == "output")
        single = not isinstance(output.args[0], (tuple, list))
        leaves: list[Any] = [output.args[0]] if single else list(output.args[0])
        dims = [0] * len(leaves)
        for i, leaf in enumerate(leaves):
            place = self.places.get(leaf, _Place())
            if not place.split:
                leaves[i], dims[i] = self.first.get(leaf, leaf), place.dim
        output.args = (leaves[0] if single else tuple(leaves),)
        return tuple(dims)

    def _pointwise(self, node: Any) -> bool:
        return torch.Tag.pointwise in getattr(node.target, "tags", ()) or node.target in _COPIES

    def _track(self, node: fx.Node, first: fx.Node, place: _Place) -> None:
        self.places[node], self.first[node] = place, first

    def _rewrite(self, node: Any) -> None:
        rewrite = _REWRITE.get(node.target, _Separation._elementwise)
        if node.target is aten.index_select.default and node.args[0] not in self.places:
            raise _Stays  # a table of constants, read at places that depend on the input
        plain = all(self.places[given].plain for given in node.all_input_nodes if given in self.places)
        with self.graph.inserting_before(node):
            place, target, args = rewrite(self, node)
            if plain and place.plain and node.target is not aten.baddbmm.default:
                self._track(node, node, place)
                return
            if _moves_nothing(target, args):
                first = args[0]
            else:
                first = self._call(node, target, args, node.kwargs if target is node.target else {})
        self._track(node, first, place)
        if place.plain:
            node.replace_all_uses_with(first)
            self._track(first, first, place)

    def _call(self, like: fx.Node, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> fx.Node:
        node = self.graph.call_function(target, args, kwargs or {})
        values = fx.map_arg((args, kwargs or {}), lambda n: self._example(n.meta["val"]))
        with self.fakes or nullcontext(), enable_python_dispatcher():
            node.meta = {**like.meta, "val": target(*values[0], **values[1])}
        return node

    def _example(self, value: Any) -> Any:
        """A value of the trace; constants are real tensors, which do not go with its own."""
        if self.fakes is None or not isinstance(value, Tensor) or hasattr(value, "fake_mode"):
            return value
        return self.fakes.from_tensor(value, static_shapes=True)

    def _size(self, size: Any) -> Any:
        """A size as an argument: a number, the node that computes it, or −1."""
        if isinstance(size, int):
            return size
        expression = size.node.expr
        if expression.is_Integer:
            return int(expression)
        if expression in self.sizes:
            return self.sizes[expression]
        batch = set() if isinstance(self.batch, int) else self.batch.node.expr.free_symbols
        return -1 if expression.free_symbols - batch else _hint(size)  # what is not the batch does not depend on it

    def _reshaped(self, like: fx.Node, x: fx.Node, shape: list[Any]) -> fx.Node:
        if [_hint(size) for size in x.meta["val"].shape] == [_hint(size) for size in shape]:
            return x
        return self._call(like, aten.reshape.default, (x, [self._size(size) for size in shape]))

    def _tensor(self, node: fx.Node, operand: Any, place: _Place, rank: int) -> Any:
        """An operand of a broadcast whose result has this place and rank, with the batch first."""
        if not isinstance(operand, fx.Node) or not isinstance(operand.meta.get("val"), Tensor):
            return operand
        sizes = list(operand.meta["val"].shape)
        dim = place.dim - (rank - len(sizes))
        if operand in self.places:
            own = self.places[operand]
            if dim != own.dim or len(sizes) != rank or _hints(own) != _hints(place):
                raise _Stays
            return self.first[operand]
        if place.plain:
            return operand
        if dim < 0:
            # What stands in front of the batch has to stay in front of it.
            if len(sizes) >= rank - place.dim:
                raise _Stays
            return operand
        if _hint(sizes[dim]) == 1:
            ones = [1] * len(place.split)
            return self._reshaped(node, operand, [1, *[1] * (place.dim - dim), *sizes[:dim], *ones, *sizes[dim + 1 :]])
        if _hint(sizes[dim]) != _hint(place.outer) * _hint(self.batch) * _hint(place.inner) or len(sizes) != rank:
            raise _Stays
        apart = [*sizes[:dim], place.outer, self.batch, place.inner, *sizes[dim + 1 :]]
        wide = self._reshaped(node, operand, apart)
        order = [dim + 1, *(i for i in range(len(apart)) if i != dim + 1)]
        moved = self._call(node, aten.permute.default, (wide, order)) if order != sorted(order) else wide
        return self._reshaped(node, moved, place.shape(self.batch, sizes))

    def _place(self, *operands: Any) -> tuple[_Place, int]:
        """The place of the batch in the result of a broadcast, and its rank: those of the largest operand."""
        values = [operand for operand in operands if isinstance(operand, fx.Node) and operand in self.places]
        if not values:
            raise _Stays
        widest = max(values, key=lambda operand: operand.meta["val"].dim())
        return self.places[widest], widest.meta["val"].dim()

    def _elementwise(self, node: Any) -> tuple[_Place, Any, tuple[Any, ...]]:
        place, rank = self._place(*node.all_input_nodes)
        if rank != node.meta["val"].dim():
            raise _Stays
        return place, node.target, tuple(self._tensor(node, operand, place, rank) for operand in node.args)

    def _reshape(self, node: Any) -> tuple[_Place, Any, tuple[Any, ...]]:
        place, x, out = self.places[node.args[0]], node.args[0].meta["val"], list(node.meta["val"].shape)
        before = prod(x.shape[: place.dim]) * place.outer
        found = _located(_hint(before), _hint(self.batch), [_hint(size) for size in out])
        if found is None:
            raise _Stays
        lead = prod(out[:found])
        new = _Place(found, before // lead, (lead * out[found]) // (before * self.batch))
        sizes = [self._size(size) for size in new.shape(self.batch, out)]
        if sizes.count(-1) > 1:
            raise _Stays
        return new, aten.reshape.default, (self.first[node.args[0]], sizes)

    def _permutation(self, node: Any) -> tuple[_Place, Any, tuple[Any, ...]]:
        x, place = node.args[0], self.places[node.args[0]]
        marks = torch.empty(tuple(range(2, 2 + x.meta["val"].dim())), device="meta")
        order = [size - 2 for size in node.target(marks, *node.args[1:], **node.kwargs).shape]
        halves = list(range(place.dim + 1, place.dim + 1 + len(place.split)))
        wide = [to for dim in order for to in (halves if dim == place.dim else [place.moved(dim)])]
        return (
            _Place(order.index(place.dim), place.outer, place.inner),
            aten.permute.default,
            (self.first[x], [0, *wide]),
        )

    def _along(self, node: Any) -> tuple[_Place, Any, tuple[Any, ...]]:
        x, position = node.args[0], (_ALONG | _LOWERING)[node.target]
        place, rank = self.places[x], x.meta["val"].dim()
        if len(node.args) <= position:
            raise _Stays
        given = node.args[position]
        if given is None or given == []:
            raise _Stays
        dims = [dim % rank for dim in ([given] if isinstance(given, int) else given)]
        moved = [place.moved(dim) for dim in dims]
        args = list(node.args)
        args[0], args[position] = self.first[x], moved[0] if isinstance(given, int) else moved
        gone = sum(dim < place.dim for dim in dims) if node.meta["val"].dim() < rank else 0
        return _Place(place.dim - gone, place.outer, place.inner), node.target, tuple(args)

    def _concatenation(self, node: Any) -> tuple[_Place, Any, tuple[Any, ...]]:
        parts, dim = node.args[0], node.args[1] if len(node.args) > 1 else 0
        place, rank = self._place(*parts)
        wide = [self._tensor(node, part, place, rank) for part in parts]
        return place, node.target, (wide, place.moved(dim % rank))

    def _expansion(self, node: Any) -> tuple[_Place, Any, tuple[Any, ...]]:
        x, sizes = node.args[0], list(node.meta["val"].shape)
        place, old = self.places[x], list(x.meta["val"].shape)
        if len(sizes) != len(old):
            raise _Stays
        changed = [-1 if _hint(a) == _hint(b) else self._size(b) for a, b in zip(old, sizes, strict=True)]
        wide = [-1, *changed[: place.dim], *[-1] * len(place.split), *changed[place.dim + 1 :]]
        return place, node.target, (self.first[x], wide)

    def _over_last(self, node: Any) -> tuple[_Place, Any, tuple[Any, ...]]:
        """linear, layer_norm and rms_norm, which act on the last dimensions."""
        x, place = node.args[0], self.places.get(node.args[0])
        count = 1 if node.target is aten.linear.default else len(node.args[1])
        if place is None or place.dim >= x.meta["val"].dim() - count:
            raise _Stays
        return place, node.target, (self.first[x], *node.args[1:])

    def _batch_norm(self, node: Any) -> tuple[_Place, Any, tuple[Any, ...]]:
        """In evaluation mode, where the batch is beside positions in front of the channels."""
        x, place = node.args[0], self.places.get(node.args[0])
        if place is None or place.plain or node.args[5]:
            raise _Stays
        channels = place.moved(1)
        order = [0, channels, *(dim for dim in range(1, len(self.first[x].meta["val"].shape)) if dim != channels)]
        moved = self._call(node, aten.permute.default, (self.first[x], order))
        normed = self._call(node, node.target, (moved, *node.args[1:]))
        return place, aten.permute.default, (normed, [order.index(dim) for dim in range(len(order))])

    def _padding(self, node: Any) -> tuple[_Place, Any, tuple[Any, ...]]:
        x, place = node.args[0], self.places[node.args[0]]
        if place.dim >= x.meta["val"].dim() - len(node.args[1]) // 2:
            raise _Stays
        return place, node.target, (self.first[x], *node.args[1:])

    def _product(self, node: Any) -> tuple[_Place, Any, tuple[Any, ...]]:
        return self._matmul(node, *node.args[:2])

    def _matmul(self, node: fx.Node, a: fx.Node, b: fx.Node) -> tuple[_Place, Any, tuple[Any, ...]]:
        place, rank = self._place(a, b)
        ranks = [operand.meta["val"].dim() for operand in (a, b)]
        if a in self.places and b not in self.places and ranks[1] == 2:
            if place.dim == rank - 1:
                raise _Stays
            return place, aten.matmul.default, (self.first[a], b)
        if place.dim == rank - 1 and not place.split and a not in self.places and ranks[0] == 2:
            # A matrix times columns, one for each example.
            return place, aten.matmul.default, (self.first[b], self._call(node, aten.transpose.int, (a, 0, 1)))
        if place.dim >= rank - 2:
            raise _Stays
        if min(ranks) < 3 and a not in self.places:
            return place, aten.matmul.default, (a, self.first[b])
        return place, aten.matmul.default, tuple(self._tensor(node, operand, place, rank) for operand in (a, b))

    def _embedding(self, node: Any) -> tuple[_Place, Any, tuple[Any, ...]]:
        table, tokens = node.args[:2]
        if tokens not in self.places:
            raise _Stays
        return self.places[tokens], node.target, (table, self.first[tokens], *node.args[2:])

    def _einsum(self, node: Any) -> tuple[_Place, Any, tuple[Any, ...]]:
        equation, operands = node.args[0].replace(" ", ""), list(node.args[1])
        left, arrow, out = equation.partition("->")
        terms = left.split(",")
        if not arrow or "." in equation or any(len(set(term)) < len(term) for term in terms):
            raise _Stays
        placed = [(self.places[x], term) for x, term in zip(operands, terms, strict=True) if x in self.places]
        batch, *others = {term[place.dim] for place, term in placed}
        if others or batch not in out or any(place.split for place, _ in placed):
            raise _Stays
        wide = []
        for x, term in zip(operands, terms, strict=True):
            if x not in self.places and batch in term:
                # Positions for each example, say, are the same for all but have the batch in them.
                order = [term.index(letter) for letter in _leading(batch, term)]
                x = self._call(node, aten.permute.default, (x, order))
            wide.append(self.first.get(x, x))
        terms = [_leading(batch, term) for term in terms]
        return _Place(out.index(batch)), node.target, (f"{','.join(terms)}->{_leading(batch, out)}", wide)

    def _addmm(self, node: Any) -> tuple[_Place, Any, tuple[Any, ...]]:
        bias, a, b = node.args
        place, _, product = self._matmul(node, a, b)
        if node.kwargs or bias in self.places or place.plain:
            raise _Stays
        transposed = self._call(node, aten.transpose.int, (product[1], 0, 1))
        return place, aten.linear.default, (product[0], transposed, bias)

    def _baddbmm(self, node: Any) -> tuple[_Place, Any, tuple[Any, ...]]:
        bias, a, b = node.args
        place, target, args = self._matmul(node, a, b)
        product = self._call(node, target, args)
        wide = self._tensor(node, bias, place, node.meta["val"].dim())
        beta, alpha = (node.kwargs.get(name, 1) for name in ("beta", "alpha"))
        if alpha != 1:
            product = self._call(node, aten.mul.Tensor, (product, alpha))
        return place, aten.add.Tensor, (product, wide if beta == 1 else self._call(node, aten.mul.Tensor, (wide, beta)))

    def _attention(self, node: Any) -> tuple[_Place, Any, tuple[Any, ...]]:
        query, key, value, *rest = node.args
        place, rank = self._place(query, key, value)
        if place.dim >= rank - 2:
            raise _Stays
        wide = [self._tensor(node, operand, place, rank) for operand in (query, key, value)]
        if rest and rest[0] is not None:
            rest[0] = self._tensor(node, rest[0], place, rank)
        return place, node.target, (*wide, *rest)


_REWRITE: dict[Any, Callable[[_Separation, Any], tuple[_Place, Any, tuple[Any, ...]]]] = {
    **dict.fromkeys(_RESHAPES, _Separation._reshape),
    **dict.fromkeys(_PERMUTATIONS, _Separation._permutation),
    **dict.fromkeys({*_ALONG, *_LOWERING}, _Separation._along),
    **dict.fromkeys(_PRODUCTS, _Separation._product),
    aten.cat.default: _Separation._concatenation,
    aten.embedding.default: _Separation._embedding,
    aten.einsum.default: _Separation._einsum,
    aten.expand.default: _Separation._expansion,
    **dict.fromkeys((aten.linear.default, aten.layer_norm.default, aten.rms_norm.default), _Separation._over_last),
    **dict.fromkeys((aten.pad.default, aten.constant_pad_nd.default), _Separation._padding),
    aten.batch_norm.default: _Separation._batch_norm,
    aten.addmm.default: _Separation._addmm,
    aten.baddbmm.default: _Separation._baddbmm,
    aten.scaled_dot_product_attention.default: _Separation._attention,
}


def _moves_nothing(target: Any, args: tuple[Any, ...]) -> bool:
    if target is aten.permute.default:
        return bool(args[1] == sorted(args[1]))
    if target is not aten.reshape.default:
        return False
    sizes = [size.meta["val"] if isinstance(size, fx.Node) else size for size in args[1]]
    return [_hint(size) for size in args[0].meta["val"].shape] == [_hint(size) for size in sizes]


def _hint(size: Any) -> int:
    """A size as a number: that of the example."""
    if isinstance(size, int):
        return size
    if size.node.hint is None:
        raise _Stays  # it depends on values
    return int(size.node.hint)


def _leading(letter: str, term: str) -> str:
    """The letters of an operand of einsum with this one first, where it is among them."""
    return letter + term.replace(letter, "") if letter in term else term


def _hints(place: _Place) -> tuple[int, int]:
    return _hint(place.outer), _hint(place.inner)


def _located(before: int, batch: int, sizes: list[int]) -> int | None:
    """The dimension that holds all of a batch behind ``before`` values each; None if it is split."""
    lead = 1
    for dim, size in enumerate(sizes):
        if before % lead == 0 and (lead * size) % (before * batch) == 0:
            return dim
        lead *= size
    return None
