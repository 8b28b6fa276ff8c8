"""What nobody may change about a run once it is there, and what is said to whoever tries."""

from __future__ import annotations

from typing import Any

import pytest

PARENT = {"name": "p", "uid": "u", "step": "s", "index": 0}


def fixed(field: str, instead: str = "create another WorkflowRun instead") -> str:
    return (
        f"spec.{field}: Forbidden: {field} is fixed once the object exists: "
        f"it can be neither changed, added nor removed; {instead}"
    )


FORBIDDEN_CHANGES: list[Any] = [
    pytest.param({}, {"workflow": "b"}, fixed("workflow"), id="another workflow"),
    pytest.param({"input": {"a": 1}}, {"input": {"a": 2}}, fixed("input"), id="a value"),
    pytest.param({"input": {"a": 1}}, {"input": {"b": 2}}, fixed("input"), id="a key"),
    pytest.param(
        {"input": {"a": 1}},
        {"input": {"a": None, "b": 1}},
        fixed("input"),
        id="one key for another",
    ),
    pytest.param(
        {"input": {"a": {"b": [1]}}},
        {"input": {"a": {"b": [1, 2]}}},
        fixed("input"),
        id="deep in the input",
    ),
    pytest.param({"input": {}}, {"input": None}, fixed("input"), id="input removed"),
    pytest.param({}, {"input": {}}, fixed("input"), id="input added"),
    pytest.param(
        {"inputJson": "{}"},
        {"inputJson": "[]"},
        fixed("inputJson"),
        id="another inputJson",
    ),
    pytest.param(
        {"inputJson": "{}"},
        {"inputJson": None},
        fixed("inputJson"),
        id="inputJson gone",
    ),
    pytest.param(
        {},
        {"parent": PARENT},
        fixed("parent", "only the operator sets it, when a step spawns the run"),
        id="a parent for a root run",
    ),
    pytest.param({"parent": PARENT}, {"parent": None}, fixed("parent", ""), id="an orphan"),
    pytest.param(
        {},
        {"managedBy": "kueue.x-k8s.io/multikueue"},
        fixed("managedBy", "who runs it is said when it is created"),
        id="another controller",
    ),
    pytest.param(
        {"managedBy": "kueue.x-k8s.io/multikueue"},
        {"managedBy": None},
        fixed("managedBy", "who runs it is said when it is created"),
        id="no other controller any more",
    ),
    pytest.param({"parent": PARENT}, {"parent": {"uid": "v"}}, fixed("parent", ""), id="another parent"),
    pytest.param(
        {"cancelled": True},
        {"cancelled": False},
        "spec.cancelled: Forbidden: cancelled cannot go back to false: a cancelled run stays cancelled; "
        "create another WorkflowRun instead",
        id="a cancel taken back",
    ),
    pytest.param({"cancelled": True}, {"cancelled": None}, "spec.cancelled: Forbidden", id="a cancel removed"),
    pytest.param(
        {},
        {"propagateLabels": ["hatchet-operator.dev/root"]},
        "spec.propagateLabels: Invalid value: propagateLabels has a label of hatchet-operator.dev",
        id="our own labels handed down",
    ),
    pytest.param(
        {"reruns": 2},
        {"reruns": 1},
        "spec.reruns: Invalid value: reruns is lower than it was, but it counts reruns and only goes up; "
        "to run the run once more, raise it by one",
        id="fewer reruns",
    ),
    pytest.param(
        {"resumes": 2},
        {"resumes": 1},
        "spec.resumes: Invalid value: resumes is lower than it was, but it only goes up; "
        "to resume a paused run, raise it by one",
        id="fewer resumes",
    ),
    pytest.param(
        {"replay": {"number": 2, "from": "Start"}},
        {"replay": {"number": 1}},
        "spec.replay: Invalid value: replay.number is lower than it was, but it counts reruns and only goes up; "
        "to replay the run, set it to status.reruns + 1",
        id="an earlier replay",
    ),
    pytest.param(
        {"replay": {"number": 2, "from": "Start"}},
        {"replay": None},
        "spec.replay: Invalid value: replay.number is lower than it was",
        id="a replay taken back",
    ),
    pytest.param(
        {"reruns": 2},
        {"replay": {"number": 2, "from": "Start"}},
        "spec.replay: Invalid value: replay.number is a rerun that was asked for before by reruns",
        id="a replay by the number of a rerun",
    ),
    pytest.param(
        {"replay": {"number": 2, "from": "Start"}},
        {"replay": {"from": "Failed"}},
        "spec.replay: Invalid value: replay.from says how replay.number goes, and can't be changed alone",
        id="a replay that goes another way",
    ),
    pytest.param(
        {"cancelled": True},
        {"replay": {"number": 1, "from": "Failed"}},
        "spec.cancelled: Forbidden: a cancelled run stays cancelled, so it can't be run again; "
        "create another WorkflowRun instead",
        id="a replay of a cancelled run",
    ),
    pytest.param(
        {"cancelled": True},
        {"reruns": 1},
        "spec.cancelled: Forbidden: a cancelled run stays cancelled, so it can't be run again",
        id="a rerun of a cancelled run",
    ),
    pytest.param(
        {},
        {"replay": {"number": 1, "from": "Failed", "requestedBy": "x/1"}},
        "replay.requestedBy is set on a run without parent",
        id="a replay for a parent that is not there",
    ),
    pytest.param(
        {"execution": 2},
        {"execution": None},
        "spec.execution: Invalid value: execution (the earlier name of reruns) is lower than it was",
        id="fewer reruns by their earlier name",
    ),
    pytest.param(
        {"parent": PARENT},
        {"parent": {"key": "k"}},
        fixed("parent", ""),
        id="a key for a child without",
    ),
    pytest.param(
        {"parent": PARENT | {"key": "k"}},
        {"parent": {"key": None}},
        fixed("parent", ""),
        id="a child without its key",
    ),
    pytest.param(
        {"parent": PARENT | {"key": "k"}},
        {"parent": {"key": ""}},
        "spec.parent.key: Invalid value: parent.key is empty",
        id="an empty key",
    ),
    pytest.param({"parent": PARENT}, {"parent": {"step": "t"}}, fixed("parent", ""), id="another step of the parent"),
    pytest.param({"parent": PARENT}, {"parent": {"index": 1}}, fixed("parent", ""), id="another position"),
    pytest.param({}, {"inputJson": "{}"}, fixed("inputJson"), id="inputJson added"),
    pytest.param(
        {"inputJson": "{}"}, {"inputJson": None, "priority": 1}, fixed("inputJson"), id="inputJson for another"
    ),
    pytest.param(
        {"managedBy": "kueue.x-k8s.io/multikueue"},
        {"managedBy": "hatchet-operator.dev/operator"},
        fixed("managedBy", "who runs it is said when it is created"),
        id="from one controller to another",
    ),
    pytest.param({"resumes": 2}, {"resumes": None}, "spec.resumes: Invalid value: resumes is lower", id="no resumes"),
]
"""Each with a run's spec, a merge patch of it, and a part of the answer."""
