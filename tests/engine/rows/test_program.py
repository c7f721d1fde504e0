"""Which rows a program holds: exactly the units whose maps are not zero and on which something wanted depends."""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import fwdkern
from fwdkern.engine.dense import forward_maps, pull
from fwdkern.engine.features import parse_features
from fwdkern.engine.rows.program import Product, Program, compile_program
from fwdkern.engine.rows.reverse import _Transposed
from fwdkern.engine.tape import Tape, record
from fwdkern.engine.units import Units, parse_units
from tests.engine.rows.networks import NAMED, named


def compiled(name: str, units: str | torch.Tensor = "all") -> tuple[Tape, Program, Units]:
    network, x = named(name, batch=1)
    net = fwdkern.fuse(network, x)
    tape = record(net._primary, x)
    step = len(tape.steps) - 1
    wanted = parse_units(units, tape.steps[step].value, "last")
    return tape, compile_program(tape, {step: wanted.mask(0)}), wanted


@pytest.mark.parametrize("first_only", [False, True])
@pytest.mark.parametrize("name", [name for name in NAMED if "long" not in name])
def test_rows_are_alive_and_needed(name: str, first_only: bool) -> None:
    tape, _, _ = compiled(name)
    rank = tape.steps[-1].value.dim() - 1
    tape, program, units = compiled(name, torch.zeros(1, rank, dtype=torch.int64) if first_only else "all")
    features = parse_features("channels", tape.input)
    inner = [i for i in program.nodes if i]
    alive = {i: torch.zeros(tape.steps[i].value.numel(), dtype=torch.bool) for i in inner}
    for _, _, maps in forward_maps(tape, features, inner, 10_000):
        for i in inner:
            alive[i] |= (maps[i] != 0).any(0).flatten()
    last = len(tape.steps) - 1
    seed = units.seed(0, units.count, tape.steps[last].value)
    for i in inner:
        needed = seed != 0
        if i != last:
            arrived, _ = pull(tape, last, seed, i)
            needed = arrived.get(i, torch.zeros(1, tape.steps[i].value.numel())) != 0
        expected = alive[i] & needed.flatten(1).any(0)
        held = torch.zeros_like(expected)
        held[program.nodes[i].rows.unit] = True
        # Random weights make nothing cancel.
        assert not (expected & ~held).any(), f"step {i} ({tape.steps[i].name}) lacks rows"
        assert not (held & ~expected).any(), f"step {i} ({tape.steps[i].name}) holds rows for nothing"


@pytest.mark.parametrize("name", NAMED)
def test_lists_agree_with_themselves(name: str) -> None:
    _, program, _ = compiled(name)
    for node in program.nodes.values():
        rows, positions = node.rows, node.rows.grid[0] * node.rows.grid[1]
        assert len(rows) == int(rows.offset[-1]) == len(rows.unit)
        assert torch.equal(rows.row[rows.unit], torch.arange(len(rows)))
        assert int((rows.row >= 0).sum()) == len(rows)
        assert torch.equal(rows.unit // positions, rows.channel.long())
        assert (torch.diff(rows.unit % positions) >= 0).all()


@pytest.mark.parametrize("name", ["gate inside a sum", "value and its gate", "gated difference"])
def test_gates_inside_sums_become_scales(name: str) -> None:
    """A sum holds rows for units whose gated operand is closed; there the operand's terms must count nothing."""
    _, program, _ = compiled(name)
    terms = program.nodes[program.wanted[0]].terms
    scales = [term.scale if isinstance(term, Product) else term.coefficient for term in terms]
    assert any(scale is not None and (scale == 0).any() and (scale != 0).any() for scale in scales)


class Reads(TorchDispatchMode):
    """Counts the operators for which the host waits for a device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        aten = torch.ops.aten
        sized = (aten.nonzero.default, aten.masked_select.default, aten.bincount.default, aten._unique2.default)
        read = func in (aten._local_scalar_dense.default, *sized)
        read |= func is aten.repeat_interleave.Tensor and (kwargs or {}).get("output_size") is None
        read |= func is aten.index.Tensor and any(i is not None and i.dtype == torch.bool for i in args[1])
        self.count += read
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["concatenated pools", "pool of a concatenation in a residual", "same branch twice"])
def test_a_device_is_seldom_waited_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for all row lists, once for each combination's terms (twice where they have coefficients), once to learn
    whether a node only copies, and once to read a program backwards past a node."""
    monkeypatch.setenv("FWDKERN_BACKEND", "torch")
    tape, expected, units = compiled(name)
    monkeypatch.setattr("fwdkern.engine.rows.program._waits", lambda x: True)
    monkeypatch.setattr(torch.Tensor, "tolist", lambda x, own=torch.Tensor.tolist: x[0].item() and own(x))
    with torch.no_grad(), Reads() as reads:
        program = compile_program(tape, {len(tape.steps) - 1: units.mask(0)})
    terms = [term for node in program.nodes.values() for term in node.terms if not isinstance(term, Product)]
    assert reads.count <= 1 + len(program.nodes) + sum(1 if term.copies else 2 for term in terms)
    with torch.no_grad(), Reads() as reads:
        _Transposed(program, len(tape.steps) - 1)
    assert reads.count <= len(program.nodes)
    for node, other in zip(program.nodes.values(), expected.nodes.values(), strict=True):
        assert torch.equal(node.rows.offset, other.rows.offset) and torch.equal(node.rows.channel, other.rows.channel)
        assert (node.source is None) == (other.source is None)
