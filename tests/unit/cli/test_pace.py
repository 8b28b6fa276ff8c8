"""Where the time of a tree went: what is measured from where, and in which words it is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hatchet_cli.pace import Pace, paces
from hatchet_cli.tree import RunNode, make_tree
from hatchet_cli.why import where_time_went
from hatchet_operator.resources.run import WorkflowRun
from hatchet_operator.resources.workerpool import WorkerPool
from hatchet_operator.resources.workflow import Workflow

START = datetime(2026, 1, 1, 12, tzinfo=UTC)


def at(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat()


def make_child(
    number: int, *, created: float = 0, started: float | None = None, finished: float | None = None, **more: Any
) -> WorkflowRun:
    parent = {"name": "root", "uid": "root", "step": "spawn", "key": str(number), "index": number}
    name = f"child-{number}"
    status: dict[str, Any] = {"phase": "Pending" if started is None else "Running", **more.get("status", {})}
    if started is not None:
        status["startedAt"] = at(started)
    if finished is not None:
        status |= {"phase": "Succeeded", "finishedAt": at(finished)}
    return WorkflowRun.model_validate(
        {
            "metadata": {"name": name, "uid": name, "creationTimestamp": at(created)},
            "spec": {"workflow": "child", "parent": parent, **more.get("spec", {})},
            "status": status,
        }
    )


def tree_of(*children: WorkflowRun) -> RunNode:
    root = WorkflowRun.model_validate(
        {
            "metadata": {"name": "root", "uid": "root", "creationTimestamp": at(0)},
            "spec": {"workflow": "parent"},
            "status": {"phase": "Succeeded"},
        }
    )
    tree = make_tree([root, *children], "root", names={"child": "Child", "parent": "Parent"})
    assert tree is not None
    return tree


def pace_of(*children: WorkflowRun) -> Pace:
    (pace,) = paces(tree_of(*children), now=START + timedelta(seconds=100), at_least=1)
    return pace


def test_two_slots_for_six_runs() -> None:
    pace = pace_of(*(make_child(n, started=n // 2 * 10, finished=n // 2 * 10 + 10) for n in range(6)))
    assert (pace.workflow, pace.count, pace.together, pace.retried) == ("Child", 6, 2, 0)
    assert pace.spawned_within == timedelta(0)
    assert pace.waited is not None
    assert (pace.waited.median, pace.waited.longest) == (timedelta(seconds=10), timedelta(seconds=20))
    assert pace.took is not None
    assert pace.took.median == pace.took.longest == timedelta(seconds=10)


def test_runs_that_are_spawned_one_after_the_other_wait_for_nothing() -> None:
    pace = pace_of(*(make_child(n, created=n, started=n, finished=n + 0.5) for n in range(30)))
    assert (pace.spawned_within, pace.together) == (timedelta(seconds=29), 1)
    assert pace.waited is not None
    assert pace.waited.longest == timedelta(0)


def test_the_longest_is_named() -> None:
    pace = pace_of(*(make_child(n, started=0, finished=9 if n == 7 else 1) for n in range(10)))
    assert pace.took is not None
    assert (pace.took.node.run.metadata.name, pace.took.longest) == ("child-7", timedelta(seconds=9))


@pytest.mark.parametrize(
    ("child", "want"),
    [
        pytest.param(make_child(0, created=5, started=0, finished=5), 0, id="recorded with its result"),
        pytest.param(make_child(0, started=60, spec={"startAt": at(58)}), 2, id="scheduled for later"),
        pytest.param(make_child(0, started=60, spec={"startAt": at(-9)}), 60, id="scheduled for what was over"),
        pytest.param(make_child(0, started=60, status={"reruns": 1}), None, id="run again since"),
        pytest.param(make_child(0), None, id="not begun"),
    ],
)
def test_what_a_run_waited(child: WorkflowRun, want: float | None) -> None:
    waited = pace_of(child).waited
    assert (waited and waited.longest) == (None if want is None else timedelta(seconds=want))


def test_what_goes_on_counts_as_being_executed() -> None:
    pace = pace_of(make_child(0, started=0), make_child(1, started=50))
    assert (pace.together, pace.took) == (2, None)


def test_few_runs_are_not_told() -> None:
    assert paces(tree_of(make_child(0)), now=START, at_least=2) == []


def test_it_is_told_with_what_the_pool_has() -> None:
    retried = {"steps": {"work": {"phase": "Succeeded", "attempt": 1}}}
    children = [make_child(n, started=n * 2, finished=n * 2 + 2, status=retried if n == 3 else {}) for n in range(5)]
    workflow = Workflow.model_validate({"metadata": {"name": "child"}, "status": {"pool": "workers"}})
    spec = {"template": {"spec": {"containers": [{"name": "worker", "image": "i"}]}}, "maxReplicas": 3}
    status = {"readyReplicas": 1, "slots": 1}
    pool = WorkerPool.model_validate({"metadata": {"name": "workers"}, "spec": spec, "status": status})
    told = where_time_went(
        tree_of(*children), workflows={"child": workflow}, pools={"workers": pool}, now=START, at_least=2
    )
    assert list(told) == [
        "5 runs of Child, at most 1 at a time",
        "    were spawned within 1s",
        "    waited for a worker 4s (median), 8s (longest: child-4)",
        "    took 2s (median), 2s (longest: child-0)",
        "    needed more than one attempt of a step: 1",
        "pool workers: 1 connected worker with 1 slot (maxReplicas 3) now",
    ]
