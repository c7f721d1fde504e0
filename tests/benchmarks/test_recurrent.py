"""The recurrent workloads at a small size: every contender is right."""

import pytest

from benchmarks.gate import check
from benchmarks.workloads import recurrent

_SMALL = recurrent.Sizes(hidden=12, steps=7, width=5, tangents=9, targets=10)


@pytest.mark.parametrize("build", [recurrent.last_output, recurrent.all_units])
@pytest.mark.parametrize("kind", ["rnn", "lstm"])
def test_contenders_agree(kind: str, build: object) -> None:
    task = build(kind, _SMALL)  # type: ignore[operator]
    references = task.references()
    for contender in task.contenders:
        for run in contender.variants.values():
            assert check(contender.sample(run()), references, task.tolerance) < task.tolerance, contender.name
