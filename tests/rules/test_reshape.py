"""Operators that move values: every one against its Jacobian, which is a matrix of zeros and ones."""

from typing import Any

import pytest
import torch

from fwdkern.rules import Live, NoRule
from tests.rules.jacobian import check_rule, freeze, image, live

aten = torch.ops.aten

# Operator and arguments for an input [2, 4, 6, 4].
OPERATORS: dict[str, tuple[Any, ...]] = {
    "view": (aten.view.default, [2, -1]),
    "reshape": (aten.reshape.default, [2, 8, 12]),
    "flatten": (aten.flatten.using_ints, 1, -1),
    "unflatten": (aten.unflatten.int, 1, [2, 2]),
    "unsqueeze": (aten.unsqueeze.default, 1),
    "permute": (aten.permute.default, [0, 2, 3, 1]),
    "permute, negative": (aten.permute.default, [0, -1, 1, 2]),
    "transpose": (aten.transpose.int, 1, -1),
    "movedim": (aten.movedim.intlist, [1], [3]),
    "slice": (aten.slice.Tensor, 1, 1, 3),
    "slice, strided": (aten.slice.Tensor, 2, None, None, 2),
    "slice, negative": (aten.slice.Tensor, -1, -3, -1),
    "slice, past the end": (aten.slice.Tensor, 3, 2, 2**63 - 1),
    "select": (aten.select.int, 1, 2),
    "select, negative": (aten.select.int, -1, -1),
    "narrow": (aten.narrow.default, 2, 1, 3),
    "index_select": (aten.index_select.default, 1, torch.tensor([2, 0, 0])),
    "swapaxes": (aten.swapaxes.default, 1, 2),
    "mT": (aten.mT.default,),
    "movedim, number": (aten.movedim.int, 1, -1),
    "diagonal": (aten.diagonal.default, 1, 2, 3),
    "tril": (aten.tril.default,),
    "triu": (aten.triu.default, 1),
    "unfold": (aten.unfold.default, 2, 3, 2),
    "im2col": (aten.im2col.default, [2, 3], [2, 1], [1, 0], [2, 1]),
    "index": (aten.index.Tensor, [None, torch.tensor([2, 0, 0])]),
    "index, two": (aten.index.Tensor, [None, None, torch.tensor([[2], [0]]), torch.tensor([1, 3])]),
    "index, mask": (aten.index.Tensor, [None, torch.tensor([True, False, True, True])]),
    "gather": (aten.gather.default, 2, torch.tensor([1, 0, 5]).view(1, 1, 3, 1).expand(2, 4, 3, 4)),
    "take_along_dim": (aten.take_along_dim.default, torch.tensor([3, 3]).view(1, 2, 1, 1), 1),
    "flip": (aten.flip.default, [1, 3]),
    "roll": (aten.roll.default, [1, -2], [2, 3]),
    "repeat": (aten.repeat.default, [1, 2, 1, 3]),
    "repeat_interleave": (aten.repeat_interleave.self_int, 2, 1),
    "repeat_interleave, numbers": (aten.repeat_interleave.self_Tensor, torch.tensor([2, 0, 1, 3]), 1),
    "tile": (aten.tile.default, [2, 1]),
    "pixel_shuffle": (aten.pixel_shuffle.default, 2),
    "pixel_unshuffle": (aten.pixel_unshuffle.default, 2),
    "channel_shuffle": (aten.channel_shuffle.default, 2),
    "pad": (aten.constant_pad_nd.default, [1, 0, 2, 1]),
    "pad, value": (aten.constant_pad_nd.default, [1, 0, 2, 1], 2.5),
    "pad, channels": (aten.constant_pad_nd.default, [0, 0, 0, 0, 1, 2]),
    "pad, crop": (aten.constant_pad_nd.default, [-1, 2, 0, -2], -1.0),
    "pad, general": (aten.pad.default, [1, 1, 1, 1]),
    "pad, general, value": (aten.pad.default, [1, 1, 1, 1], "constant", 3.0),
    "pad, reflect": (aten.pad.default, [1, 2, 3, 0], "reflect"),
    "pad, replicate": (aten.pad.default, [1, 2, 3, 0], "replicate"),
    "pad, circular": (aten.pad.default, [1, 2, 3, 0], "circular"),
    "reflection_pad2d": (aten.reflection_pad2d.default, [1, 2, 3, 0]),
    "replication_pad2d": (aten.replication_pad2d.default, [1, 2, 3, 0]),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operator(name: str) -> None:
    target, *arguments = OPERATORS[name]
    check_rule(target, *live(image(2, 4, 6, 4)), *arguments, tight=True)


def test_other_ranks() -> None:
    check_rule(aten.expand.default, *live(image(2, 3, 1, 1)), [-1, -1, 4, 2], tight=True)
    check_rule(aten.expand.default, *live(image(2, 1, 3)), [2, 5, 3], tight=True)
    check_rule(aten.broadcast_to.default, *live(image(2, 1, 3)), [2, 5, 3], tight=True)
    check_rule(aten.expand_as.default, *live(image(2, 1, 3)), image(2, 5, 3), tight=True)
    check_rule(aten.view_as.default, *live(image(2, 4, 3)), image(2, 3, 4), tight=True)
    for mode in ("reflect", "replicate", "circular"):
        check_rule(aten.pad.default, *live(image(2, 3, 4)), [1, 2], mode, tight=True)
        check_rule(aten.pad.default, *live(image(1, 2, 3, 4, 2)), [1, 1, 0, 2, 2, 1], mode, tight=True)
    check_rule(aten.squeeze.dim, *live(image(2, 3, 1)), 2, tight=True)
    check_rule(aten.squeeze.dims, *live(image(2, 1, 3, 1)), [1, 3], tight=True)
    check_rule(aten.squeeze.default, *live(image(2, 1, 3, 1)), tight=True)
    check_rule(aten.reflection_pad1d.default, *live(image(2, 3, 4)), [1, 2], tight=True)
    check_rule(aten.replication_pad1d.default, *live(image(2, 3, 4)), [1, 2], tight=True)


def test_values_taken_where_the_input_says() -> None:
    x, index = image(2, 3, 4), torch.tensor([3, 0]).expand(2, 3, 2)
    frozen, output = freeze(aten.gather.default, Live(x, 0), 2, Live(index, 1))
    assert frozen.operands == (0,) and frozen.forward(x[None])[0].equal(output)
    assert frozen.reach(x.abs().expand(4, 2, 3, 4)).equal(x.abs().amax(2, keepdim=True).expand(4, 2, 3, 2))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ((aten.view.default, [4, 3]), "batch dimension"),
        ((aten.slice.Tensor, 0, 0, 1), "batch dimension"),
        ((aten.select.int, 0, 0), "batch dimension"),
        ((aten.index_select.default, 0, torch.tensor([1, 0])), "batch dimension"),
        ((aten.index.Tensor, [torch.tensor([0])]), "batch dimension"),
        ((aten.tril.default,), "batch dimension"),
        ((aten.diagonal.default,), "batch dimension"),
        ((aten.gather.default, 0, torch.zeros(1, 6, dtype=torch.int64)), "batch dimension"),
        ((aten.flip.default, [0]), "batch dimension"),
        ((aten.roll.default, [1], [0]), "batch dimension"),
        ((aten.roll.default, [1]), "batch dimension"),
        ((aten.permute.default, [1, 0]), "batch dimension"),
        ((aten.t.default,), "batch dimension"),
        ((aten.repeat.default, [2, 1]), "batch dimension"),
        ((aten.constant_pad_nd.default, [0, 0, 1, 0]), "batch dimension"),
    ],
)
def test_what_moves_the_batch_has_no_rule(call: tuple[Any, ...], words: str) -> None:
    target, *arguments = call
    with pytest.raises(NoRule, match=words):
        freeze(target, *live(image(2, 6)), *arguments)
