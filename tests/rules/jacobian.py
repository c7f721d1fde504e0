"""Checks one frozen operator against the dense Jacobian that autograd gives of the operator itself."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fwdkern.rules import Call, Frozen, Live, find_rule, plain
from tests.oracle import assert_close


def image(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def integers(*shape: int, seed: int = 0) -> Tensor:
    """Small whole numbers: windows with ties, values on kinks."""
    return image(*shape, seed=seed).mul(1.5).round()


def live(*values: Tensor) -> list[Live]:
    return [Live(value, step) for step, value in enumerate(values)]


def freeze(target: Any, *args: Any, **kwargs: Any) -> tuple[Frozen, Tensor]:
    """The operator frozen at its ``Live`` arguments, and its output."""
    output = target(*_plain(args), **kwargs)
    found = find_rule(target)
    assert found is not None
    return found[1](Call(target, args, kwargs, output)), output


def check_rule(target: Any, *args: Any, tight: bool = False, **kwargs: Any) -> None:
    """Value, both directions and reach of the frozen operator; ``tight``: the reach is no larger than it has to be."""
    frozen, output = freeze(target, *args, **kwargs)
    parents = [value.value for value in _live(args)]
    jacobians = _jacobians(target, args, kwargs, output)  # [outputs, inputs] each
    linear = sum(j @ p.flatten() for j, p in zip(jacobians, parents, strict=True)).view(output.shape)
    offset = torch.zeros_like(output) if frozen.offset is None else frozen.offset.expand_as(output)
    assert_close(linear + offset, output)

    maps = [image(3, *p.shape, seed=1 + i) for i, p in enumerate(parents)]
    carried = sum(m.flatten(1) @ j.T for m, j in zip(maps, jacobians, strict=True))
    assert_close(frozen.forward(*maps), carried.view(3, *output.shape))

    targets = image(3, *output.shape, seed=9)
    for pulled, j, p in zip(frozen.reverse(targets), jacobians, parents, strict=True):
        assert_close(pulled, (targets.flatten(1) @ j).view(3, *p.shape))

    boxes = [integers(4, *p.shape, seed=17 + i).abs().float() + 1 for i, p in enumerate(parents)]
    needed = torch.stack([_largest(b, j) for b, j in zip(boxes, jacobians, strict=True)]).amax(0).view(4, *output.shape)
    found = frozen.reach(*boxes)
    assert found.shape == needed.shape
    assert (found >= needed).all()
    if tight:
        assert found.equal(needed)


def _plain(args: Any) -> list[Any]:
    return [[plain(a) for a in arg] if isinstance(arg, list) else plain(arg) for arg in args]


def _live(args: Any) -> list[Live]:
    flat = [a for arg in args for a in (arg if isinstance(arg, list) else [arg])]
    return [value for value in flat if isinstance(value, Live)]


def _jacobians(target: Any, args: Any, kwargs: Any, output: Tensor) -> list[Tensor]:
    leaves = {id(value): value.value.clone().requires_grad_() for value in _live(args)}

    def leaf(value: Any) -> Any:
        return [leaf(v) for v in value] if isinstance(value, list) else leaves.get(id(value), value)

    out = target(*[leaf(arg) for arg in args], **kwargs).flatten()
    # An output may be constant, for which autograd has no history.
    out = out + 0 * sum(value.sum() for value in leaves.values())
    one_each = torch.eye(len(out), dtype=out.dtype)
    rows = torch.autograd.grad(
        out, list(leaves.values()), one_each, is_grads_batched=True, allow_unused=True, materialize_grads=True
    )
    return [row.flatten(1) for row in rows]


def _largest(boxes: Tensor, jacobian: Tensor) -> Tensor:
    """Largest code among the inputs that each output depends on, [4, outputs]."""
    codes = boxes.flatten(1).double()
    return torch.stack([(codes * (row != 0)).amax(1) for row in jacobian], 1).float()


def check_frozen_factor(linear: Callable[[Tensor], Tensor], target: Any, *args: Any, own: int, **kwargs: Any) -> None:
    """The frozen operator is ``linear`` in the live operand number ``own``, plus its offset, and reads no other one."""
    frozen, output = freeze(target, *args, **kwargs)
    values = _live(args)
    assert frozen.operands == (own,) or (frozen.operands is None and len(values) == 1)
    x = values[own].value
    offset = torch.zeros_like(output) if frozen.offset is None else frozen.offset.expand_as(output)
    assert_close(linear(x) - linear(torch.zeros_like(x)) + offset, output)
    jacobian = torch.autograd.functional.jacobian(linear, x).reshape(output.numel(), x.numel())
    maps, targets = image(3, *x.shape, seed=5), image(3, *output.shape, seed=9)
    assert_close(frozen.forward(maps), (maps.flatten(1) @ jacobian.T).view(3, *output.shape))
    (pulled,) = frozen.reverse(targets)
    assert_close(pulled, (targets.flatten(1) @ jacobian).view(3, *x.shape))
    boxes = integers(4, *x.shape, seed=17).abs().float() + 1
    needed = _largest(boxes, jacobian).view(4, *output.shape)
    assert frozen.reach(boxes).shape == needed.shape
    assert (frozen.reach(boxes) >= needed).all()


def check_halves(target: Any, a: Tensor, b: Tensor) -> None:
    """A product of two live values: half of each with the other one frozen."""
    frozen, output = freeze(target, *live(a, b))
    assert frozen.operands is None and frozen.offset is None
    sides = [
        torch.autograd.functional.jacobian(side, x).reshape(output.numel(), x.numel()) / 2
        for side, x in ((lambda own: target(own, b), a), (lambda own: target(a, own), b))
    ]
    maps, targets = [image(3, *x.shape, seed=5 + i) for i, x in enumerate((a, b))], image(3, *output.shape, seed=9)
    carried = sum(m.flatten(1) @ side.T for m, side in zip(maps, sides, strict=True))
    assert_close(frozen.forward(*maps), carried.view(3, *output.shape))
    assert_close(frozen.forward(a[None], b[None])[0], output)
    for pulled, side, x in zip(frozen.reverse(targets), sides, (a, b), strict=True):
        assert_close(pulled, (targets.flatten(1) @ side).view(3, *x.shape))
    boxes = [integers(4, *x.shape, seed=17 + i).abs().float() + 1 for i, x in enumerate((a, b))]
    needed = torch.stack([_largest(box, side) for box, side in zip(boxes, sides, strict=True)]).amax(0)
    assert (frozen.reach(*boxes) >= needed.view(4, *output.shape)).all()
