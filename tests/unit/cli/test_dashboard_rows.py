"""What the page is sent of an object."""

import json
from typing import Any

from hatchet_cli.dashboard.rows import pod_row, rate_limit_row, run_row, workflow_row
from hatchet_operator.resources.pod import read_pod
from hatchet_operator.resources.rate_limit import RateLimit
from hatchet_operator.resources.run import WorkflowRun
from hatchet_operator.resources.workflow import Workflow

AT = "2026-01-02T03:04:05.250000Z"


def run(**spec: Any) -> WorkflowRun:
    return WorkflowRun.model_validate(
        {
            "metadata": {
                "name": "a-1",
                "namespace": "default",
                "uid": "u",
                "resourceVersion": "7",
                "creationTimestamp": AT,
            },
            "spec": {"workflow": "child", "inputJson": json.dumps({"large": "x" * 100_000}), **spec},
            "status": {"phase": "Running", "startedAt": AT, "steps": {}},
        }
    )


def test_a_row_has_no_input_and_no_empty_fields() -> None:
    assert run_row(run()) == {
        "uid": "u",
        "version": "7",
        "name": "a-1",
        "workflow": "child",
        "phase": "Running",
        "created": 1767323045250,
        "started": 1767323045250,
    }


def test_a_child_has_its_place_and_its_metadata_as_text() -> None:
    parent = {"name": "a", "uid": "p", "step": "spawn", "key": "k", "index": 3}
    row = run_row(run(parent=parent, additionalMetadata={"n": 1}, suspended=True))
    assert {name: row[name] for name in ("parent", "parentName", "step", "key", "index")} == {
        "parent": "p",
        "parentName": "a",
        "step": "spawn",
        "key": "k",
        "index": 5,
    }
    assert (row["metadata"], row["suspended"]) == ({"n": "1"}, True)


STEP = {"name": "work", "action": "etl:work", "timeout": "60s"}


def workflow(spec: dict[str, Any], status: dict[str, Any], **definition: Any) -> Workflow:
    registered = {"name": "Etl", "steps": [STEP], "scheduleTimeout": "5m", **definition}
    return Workflow.model_validate(
        {"metadata": {"name": "etl", "uid": "u"}, "spec": spec, "status": {"definition": registered, **status}}
    )


def test_crons_are_those_of_people_and_of_code_with_what_became_of_them() -> None:
    crons = [{"schedule": "0  4 * * *", "timeZone": "Asia/Tokyo", "concurrencyPolicy": "Forbid"}]
    seen = {"schedule": "0 4 * * *", "timeZone": "Asia/Tokyo", "nextTick": AT, "lastRun": "etl-1", "message": "why"}
    row = workflow_row(workflow({"crons": crons}, {"crons": [seen]}, crons=["30 6 * * *"], inputSchema="{}"))
    assert row["crons"] == [
        {
            "schedule": "0 4 * * *",
            "zone": "Asia/Tokyo",
            "overlap": "Forbid",
            "catchUp": "Last",
            "nextTick": 1767323045250,
            "lastRun": "etl-1",
            "message": "why",
        },
        {"schedule": "30 6 * * *", "zone": "UTC", "overlap": "Allow", "catchUp": "Last"},
    ]
    assert "inputSchema" not in row, "it may be large, and is read when a form is opened"


def test_a_suspended_workflow_has_suspended_crons() -> None:
    row = workflow_row(workflow({"suspended": True}, {}, crons=["30 6 * * *"]))
    assert [cron["suspended"] for cron in row["crons"]] == [True]


def test_groups_say_how_many_may_go_on() -> None:
    groups = [
        {"expression": "input.user", "key": "ada", "active": 2, "waiting": 1, "waitingRuns": ["c"]},
        {"expression": "an earlier one", "key": "bob", "active": 1},
    ]
    limits = [{"expression": "input.user", "maxRuns": 2}]
    row = workflow_row(workflow({}, {"concurrencyGroups": groups, "groups": 30}, concurrency=limits))
    assert row["groupCount"] == 30
    assert row["groups"] == [
        {"expression": "input.user", "key": "ada", "active": 2, "waiting": 1, "most": 2, "waitingRuns": ["c"]},
        {"expression": "an earlier one", "key": "bob", "active": 1, "waiting": 0},
    ]


def test_a_rate_limit_is_named_by_its_key() -> None:
    spec = {"key": "user:ada", "limit": 3, "window": "1m"}
    status = {"used": 3, "waiting": 1, "waitingRuns": ["a"]}
    limit = RateLimit.model_validate({"metadata": {"name": "ada", "uid": "u"}, "spec": spec, "status": status})
    row = rate_limit_row(limit)
    assert {name: row[name] for name in ("key", "used", "waiting", "waitingRuns", "window")} == {
        "key": "user:ada",
        "used": 3,
        "waiting": 1,
        "waitingRuns": ["a"],
        "window": "1m",
    }


def test_a_pod_that_is_being_deleted_says_that_first() -> None:
    waiting = {"name": "worker", "state": {"waiting": {"reason": "ErrImagePull", "message": "none"}}}
    pod: dict[str, Any] = {
        "metadata": {"name": "p", "uid": "u"},
        "spec": {"containers": [{"name": "worker"}], "nodeName": "n"},
        "status": {"phase": "Pending", "containerStatuses": [waiting]},
    }
    row = {"uid": "u", "name": "p", "node": "n", "phase": "Pending", "isReady": False}
    assert pod_row(read_pod(pod)) == row | {"trouble": "ErrImagePull: none"}
    pod["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z"
    assert pod_row(read_pod(pod))["trouble"].startswith("pod p is being deleted")
