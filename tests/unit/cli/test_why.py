"""What is said of a tree that is not finished: its leaves, alike ones once, and who around them is not well."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hatchet_cli.tree import RunNode, make_tree
from hatchet_cli.why import Explanation, explain, names_of, words_for
from hatchet_operator.resources.run import WorkflowRun
from hatchet_operator.resources.workerpool import WorkerPool
from hatchet_operator.resources.workflow import Workflow

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def make_run(name: str, phase: str = "Pending", *, parent: str | None = None, **status: Any) -> WorkflowRun:
    spec: dict[str, Any] = {"workflow": "child" if parent else "parent"}
    if parent:
        spec["parent"] = {"name": parent, "uid": parent, "step": "spawn", "key": name, "index": 0}
    metadata = {"name": name, "uid": name, "creationTimestamp": NOW.isoformat()}
    return WorkflowRun.model_validate({"metadata": metadata, "spec": spec, "status": {"phase": phase} | status})


def tree_of(*runs: WorkflowRun) -> RunNode:
    tree = make_tree(runs, runs[0].metadata.uid, names={"child": "Child", "parent": "Parent"})
    assert tree is not None
    return tree


def explained(
    *runs: WorkflowRun, workflows: dict[str, Workflow] | None = None, pools: dict[str, WorkerPool] | None = None
) -> Explanation:
    return explain(tree_of(*runs), workflows=workflows or {}, pools=pools or {}, now=NOW)


def workflow(conditions: list[dict[str, str]]) -> Workflow:
    status = {"pool": "workers", "conditions": conditions}
    return Workflow.model_validate({"metadata": {"name": "child"}, "status": status})


def pool(conditions: list[dict[str, str]], **status: Any) -> WorkerPool:
    spec = {"template": {"spec": {"containers": [{"name": "worker", "image": "i"}]}}}
    return WorkerPool.model_validate(
        {"metadata": {"name": "workers"}, "spec": spec, "status": {"conditions": conditions} | status}
    )


def test_alike_leaves_are_told_once_the_most_first_and_finished_ones_not_at_all() -> None:
    waits = {"reason": "WaitingForSlot", "message": "all 5 slots are taken"}
    explanation = explained(
        make_run("root", "Running"),
        make_run("done", "Succeeded", parent="root"),
        make_run("on", "Running", parent="root", steps={"work": {"phase": "Running", "worker": "w-1"}}),
        *(make_run(f"waits-{number}", parent="root", **waits) for number in range(5)),
    )
    assert [(finding.words, len(finding.nodes)) for finding in explanation.findings] == [
        ("WaitingForSlot: all 5 slots are taken", 5),
        ("step work is running on w-1", 1),
    ]
    assert names_of(explanation.findings[0]) == "waits-0, waits-1, waits-2 and 2 more"


def test_a_parent_whose_children_ended_is_a_leaf_itself() -> None:
    root = make_run("root", "Running", steps={"spawn": {"phase": "Running", "worker": "w-1"}})
    explanation = explained(root, make_run("done", "Succeeded", parent="root"))
    assert [finding.words for finding in explanation.findings] == ["step spawn is running on w-1"]


@pytest.mark.parametrize(
    ("run", "words"),
    [
        pytest.param(
            make_run("a", steps={"s": {"phase": "Pending", "retryAt": (NOW + timedelta(seconds=30)).isoformat()}}),
            "an attempt failed; the next one begins in 30s",
            id="a back-off",
        ),
        pytest.param(make_run("a"), None, id="nothing is known"),
        pytest.param(
            make_run("a", reason="WorkflowMissing", message="nobody registered it"),
            "WorkflowMissing: nobody registered it",
            id="its own words",
        ),
    ],
)
def test_a_leaf_says_what_it_does(run: WorkflowRun, words: str | None) -> None:
    assert words_for(tree_of(run), NOW) == words


def test_workflows_and_pools_speak_where_they_are_not_well() -> None:
    conditions = [
        {"type": "Ready", "status": "False", "reason": "PodsFailing", "message": "summed up"},
        {"type": "Available", "status": "False", "reason": "PodsFailing", "message": "image not found"},
        {"type": "RolledOut", "status": "False", "reason": "PodsFailing", "message": "image not found"},
        {"type": "Valid", "status": "True", "reason": "Valid", "message": ""},
        {"type": "Stalled", "status": "True", "reason": "PodsFailing", "message": "it tries no more"},
    ]
    offered = [{"type": "Offered", "status": "False", "reason": "NotOffered", "message": "no worker has its code"}]
    explanation = explained(
        make_run("root", "Running"),
        make_run("waits", parent="root"),
        workflows={"child": workflow(offered)},
        pools={"workers": pool(conditions, queued=7, running=5, slots=5, readyReplicas=1)},
    )
    assert explanation.around == (
        "workflow child: NotOffered: no worker has its code",
        "pool workers: PodsFailing: image not found",
        "pool workers: PodsFailing: it tries no more",
        "pool workers: 1 connected worker with 5 slots (maxReplicas 1); they have 5 attempts, and 7 wait",
    )


@pytest.mark.parametrize(
    ("queued", "words"),
    [(9, "waiting in the queue of pool workers, behind others"), (0, "it has not yet said what it waits for")],
)
def test_the_pool_speaks_for_those_that_have_not_said_anything(queued: int, words: str) -> None:
    known = {"workers": pool([], queued=queued)}
    explanation = explained(make_run("a", parent="x"), workflows={"child": workflow([])}, pools=known)
    assert explanation.findings[0].words.startswith(words)


def test_a_pool_that_is_not_there_is_said() -> None:
    explanation = explained(make_run("a", parent="x"), workflows={"child": workflow([])})
    assert explanation.around == ("pool workers does not exist",)
