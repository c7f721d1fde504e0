"""Dense batched transposed convolutions: fwdkern's own torch engine in reverse mode, without its compiled library."""

import os
from unittest import mock

from torch import Tensor

from benchmarks.rivals.parts import over_units
from benchmarks.units import UnitMaps
from benchmarks.workload import Contender
from fwdkern import FusedModel


def dense_transposes(net: FusedModel, problem: UnitMaps, classes: Tensor) -> Contender:
    """Maps of some classes of one photograph, as many at once as the engine's working set admits."""

    def run() -> Tensor:
        with mock.patch.dict(os.environ, FWDKERN_BACKEND="torch"):
            result = net.attribute(problem.x, classes[None], bias="separate", mode="reverse", backend="torch")
        return result.scores[0].flatten(1)  # [k, pixels]

    return over_units("dense batched transposes", problem, classes, {"": run})
