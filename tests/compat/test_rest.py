"""Hatchet's REST API as the published SDKs with workflows as classes call it: on-failure steps, `hatchet.rest`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from typing import Any

import pytest
import pytest_asyncio

from hatchet_operator.cluster.kinds import WORKFLOWS
from hatchet_operator.resources.base import Json
from tests.compat.published import PROGRAMS, PublishedCluster
from tests.integration.harness import NAMESPACE, output_of, phase_of
from tests.kube.eventually import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROGRAM = PROGRAMS / "rest.py"
ADDRESS = {"HATCHET_CLIENT_HOST_PORT": ""}
"""With an address of their own, these clients don't read that of the REST API from their token."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rest(cluster: PublishedCluster) -> PublishedCluster:
    worker = cluster.start_program(PROGRAM, "worker", **ADDRESS)
    await cluster.until_listening(worker, "broken", "spawner", "hello", "endless")
    return cluster


async def ask(rest: PublishedCluster, *calls: list[Any]) -> list[Any]:
    """Return what `hatchet.rest` answers to calls of its methods, all of which succeed."""
    answers = await rest.rest(PROGRAM, *calls, **ADDRESS)
    assert all("answer" in each for each in answers), answers
    return [each["answer"] for each in answers]


async def refused(rest: PublishedCluster, method: str, **arguments: Any) -> tuple[int, str]:
    [answer] = await rest.rest(PROGRAM, [method, arguments], **ADDRESS)
    return answer["status"], json.loads(answer["said"])["errors"][0]["description"]


async def test_an_on_failure_step_learns_what_failed(rest: PublishedCluster) -> None:
    await rest.create_run("broken", "broken")
    told = (await rest.finished("broken"))["status"]["steps"]["tell"]
    (failure,) = json.loads(told["output"])["failures"]
    assert failure["step_run_action_name"] == "broken:bad"
    assert failure["step_id"].endswith("/bad")
    assert "ValueError: it broke" in failure["error"]


async def test_runs_are_listed_and_told(rest: PublishedCluster) -> None:
    await rest.create_run("spawner", "spawner")
    await rest.finished("spawner")
    uid = rest.uid_of("spawner")
    await eventually(lambda: all_final(rest, uid))
    whole, children, workflows = await ask(
        rest,
        ["workflow_run_get", {"workflow_run_id": uid}],
        ["workflow_run_list", {"parent_workflow_run_id": uid}],
        ["workflow_list", {}],
    )
    assert (whole["metadata"]["id"], whole["status"], whole["displayName"]) == (uid, "SUCCEEDED", "spawner")
    (job,) = whole["jobRuns"]
    assert [(step["step"]["readableId"], step["status"]) for step in job["stepRuns"]] == [("spawn", "SUCCEEDED")]
    (child,) = children["rows"]
    assert (child["parentId"], child["status"]) == (uid, "SUCCEEDED")
    assert [row["name"] for row in workflows["rows"]] == ["Broken", "Endless", "Hello", "Spawner"]
    hello = next(row["metadata"]["id"] for row in workflows["rows"] if row["name"] == "Hello")
    found, version, of_hello, first, started = await ask(
        rest,
        ["workflow_get", {"workflow_id": hello}],
        ["workflow_version_get", {"workflow_id": hello}],
        ["workflow_run_list", {"workflow_id": hello, "statuses": ["SUCCEEDED"]}],
        ["workflow_run_list", {"limit": 1, "offset": 1}],
        ["workflow_run_create", {"workflow_id": hello, "input": {"name": "ada"}}],
    )
    assert (found["name"], version["workflowId"]) == ("Hello", hello)
    assert [step["readableId"] for step in version["jobs"][0]["steps"]] == ["greet"]
    assert child["metadata"]["id"] in [row["metadata"]["id"] for row in of_hello["rows"]]
    assert len(first["rows"]) == 1
    assert first["pagination"]["current_page"] == 2
    assert output_of(await rest.finished(started["metadata"]["id"]), "greet") == {"hello": "ada"}


async def test_runs_are_found_by_workflow_status_metadata_and_event(rest: PublishedCluster) -> None:
    await rest.create_run("failing", "broken")
    await rest.finished("failing")
    [pushed] = await rest.ask({"event": "rest:asked", "payload": {"name": "bob"}})
    (told,) = await rest.runs(f"hatchet-operator.dev/event={pushed['event']}")
    await rest.finished(told["metadata"]["name"])
    [workflows] = await ask(rest, ["workflow_list", {}])
    broken = next(row["metadata"]["id"] for row in workflows["rows"] if row["name"] == "Broken")
    of_broken, failed, by_metadata, by_event = await ask(
        rest,
        ["workflow_run_list", {"workflow_id": broken}],
        ["workflow_run_list", {"statuses": ["FAILED"]}],
        ["workflow_run_list", {"additional_metadata": ["by:me"]}],
        ["workflow_run_list", {"event_id": pushed["event"]}],
    )
    runs = await rest.runs()
    assert names_in(of_broken) == {run["metadata"]["name"] for run in runs if run["spec"]["workflow"] == "broken"}
    assert names_in(failed) == {run["metadata"]["name"] for run in runs if phase_of(run) == "Failed"}
    assert names_in(by_metadata) == names_in(by_event) == {told["metadata"]["name"]}


