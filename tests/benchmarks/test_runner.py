"""Gate before speed, scaling, ratios, goals; every rival on a small canvas."""

import functools

import pytest
import torch

from benchmarks import runner
from benchmarks.memory import Memory
from benchmarks.networks import Absent
from benchmarks.record import Figure, Result
from benchmarks.registry import WORKLOADS, find
from benchmarks.timing import Effort, interleaved
from benchmarks.workload import Contender, Goal, Sample, Task, Workload
from benchmarks.workloads.classes import all_of_digits, one_each
from benchmarks.workloads.units import of_digits_on
from fwdkern.digits import digits_net, examples

_ONCE = Effort(rounds=1)
_MAPS = torch.arange(1.0, 13).view(3, 4)
_ALL = torch.ones(1, 1, dtype=torch.bool)


def measure(workload: Workload) -> Result:
    return runner.run(workload, _ONCE, with_memory=False, say=lambda text: None)


def contender(name: str, role: str, *results: torch.Tensor, parts: float = 1.0) -> Contender:
    variants = {str(i): lambda result=result: result for i, result in enumerate(results)}
    return Contender(name, role, variants, lambda maps: Sample(maps, _ALL), parts)


def _right() -> list[Sample]:
    return [Sample(_MAPS, _ALL)]


def figure(name: str, role: str, seconds: float | None, memory: Memory | None = None) -> Figure:
    return Figure(name, role, "", "", 1.0, seconds, seconds, seconds, 1, 0.0, "", memory)


def test_names_are_unique_and_found() -> None:
    assert len({workload.name for workload in WORKLOADS}) == len(WORKLOADS)
    assert all(find(workload.name) is workload for workload in WORKLOADS)
    with pytest.raises(KeyError, match="resnet20-last-block"):
        find("resnet21")


def test_every_rival_is_right_on_a_small_canvas() -> None:
    canvas = examples().images[:1, :, 16:48, 16:48]
    result = measure(Workload("small", "", functools.partial(of_digits_on, canvas, 64)))
    assert {f.name for f in result.figures} == {
        "fwdkern", "algorithm1", "dense batched slices", "vmap(jvp)", "vmap(vjp)", "Captum loop", "autograd loop",
    }  # fmt: skip
    assert [f.wrong for f in result.figures] == [""] * 7
    assert all(f.seconds and f.rounds == 1 for f in result.figures)
    assert result.floor == result.multiplies / result.mm_rate
    assert result.ratio and result.best_rival and result.share


def test_class_maps_of_digits() -> None:
    for build in (all_of_digits, functools.partial(one_each, digits_net(), examples().images[:3])):
        result = measure(Workload("classes", "", build))
        assert [f.wrong for f in result.figures] == [""] * len(result.figures)


def test_a_wrong_result_gets_no_speed() -> None:
    task = Task(
        [contender("fwdkern", "own", _MAPS * 1.01), contender("rival", "rival", _MAPS)],
        _right,
        1e-3,
        lambda: 0.0,
    )
    result = measure(Workload("w", "", lambda: task, [Goal("speed-up", 0)]))
    own, rival = result.figures
    assert own.seconds is None and own.rounds == 0 and "above the tolerance" in own.wrong
    assert rival.seconds is not None
    assert result.ratio is None and result.goals[0].met is None


def test_a_wrong_variant_is_never_the_fastest() -> None:
    task = Task([contender("fwdkern", "own", _MAPS + 1, _MAPS, _MAPS + 2)], _right, 1e-3, lambda: 0.0)
    (own,) = measure(Workload("w", "", lambda: task)).figures
    assert own.variant == "1" and own.wrong == ""


def test_absent_data_is_named() -> None:
    def build() -> Task:
        raise Absent("weights are absent")

    result = measure(Workload("w", "", build))
    assert result.absent == "weights are absent" and not result.figures


def test_ratios_and_shares() -> None:
    figures = [figure("fwdkern", "own", 2.0), figure("a", "rival", 10.0), figure("b", "rival", 6.0)]
    task = Task([], _right, 1e-4, lambda: 8e9)
    result = runner.summarise(Workload("w", "", lambda: task), task, figures, mm_rate=1e10)
    assert result.best_rival == "b" and result.ratio == 3.0
    assert result.floor == 0.8 and result.share == 0.4


def test_parts_scale_the_time() -> None:
    half, whole = contender("half", "rival", _MAPS, parts=2.0), contender("whole", "own", _MAPS)
    scaled = runner._figure(runner._Entry(half, "0", 0.0), [1.0, 3.0, 2.0])
    assert (scaled.seconds, scaled.low, scaled.high, scaled.rounds) == (4.0, 2.0, 6.0, 3)
    assert runner._figure(runner._Entry(whole, "0", 0.0), [1.0]).seconds == 1.0


@pytest.mark.parametrize(
    ("goal", "value", "met"),
    [
        (Goal("speed-up", 5), 3.0, False),
        (Goal("speed-up", 3), 3.0, True),
        (Goal("speed-up", 5, "Captum"), 5.0, True),
        (Goal("slow-down", 2, "alone"), 4.0, False),
        (Goal("share", 0.4), 0.4, True),
        (Goal("memory", 100), 60.0, True),
        (Goal("memory ratio", 0.6, "alone"), 2.0, False),
        (Goal("working memory ratio", 1.1, "alone"), 1.0, True),
        (Goal("speed-up", 5, "nobody"), None, None),
        (Goal("memory ratio", 0.6), None, None),
    ],
)
def test_goals(goal: Goal, value: float | None, met: bool | None) -> None:
    figures = [
        figure("fwdkern", "own", 2.0, Memory(60, 0, 40)),
        figure("Captum, contiguous", "rival", 12.0),
        figure("Captum, channels last", "rival", 10.0),
        figure("other", "rival", 6.0),
        figure("alone", "yardstick", 0.5, Memory(30, 0, 10)),
    ]
    verdict = runner.judge(goal, figures, share=0.4)
    assert verdict.value == value and verdict.met is met


def test_rounds_are_interleaved() -> None:
    order: list[str] = []
    taken = interleaved({name: functools.partial(order.append, name) for name in "abc"}, Effort(rounds=3))
    assert "".join(order) == "abcbcacab"
    assert all(len(times) == 3 for times in taken.values())


def test_after_three_rounds_the_time_limit_counts() -> None:
    assert len(interleaved({"a": lambda: None}, Effort(rounds=9, seconds=0))["a"]) == 3
