"""What a benchmark is made of."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor


class Unavailable(Exception):
    """A contender that cannot run here; the message says why."""


@dataclass(frozen=True)
class Sample:
    """A few maps R out of a result, for the gate.

    maps: [n, m], one row a sampled unit; covered: bool, broadcasts to [n, m], what this contender computes of them;
    bias: the units' bias mass [n], None for contenders that leave it out.
    """

    maps: Tensor
    covered: Tensor
    bias: Tensor | None = None


@dataclass(frozen=True)
class Contender:
    """One way to do a workload.

    variants: label -> the run; all give the same result, the fastest counts; sample: result -> Sample.
    parts: how many times a run's work the whole workload is; above 1 its time is scaled, and ``part`` says from what.
    role: a yardstick is other work to compare with, not a rival.
    """

    name: str
    role: Literal["own", "rival", "yardstick"]
    variants: dict[str, Callable[[], Any]]
    sample: Callable[[Any], Sample]
    parts: float = 1.0
    part: str = ""


@dataclass(frozen=True)
class Task:
    """A workload made ready. What only the check and the table need is computed when it is called.

    references: maps of the sampled units, each of them right (``units.by_autograd`` says why there are several); a map
    must be close to one of them.
    tolerance: largest error admitted, as a share of a map's largest entry.
    multiplies: multiply-adds of the own way, counted exactly. device: where it all runs.
    bytes: what the own way has to move at least, None where that is not counted. notes: about its inputs.
    """

    contenders: list[Contender]
    references: Callable[[], list[Sample]]
    tolerance: float
    multiplies: Callable[[], float]
    yardstick_references: Callable[[], list[Sample]] | None = None
    device: str = "cpu"
    bytes: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Goal:
    """A figure that an own contender must reach: the first one, or the one with the name ``of``.

    measure: ``"speed-up"`` (time of ``against`` over own time), ``"slow-down"`` (its inverse), ``"share"`` (useful rate
    over torch.mm's), ``"memory"`` (peak growth in bytes), ``"memory ratio"``, ``"working memory ratio"`` (results left
    out). against: a contender's name, or "" for the best rival.
    """

    measure: Literal["speed-up", "slow-down", "share", "memory", "memory ratio", "working memory ratio"]
    bound: float
    against: str = ""
    of: str = ""

    @property
    def at_least(self) -> bool:
        return self.measure in ("speed-up", "share")


@dataclass(frozen=True)
class Workload:
    """One line of the registry. build may raise Absent. memory: contenders whose memory is measured besides the own
    ones and the best rival."""

    name: str
    title: str
    build: Callable[[], Task]
    goals: list[Goal] = field(default_factory=list)
    memory: tuple[str, ...] = ()
