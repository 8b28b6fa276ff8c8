"""Hatchet's REST API as the published SDKs from 1.0 on call it: runs, workflows, workers, metrics."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import pytest_asyncio

from hatchet_operator.cluster.kinds import WORKFLOWS
from tests.compat.published import PROGRAMS, PublishedCluster
from tests.integration.harness import NAMESPACE, output_of, phase_of
from tests.kube.eventually import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROGRAM = PROGRAMS / "rest_tasks.py"
EVER, LATE, LATER = (f"{year}-01-31T12:00:00+00:00" for year in (2020, 2100, 2101))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rest(cluster: PublishedCluster) -> PublishedCluster:
    worker = cluster.start_program(PROGRAM, "worker", name="rest")
    await cluster.until_listening(worker, "double", "family", "endless", "quitter", "graph")
    return cluster


async def ask(rest: PublishedCluster, *calls: list[Any]) -> list[Any]:
    """Return what the SDK answers to calls of its methods, all of which succeed."""
    answers = await rest.rest(PROGRAM, *calls)
    assert all("answer" in each for each in answers), answers
    return [each["answer"] for each in answers]


async def test_a_run_is_told_with_its_tasks(rest: PublishedCluster) -> None:
    await rest.create_run("graph", "graph", a=1)
    await rest.finished("graph")
    uid = rest.uid_of("graph")
    details, status, output = await ask(
        rest,
        ["hatchet.runs.get", {"workflow_run_id": uid}],
        ["hatchet.runs.get_status", {"workflow_run_id": uid}],
        ["hatchet.runs.get_result", {"run_id": uid}],
    )
    run, tasks = details["run"], {task["displayName"]: task for task in details["tasks"]}
    assert (run["status"], status, run["input"], run["metadata"]["id"]) == ("FAILED", "FAILED", {"a": 1}, uid)
    assert "it broke" in run["errorMessage"]
    assert output == {"load": {"n": 20}, "tell-on-failure": {"told": True}}
    assert {name: task["status"] for name, task in tasks.items()} == {
        "load": "COMPLETED",
        "add": "FAILED",
        "tell-on-failure": "COMPLETED",
    }
    assert tasks["load"]["output"] == {"n": 20}
    shape = {item["taskName"]: item for item in details["shape"]}
    assert shape["load"]["childrenStepIds"] == [shape["add"]["stepId"]]
    happened = [(event["taskDisplayName"], event["eventType"]) for event in details["taskEvents"]]
    assert [kind for name, kind in happened if name == "add"] == ["STARTED", "FAILED"]
    [task] = await ask(rest, ["hatchet.runs.get_task_run", {"task_run_id": tasks["add"]["taskExternalId"]}])
    assert (task["displayName"], task["workflowRunExternalId"]) == ("add", uid)


async def test_runs_are_listed_by_what_they_are(rest: PublishedCluster) -> None:
    await rest.create_run("family", "family")
    assert output_of(await rest.finished("family"), "family")["id"]
    uid = rest.uid_of("family")
    workflow, children, ids, counts, page, first = await ask(
        rest,
        ["hatchet.workflows.list", {"workflow_name": "Double"}],
        ["hatchet.runs.list", {"parent_task_external_id": uid}],
        ["hatchet.runs.list", {"parent_task_external_id": uid, "include_payloads": False, "only_tasks": True}],
        ["hatchet.metrics.get_task_metrics", {"parent_task_external_id": uid}],
        ["hatchet.runs.list_with_pagination", {"statuses": ["COMPLETED"]}],
        ["hatchet.runs.list", {"limit": 1, "parent_task_external_id": uid}],
    )
    (double,) = workflow["rows"]
    assert {(row["workflowName"], row["type"], row["status"]) for row in children["rows"]} == {
        ("Double", "TASK", "COMPLETED")
    }
    assert [row["output"] for row in children["rows"]] == [{"doubled": 2}] * 2
    assert [row["output"] for row in ids["rows"]] == [{}] * 2
    assert "completed=2" in counts
    assert {uid, *(row["metadata"]["id"] for row in children["rows"])} <= {row["metadata"]["id"] for row in page}
    assert (len(first["rows"]), first["pagination"]["num_pages"]) == (1, 2)
    parent = next(row for row in page if row["metadata"]["id"] == uid)
    assert (parent["numSpawnedChildren"], parent["displayName"]) == (2, "family")
    assert {row["parentTaskExternalId"] for row in children["rows"]} == {uid}
    of_double, by_metadata, got, version = await ask(
        rest,
        ["hatchet.runs.list", {"workflow_ids": [double["metadata"]["id"]]}],
        ["hatchet.runs.list", {"additional_metadata": {"nobody": "has this"}}],
        ["hatchet.workflows.get", {"workflow_id": double["metadata"]["id"]}],
        ["hatchet.workflows.get_version", {"workflow_id": double["metadata"]["id"]}],
    )
    assert {row["workflowName"] for row in of_double["rows"]} == {"Double"}
    assert by_metadata["rows"] == []
    assert (got["name"], version["workflowId"]) == ("Double", double["metadata"]["id"])
    assert [step["readableId"] for step in version["jobs"][0]["steps"]] == ["double"]


async def test_runs_are_found_by_status_time_and_event(rest: PublishedCluster) -> None:
    await rest.create_run("waiting", "waiting")
    await rest.create_run("broken", "graph")
    await rest.finished("broken")
    [event] = await ask(rest, ["calls.push", {"key": "rest:asked"}])
    (told,) = await rest.runs(f"hatchet-operator.dev/event={event}")
    await rest.finished(told["metadata"]["name"])
    failed, before, after, by_event, with_tasks, waiting = await ask(
        rest,
        ["hatchet.runs.list", {"statuses": ["FAILED"]}],
        ["calls.created", {"since": EVER, "until": EVER}],
        ["calls.created", {"since": LATE, "until": LATER}],
        ["hatchet.runs.list", {"triggering_event_external_id": event}],
        ["hatchet.runs.list", {"statuses": ["FAILED"], "only_tasks": True, "limit": 1}],
        ["hatchet.metrics.get_queue_metrics", {}],
    )
    of_kind = {run["metadata"]["uid"] for run in await rest.runs() if phase_of(run) == "Failed"}
    assert {row["metadata"]["id"] for row in failed["rows"]} == of_kind
    assert before["rows"] == after["rows"] == []
    assert [row["metadata"]["id"] for row in by_event["rows"]] == [told["metadata"]["uid"]]
    assert {row["displayName"] for row in with_tasks["rows"]} == {"load", "add", "tell-on-failure"}
    assert waiting == {"waiting:waiting": 1}


async def test_scheduled_runs_are_created_found_and_deleted(rest: PublishedCluster) -> None:
    given = {"workflow_name": "Double", "input": {"a": 1}, "additional_metadata": {"who": "later"}}
    made, listed = await ask(
        rest, ["hatchet.scheduled.create", {"trigger_at": LATE, **given}], ["hatchet.scheduled.list", {}]
    )
    identity = made["metadata"]["id"]
    assert (made["workflowName"], made["triggerAt"][:10], made["input"]) == ("Double", LATE[:10], {"a": 1})
    assert [row["metadata"]["id"] for row in listed["rows"]] == [identity]
    got, _, left = await ask(
        rest,
        ["hatchet.scheduled.get", {"scheduled_id": identity}],
        ["hatchet.scheduled.delete", {"scheduled_id": identity}],
        ["hatchet.scheduled.list", {}],
    )
    assert got["metadata"]["id"] == identity
    assert left["rows"] == []
    assert phase_of(await rest.finished(identity)) == "Cancelled"


async def test_runs_are_cancelled_by_id_by_filter_and_by_themselves(rest: PublishedCluster) -> None:
    await rest.create_run("quitter", "quitter")
    for number in range(2):
        await rest.create_run(f"endless-{number}", "endless")
    await ask(rest, ["hatchet.runs.cancel", {"run_id": rest.uid_of("endless-0")}])
    await ask(rest, ["calls.cancel", {"since": EVER, "statuses": ["QUEUED", "RUNNING"]}])
    ended = await asyncio.gather(*(rest.finished(name) for name in ("endless-0", "endless-1", "quitter")))
    assert [phase_of(run) for run in ended] == ["Cancelled"] * 3


async def test_runs_are_created_and_replayed(rest: PublishedCluster) -> None:
    given = {"workflow_name": "Double", "input": {"a": 1}, "additional_metadata": {"who": "me"}, "priority": 3}
    [made] = await ask(rest, ["hatchet.runs.create", given])
    uid = made["run"]["metadata"]["id"]
    run = await rest.finished(uid)
    assert (run["spec"]["additionalMetadata"], run["spec"]["priority"]) == ({"who": "me"}, 3)
    found, _ = await ask(
        rest,
        ["hatchet.runs.list", {"additional_metadata": {"who": "me"}}],
        ["hatchet.runs.replay", {"run_id": uid}],
    )
    assert [row["metadata"]["id"] for row in found["rows"]] == [uid]

    await eventually(lambda: was_replayed(rest, uid, times=1))
    await ask(rest, ["calls.replay", {"ids": [uid]}])
    await eventually(lambda: was_replayed(rest, uid, times=2))


async def was_replayed(rest: PublishedCluster, uid: str, *, times: int) -> bool:
    run = await rest.run(uid)
    return bool(run["status"].get("reruns") == times and phase_of(run) == "Succeeded")


async def test_workers_are_listed_and_one_that_ends_is_paused(rest: PublishedCluster) -> None:
    worker = rest.start_program(PROGRAM, "worker", name="ending")
    await eventually(lambda: at_least_two(rest))
    [before] = await ask(rest, ["hatchet.workers.list", {}])
    assert {row["status"] for row in before["rows"]} == {"ACTIVE"}
    assert {row["slotConfig"]["default"]["limit"] for row in before["rows"]} == {10}
    [same] = await ask(rest, ["hatchet.workers.get", {"worker_id": before["rows"][0]["metadata"]["id"]}])
    assert same["metadata"]["id"] == before["rows"][0]["metadata"]["id"]
    assert await worker.end() == 0
    assert "task assignment paused" in worker.tail()
    assert rest.operator is not None
    assert "worker draining" in rest.operator.tail()


async def at_least_two(rest: PublishedCluster) -> bool:
    [found] = await ask(rest, ["hatchet.workers.list", {}])
    return len(found["rows"]) == 2


async def test_what_is_refused_says_why_at_once(rest: PublishedCluster) -> None:
    logs, events, worker = await rest.rest(
        PROGRAM,
        ["hatchet.logs.list", {"task_run_id": "0" * 36}],
        ["hatchet.cron.delete", {"cron_id": "0" * 36}],
        ["hatchet.runs.replay", {"run_id": "0" * 36}],
    )
    assert (logs["status"], events["status"], worker["status"]) == (405, 405, 404)
    assert "hatchet-operator logs RUN" in json.loads(logs["said"])["errors"][0]["description"]
    assert "spec.crons of the Workflow" in json.loads(events["said"])["errors"][0]["description"]


async def test_crons_are_shown(rest: PublishedCluster) -> None:
    spec = {"crons": [{"schedule": "30 6 * * MON-FRI", "suspended": True}]}
    await rest.api.patch(WORKFLOWS, NAMESPACE, "double", {"spec": spec})

    async def is_listed() -> bool:
        [answer] = await ask(rest, ["hatchet.cron.list", {}])
        return bool(answer["rows"])

    await eventually(is_listed)
    [listed] = await ask(rest, ["hatchet.cron.list", {"workflow_name": "Double"}])
    (row,) = listed["rows"]
    assert (row["workflowName"], row["cron"], row["enabled"]) == ("Double", "30 6 * * MON-FRI", False)
    [same] = await ask(rest, ["hatchet.cron.get", {"cron_id": row["metadata"]["id"]}])
    assert same == row
