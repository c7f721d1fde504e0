"""What every drop-in module can do: the plain forward pass, and carrying maps in both directions."""

from abc import abstractmethod
from collections.abc import Collection
from typing import NamedTuple

from torch import Tensor, nn

from fwdkern.nn.operator import Operator
from fwdkern.rules import Frozen


class Stage(NamedTuple):
    """One operator inside a module at one input: its output ``[B, *shape]`` and the frozen operator."""

    output: Tensor
    frozen: Frozen


class RelevanceLayer(nn.Module):
    """A layer followed by element-wise operators or a pool, run without autograd.

    ``names`` are the layer names of its stages in the network that it was fused into; empty when used by hand.
    """

    def __init__(self, then: tuple[Operator, ...] = ()) -> None:
        super().__init__()
        self.then = then
        self.names: tuple[str, ...] = ()

    @abstractmethod
    def first(self, x: Tensor) -> Tensor:
        """The layer itself, without what follows it."""

    @abstractmethod
    def freeze_first(self, x: Tensor) -> Stage:
        """The layer itself, frozen at ``x``."""

    def forward(self, x: Tensor) -> Tensor:
        """The plain output."""
        output = self.first(x)
        for operator in self.then:
            output = operator(output, overwrite=True)
        return output

    def freeze(self, x: Tensor, keep: Collection[str] | None = None) -> list[Stage]:
        """All stages at ``x`` ``[B, *in]``, in order.

        ``keep`` names the stages whose outputs must last, None for all; of the others only the shape is right, except
        of the last.
        """
        stages = [self.freeze_first(x)]
        for number, operator in enumerate(self.then):
            overwrite = keep is not None and self.names[number] not in keep
            stages.append(Stage(*operator.freeze(stages[-1].output, overwrite)))
        return stages

    def forward_relevance(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Carry the maps of the input's units to the output's units (design section 1).

        Args:
            x: the layer's input ``[B, *in]``.
            rows: ``[S + 1, B, *in]``: S slices of the maps R, then the bias mass β as the last one.

        Returns:
            The plain output ``[B, *out]`` and its units' rows ``[S + 1, B, *out]``.
        """
        stages = self.freeze(x)
        for _, frozen in stages:
            rows = frozen.forward(rows)
            if frozen.offset is not None:
                rows = rows.clone()
                rows[-1] += frozen.offset
        return stages[-1].output, rows

    def reverse_relevance(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Pull targets back from the output's units to the input's.

        Args:
            x: the layer's input ``[B, *in]``.
            rows: ``[K, B, *out]``: K targets as linear forms of the output's units.

        Returns:
            The pulled targets ``[K, B, *in]`` and the bias mass ``[K, B]`` that this layer adds to each.
        """
        bias = rows.new_zeros(rows.shape[:2])
        for _, frozen in reversed(self.freeze(x)):
            if frozen.offset is not None:
                bias += frozen.mass(rows)
            (rows,) = frozen.reverse(rows)
        return rows, bias
