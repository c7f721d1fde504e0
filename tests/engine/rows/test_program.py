"""Which rows a program holds: exactly the units whose maps are not zero and on which something wanted depends."""

import pytest
import torch

import fwdkern
from fwdkern.engine.dense import forward_maps, pull
from fwdkern.engine.features import parse_features
from fwdkern.engine.rows.program import Product, Program, compile_program
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
