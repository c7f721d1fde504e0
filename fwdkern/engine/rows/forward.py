"""Forward mode over active rows: tiles of pixels, each carried depth first through the windows that it reaches."""

import torch
from torch import Tensor

from fwdkern.engine.rows.blocks import Block
from fwdkern.engine.rows.geometry import mirrored_taps, taps
from fwdkern.engine.rows.program import Combination, Node, Product, Program
from fwdkern.ops.row_program import CombinationTerm, ProductTerm, RowNode, RowPass, Seeds, Sink


def forward_pass(
    program: Program,
    windows: Tensor,
    x: Tensor,
    labels: Tensor,
    blocks: list[Block],
    slice_count: int,
    sinks: list[Sink],
) -> RowPass:
    """A pass that carries the maps of each block's slices to the sinks.

    Args:
        windows: int64 ``[blocks, nodes, 4]``, what each block reaches; x: input ``[C, H, W]`` or ``[F]``.
        labels: int64 ``[E]``, the slice of each input element.
        sinks: their nodes are steps of the program.
    """
    number = {i: k for k, i in enumerate(program.nodes)}
    nodes = [row_node(node, program, number) for node in program.nodes.values()]
    unit = program.nodes[0].rows.unit
    seeds = Seeds(0, labels[unit].to(torch.int32), x.flatten()[unit])
    for sink in sinks:
        sink.node = number[sink.node]
    pivot = max((k for k, node in enumerate(nodes) if node.grid[0] > 1), default=len(nodes) - 1)
    ids = [block.ids.to(torch.int32) for block in blocks]
    return RowPass(nodes, seeds, sinks, ids, slice_count, windows, pivot, band=1)


def row_node(node: Node, program: Program, number: dict[int, int]) -> RowNode:
    """A program's node with its terms as the kernels take them."""
    terms: list[ProductTerm | CombinationTerm] = []
    for term in node.terms:
        parent = program.nodes[term.parent].rows
        if isinstance(term, Product):
            find = mirrored_taps if term.mirrored else taps
            table = find(term.geometry, node.rows.whole, parent.whole)
            terms.append(ProductTerm(number[term.parent], table, term.weight, term.groups, term.scale))
        else:
            assert isinstance(term, Combination)
            terms.append(CombinationTerm(number[term.parent], term.offset, term.index, term.coefficient))
    source = None if node.source is None else node.source.to(torch.int32)
    return RowNode(node.rows.offset, node.rows.channel, node.rows.grid, node.first, terms, source)
