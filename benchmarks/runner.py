"""One workload: gate, choice of variants, interleaved rounds, memory, goals."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from benchmarks import memory
from benchmarks.gate import WrongResult, check
from benchmarks.networks import Absent
from benchmarks.record import NOT_RUN, Figure, Result, Verdict
from benchmarks.timing import Effort, interleaved, mm_run, mm_side, seconds_of
from benchmarks.workload import Contender, Goal, Sample, Task, Unavailable, Workload

_MM = "torch.mm"


def run(workload: Workload, effort: Effort, with_memory: bool, say: Callable[[str], None]) -> Result:
    """Measure a workload; ``say`` hears what is being done."""
    try:
        say(f"{workload.name}: making ready")
        task = workload.build()
    except Absent as absent:
        return not_run(workload, str(absent))
    references = task.references()
    others = task.yardstick_references() if task.yardstick_references else references
    entries = [
        _choose(each, others if each.role == "yardstick" else references, task, say, workload.name)
        for each in task.contenders
    ]
    right = {e.contender.name: e.contender.variants[e.variant] for e in entries if not e.wrong}
    say(f"{workload.name}: {len(right)} contenders in turn")
    taken = interleaved({_MM: mm_run(task.device), **right}, effort, task.device)
    mm_rate = mm_side(task.device) ** 3 / statistics.median(taken[_MM])
    figures = [_figure(entry, taken.get(entry.contender.name, [])) for entry in entries]
    if with_memory:
        figures = [_with_memory(workload, figure, figures, say) for figure in figures]
    return summarise(workload, task, figures, mm_rate)


def not_run(workload: Workload, reason: str) -> Result:
    """A workload without figures."""
    return Result(workload.name, workload.title, reason, [], "", None, 0.0, 0.0, 0.0, None, None, [])


def summarise(workload: Workload, task: Task, figures: list[Figure], mm_rate: float) -> Result:
    """Ratios, floor, share and goals from the figures. mm_rate: multiply-adds a second."""
    own = _own(figures)
    best = fastest(figures, "rival")
    multiplies = task.multiplies()
    floor = multiplies / mm_rate if multiplies else None
    share = floor / own.seconds if floor and own and own.seconds else None
    ratio = best.seconds / own.seconds if best and own and best.seconds and own.seconds else None
    return Result(
        workload.name,
        "; ".join(filter(None, [workload.title, *task.notes])),
        "",
        figures,
        best.name if best else "",
        ratio,
        task.tolerance,
        mm_rate,
        multiplies,
        floor,
        share,
        [judge(goal, figures, share) for goal in workload.goals],
    )


def fastest(figures: list[Figure], role: str = "", name: str = "") -> Figure | None:
    """Among those with a speed, of a role and with a name that begins so."""
    timed = [f for f in figures if f.seconds is not None and f.role.startswith(role) and f.name.startswith(name)]
    return min(timed, key=lambda figure: figure.seconds or 0, default=None)


def judge(goal: Goal, figures: list[Figure], share: float | None) -> Verdict:
    """A goal for its own contender."""
    own = fastest(figures, "own", goal.of) if goal.of else _own(figures)
    other = fastest(figures, "", goal.against) if goal.against else fastest(figures, "rival")
    value = None
    match goal.measure:
        case "share":
            value = share
        case "speed-up" if own and other:
            value = _ratio(other.seconds, own.seconds)
        case "slow-down" if own and other:
            value = _ratio(own.seconds, other.seconds)
        case "memory" if own and own.memory:
            value = float(own.memory.peak)
        case "memory ratio" if own and other and own.memory and other.memory:
            value = _ratio(own.memory.peak, other.memory.peak)
        case "working memory ratio" if own and other and own.memory and other.memory:
            value = _ratio(own.memory.peak - own.memory.result, other.memory.peak - other.memory.result)
    met = None if value is None else (value >= goal.bound if goal.at_least else value <= goal.bound)
    return Verdict(_text(goal), value, met)


def _text(goal: Goal) -> str:
    against = goal.against or "the best rival"
    bound = f"{'at least' if goal.at_least else 'at most'} {goal.bound:g}"
    match goal.measure:
        case "share":
            return f"useful rate {bound} of torch.mm's"
        case "memory":
            return f"peak memory at most {goal.bound / 2**30:g} GiB"
        case "speed-up":
            return f"{goal.of} {bound} times as fast as {against}".strip()
        case "slow-down":
            return f"{bound} times the time of {against}"
    return f"{goal.measure} {bound} of {against}"


def _ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None


def _own(figures: list[Figure]) -> Figure | None:
    return next((figure for figure in figures if figure.role == "own" and figure.seconds is not None), None)


@dataclass
class _Entry:
    contender: Contender
    variant: str = ""
    error: float | None = None
    wrong: str = ""


def _choose(
    contender: Contender, references: list[Sample], task: Task, say: Callable[[str], None], workload: str
) -> _Entry:
    """Check every variant, then take the fastest of the right ones. On a GPU one that fails leaves the others alone."""
    failures = (Unavailable, ImportError) if task.device == "cpu" else (Exception,)
    errors: dict[str, float] = {}
    wrong = ""
    for label, variant in contender.variants.items():
        say(f"{workload}: checking {contender.name} {label}")
        try:
            errors[label] = _check(contender, variant, references, task.tolerance)
        except WrongResult as problem:
            wrong = str(problem)
        except failures as problem:
            wrong = f"{NOT_RUN}{_sentence(problem)}"
    if not errors:
        return _Entry(contender, wrong=wrong)
    # The check has warmed each up.
    times = (
        {label: seconds_of(contender.variants[label], task.device) for label in errors}
        if len(errors) > 1
        else dict.fromkeys(errors, 0.0)
    )
    best = min(times, key=times.__getitem__)
    return _Entry(contender, best, errors[best])


def _sentence(problem: Exception) -> str:
    first = str(problem).strip().partition("\n")[0][:200]
    return first if isinstance(problem, (Unavailable, ImportError)) else f"{type(problem).__name__}: {first}"


def _check(contender: Contender, variant: Callable[[], Any], references: list[Sample], tolerance: float) -> float:
    result = variant()
    with torch.no_grad():
        return check(contender.sample(result), references, tolerance)


def _figure(entry: _Entry, taken: list[float]) -> Figure:
    contender = entry.contender
    whole = [seconds * contender.parts for seconds in taken]
    return Figure(
        contender.name,
        contender.role,
        entry.variant,
        contender.part,
        contender.parts,
        statistics.median(whole) if whole else None,
        min(whole, default=None),
        max(whole, default=None),
        len(whole),
        entry.error,
        entry.wrong,
        None,
    )


def _with_memory(workload: Workload, figure: Figure, figures: list[Figure], say: Callable[[str], None]) -> Figure:
    wanted = figure.role == "own" or figure.name in workload.memory or figure is fastest(figures, "rival")
    if not wanted or figure.seconds is None:
        return figure
    say(f"{workload.name}: memory of {figure.name}")
    return replace(figure, memory=memory.measure(workload.name, figure.name, figure.variant))