def names_in(listed: Json) -> set[str]:
    return {row["displayName"] for row in listed["rows"]}


async def all_final(rest: PublishedCluster, uid: str) -> bool:
    return all(phase_of(child) == "Succeeded" for child in await rest.children_of(uid))


async def test_runs_are_cancelled_and_replayed(rest: PublishedCluster) -> None:
    for number in range(2):
        await rest.create_run(f"endless-{number}", "endless")
    first, second = rest.uid_of("endless-0"), rest.uid_of("endless-1")
    [one, both] = await ask(
        rest,
        ["workflow_run_cancel", {"workflow_run_id": first}],
        ["workflow_run_bulk_cancel", {"workflow_run_ids": [first, second]}],
    )
    assert one["workflowRunIds"] == [first]
    assert second in both["workflowRunIds"]
    ended = await asyncio.gather(rest.finished("endless-0"), rest.finished("endless-1"))
    assert [phase_of(run) for run in ended] == ["Cancelled", "Cancelled"]
    await rest.create_run("again", "hello", who="ada")
    await rest.finished("again")
    [replayed] = await ask(rest, ["aio.workflow_run_replay", {"workflow_run_ids": [rest.uid_of("again")]}])
    assert [run["metadata"]["id"] for run in replayed["workflowRuns"]] == [rest.uid_of("again")]

    async def ran_twice() -> bool:
        run = await rest.run("again")
        return bool(run["status"].get("reruns") == 1 and phase_of(run) == "Succeeded")

    await eventually(ran_twice)


async def test_what_is_not_served_is_refused_with_what_to_do_instead(rest: PublishedCluster) -> None:
    status, said = await refused(rest, "events_list")
    assert status == 405
    assert said.endswith(
        "events are not kept, and their senders are WebhookSources (docs/triggers.md); "
        "docs/published-sdk.md says what is served"
    )
    status, said = await refused(rest, "workflow_run_get", workflow_run_id="0" * 36)
    assert (status, said) == (404, f'there is no run "{"0" * 36}" in namespace "default"')


async def test_scheduled_runs_are_created_found_and_deleted(rest: PublishedCluster) -> None:
    if not rest.sdk.spawns_in_bulk:
        pytest.skip("0.36.24 schedules over gRPC alone")
    at = "2100-01-31T12:00:00+00:00"
    given: dict[str, Any] = {"input": {"name": "later"}, "additional_metadata": {"who": "me"}}
    made, listed = await ask(
        rest,
        ["schedule_create", {"workflow_name": "Hello", "trigger_at": at, **given}],
        ["schedule_list", {}],
    )
    assert (made["workflowName"], made["triggerAt"][:10], made["input"]) == ("Hello", "2100-01-31", given["input"])
    assert [row["metadata"]["id"] for row in listed["rows"]] == [made["metadata"]["id"]]
    run = await rest.run(made["metadata"]["id"])
    assert run["spec"]["startAt"].startswith("2100-01-31T12:00:00")
    got, _, left = await ask(
        rest,
        ["schedule_get", {"scheduled_trigger_id": made["metadata"]["id"]}],
        ["schedule_delete", {"scheduled_trigger_id": made["metadata"]["id"]}],
        ["schedule_list", {}],
    )
    assert got["metadata"]["id"] == made["metadata"]["id"]
    assert left["rows"] == []


async def test_a_worker_whose_processes_are_told_to_end_says_so_and_ends(rest: PublishedCluster) -> None:
    if not rest.sdk.spawns_in_bulk:
        pytest.skip("0.36.24 ends without a word")
    worker = rest.start_program(PROGRAM, "worker", name="ending", **ADDRESS)
    operator = rest.operator
    assert operator is not None

    async def holds() -> bool:
        return operator.tail().count("worker registered") == 2

    await eventually(holds)
    os.killpg(worker.pid, signal.SIGTERM)  # the one that asks is not its main process, which kills it
    assert await worker.ended() == 0
    assert "worker draining" in operator.tail()


async def test_crons_are_listed(rest: PublishedCluster) -> None:
    if not rest.sdk.spawns_in_bulk:
        pytest.skip("0.36.24 has no such call")
    spec = {"crons": [{"schedule": "30 6 * * MON-FRI", "suspended": True}]}
    await rest.api.patch(WORKFLOWS, NAMESPACE, "hello", {"spec": spec})

    async def is_listed() -> bool:
        [answer] = await ask(rest, ["cron_list", {}])
        return bool(answer["rows"])

    await eventually(is_listed)
    [listed] = await ask(rest, ["cron_list", {}])
    (row,) = listed["rows"]
    assert (row["workflowName"], row["cron"], row["enabled"]) == ("Hello", "30 6 * * MON-FRI", False)
    [same] = await ask(rest, ["cron_get", {"cron_trigger_id": row["metadata"]["id"]}])
    assert same == row
