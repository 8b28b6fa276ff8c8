"""Which child a spawn means: the same spawn always finds the same child, and nobody else's."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc import StatusCode

from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.resources.names import ObjectRef, child_run_name, root_run_name
from hatchet_sdk import Context, Hatchet, SpawnConflict, WorkflowNotFound, WorkflowRunCancelled, WorkflowRunFailed
from hatchet_sdk.contracts import dispatcher_pb2 as wire
from hatchet_sdk.contracts import workflows_pb2 as workflows_wire
from tests.integration.inprocess import (
    NAMESPACE,
    SECONDS,
    Instance,
    ScriptedWorker,
    child_of,
    errors_of,
    make_run,
    outputs_of,
    running_operator,
    step_of,
)
from tests.kube.eventually import eventually

hatchet = Hatchet()  # for its decorators


@pytest.fixture
async def world() -> AsyncIterator[Instance]:
    async with running_operator() as instance:
        yield instance


@pytest.fixture
async def worker(world: Instance) -> ScriptedWorker:
    """A worker of "parent" (two steps beside each other, one retry each) and of "child", "other" and "grandchild"."""
    worker = await world.scripted()
    await worker.put_workflow("parent", [{"retries": 1}, {"readable_id": "second", "retries": 1}])
    await worker.put_workflow("child")
    await worker.put_workflow("other")
    return await worker.start()


async def start_parent(world: Instance, worker: ScriptedWorker, name: str = "p") -> wire.AssignedAction:
    """Return the running attempt of step "work" of a new parent."""
    await world.create_run(name, "parent")
    actions = [await worker.next(), await worker.next()]
    return next(action for action in actions if action.task_name == "work")


async def next_of(worker: ScriptedWorker, run: str) -> wire.AssignedAction:
    while (action := await worker.next()).workflow_run_id != run:
        pass
    return action


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def begin_deletion(world: Instance, name: str) -> None:
    """Delete a run that a finalizer keeps, and wait until the operator has seen that."""
    await world.hold_deletion(name)
    await world.delete_run(name)

    def is_seen() -> bool:
        record = world.engine.store.get(ObjectRef(NAMESPACE, name))
        return record is not None and record.run.metadata.deletion_timestamp is not None

    await world.until(is_seen)


async def children(world: Instance) -> list[str]:
    return sorted(run["metadata"]["name"] for run in await world.runs() if "parent" in run["spec"])


# --- Which spawns mean the same child


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        pytest.param({"key": "a", "index": -1}, {"key": "a", "index": 7}, True, id="one key, wherever in the code"),
        pytest.param({"key": "a", "index": 0}, {"key": "b", "index": 0}, False, id="two keys"),
        pytest.param({"index": -1}, {"index": -1}, True, id="one index, from -1"),
        pytest.param({"index": -1}, {"index": 0}, False, id="two indices"),
        pytest.param({"key": "0", "index": 0}, {"index": 0}, False, id="a key is never an index"),
        pytest.param({"key": "a", "index": 0}, {"key": "A", "index": 0}, False, id="keys are compared to the letter"),
        pytest.param({"key": "é", "index": 0}, {"key": "e\u0301", "index": 0}, False, id="byte by byte"),
    ],
)
async def test_identity(
    world: Instance, worker: ScriptedWorker, first: dict[str, Any], second: dict[str, Any], same: bool
) -> None:
    parent = await start_parent(world, worker)
    assert (await worker.spawn(parent, **first) == await worker.spawn(parent, **second)) is same
    assert len(await children(world)) == (1 if same else 2)


async def test_two_steps_may_use_one_key(world: Instance, worker: ScriptedWorker) -> None:
    await world.create_run("p", "parent")
    first, second = await worker.next(), await worker.next()
    assert await worker.spawn(first, key="a") != await worker.spawn(second, key="a")


async def test_a_child_says_whose_it_is(world: Instance, worker: ScriptedWorker) -> None:
    parent = await start_parent(world, worker)
    child = await world.run(await worker.spawn(parent, key="a", index=3))
    above = await world.run("p")
    uid = above["metadata"]["uid"]
    assert child["spec"]["parent"] == {"name": "p", "uid": uid, "step": "work", "key": "a", "index": 3}
    (owner,) = child["metadata"]["ownerReferences"]
    assert (owner["uid"], owner["controller"], owner.get("blockOwnerDeletion")) == (uid, True, None)
    assert child["metadata"]["labels"]["hatchet-operator.dev/root-uid"] == uid
    assert child["metadata"]["labels"]["hatchet-operator.dev/root"] == "p"
    action = await worker.next()
    assert (action.parent_workflow_run_id, action.child_workflow_key, action.child_workflow_index) == ("p", "a", 3)


async def test_one_selector_finds_a_tree(world: Instance, worker: ScriptedWorker) -> None:
    parent = await start_parent(world, worker)
    child = await worker.spawn(parent, key="a")
    below = await next_of(worker, child)
    grandchild = await worker.spawn(below, key="b")

    async def tree() -> list[str]:
        found = await world.runs("hatchet-operator.dev/root=p")
        return sorted(run["metadata"]["name"] for run in found)

    async def is_whole() -> bool:
        return await tree() == sorted(["p", child, grandchild])

    await eventually(is_whole, within_seconds=SECONDS)
    own = (await world.run("p"))["metadata"]
    assert own["labels"] == {
        "hatchet-operator.dev/root": "p",
        "hatchet-operator.dev/root-uid": own["uid"],
        "hatchet-operator.dev/workflow": "parent",
    }


async def test_what_a_person_calls_a_root_names_no_other_tree(world: Instance, worker: ScriptedWorker) -> None:
    body = make_run("p", "parent")
    body["metadata"]["labels"] = {"hatchet-operator.dev/root": "q", "hatchet-operator.dev/root-uid": "u"}
    await world.api.create(RUNS, NAMESPACE, body)
    parent = await next_of(worker, "p")
    child = await world.run(await worker.spawn(parent, key="a"))
    assert child["metadata"]["labels"]["hatchet-operator.dev/root"] == "p"
    assert child["metadata"]["labels"]["hatchet-operator.dev/root-uid"] != "u"


async def test_a_label_goes_down_a_tree_if_its_run_asks_for_it(world: Instance, worker: ScriptedWorker) -> None:
    body = make_run("p", "parent", propagateLabels=["team", "is-missing"])
    body["metadata"]["labels"] = {"team": "blue", "stage": "test"}
    await world.api.create(RUNS, NAMESPACE, body)
    parent = await next_of(worker, "p")
    child = await worker.spawn(parent, key="a")
    below = await next_of(worker, child)
    grandchild = await worker.spawn(below, key="b")
    for name in (child, grandchild):
        run = await world.run(name)
        assert run["metadata"]["labels"]["team"] == "blue"
        assert "stage" not in run["metadata"]["labels"]
        assert run["spec"]["propagateLabels"] == ["team", "is-missing"]


async def test_fifty_spawns_of_one_key_at_once_make_one_child(world: Instance, worker: ScriptedWorker) -> None:
    parent = await start_parent(world, worker)
    names = await asyncio.gather(*(worker.spawn(parent, key="a", index=index) for index in range(50)))
    assert await children(world) == [names[0]]
    assert set(names) == {names[0]}
    assert world.metric("hatchet_operator_children_spawned_total") == 1
    assert world.metric("hatchet_operator_children_attached_total") == 49


async def test_a_bad_item_of_a_bulk_fails_alone(world: Instance, worker: ScriptedWorker) -> None:
    parent = await start_parent(world, worker)
    items = [
        worker.request("child", **child_of(parent, key="a")),
        worker.request("nobody", **child_of(parent, key="b")),
        worker.request("child", **child_of(parent, key="c")),
        worker.request("child", **child_of(parent, key="a")),
    ]
    bulk = workflows_wire.BulkTriggerWorkflowRequest(workflows=items, errors_per_item=True)
    answer = await worker.call(worker.workflows.BulkTriggerWorkflow, bulk)
    first, bad, third, again = answer.workflow_run_ids
    assert (bad, again) == ("", first)
    assert await children(world) == sorted([first, third])
    (error,) = answer.errors
    assert (error.index, error.code) == (1, StatusCode.NOT_FOUND.value[0])
    assert 'workflow "nobody" is not registered' in error.message


# --- What became of the cached child does not matter


async def test_a_running_child_is_found_by_the_next_attempt(world: Instance, worker: ScriptedWorker) -> None:
    parent = await start_parent(world, worker)
    name = await worker.spawn(parent, key="a")
    child = await worker.next()
    await worker.fail(parent)
    retry = await worker.next()
    assert retry.retry_count == 1
    assert await worker.spawn(retry, key="a") == name
    awaiting = asyncio.create_task(worker.result(name))
    await worker.complete(child, {"n": 1})
    assert outputs_of(await awaiting) == {"work": {"n": 1}}
    assert worker.has_nothing_new


@pytest.mark.parametrize("phase", ["Succeeded", "Failed", "Cancelled"])
async def test_a_finished_child_answers_at_once(world: Instance, worker: ScriptedWorker, phase: str) -> None:
    parent = await start_parent(world, worker)
    name = await worker.spawn(parent, key="a")
    child = await worker.next()
    if phase == "Succeeded":
        await worker.complete(child, {"n": 1})
    elif phase == "Failed":
        await worker.fail(child, "it broke")
    else:
        await world.patch_run(name, cancelled=True)
    await world.finished(name)
    await worker.fail(parent)
    retry = await worker.next()
    assert await worker.spawn(retry, key="a") == name
    result = await worker.result(name)
    want_errors = {
        "Succeeded": [],
        "Failed": ["it broke"],
        "Cancelled": ["this step run was cancelled due to JOB_RUN_CANCELLED"],
    }
    assert (result.phase, errors_of(result)) == (phase, want_errors[phase])
    assert outputs_of(result) == ({"work": {"n": 1}} if phase == "Succeeded" else {})
    assert worker.has_nothing_new
    assert await children(world) == [name]


@pytest.mark.parametrize(
    ("workflow", "input", "want"),
    [
        pytest.param("child", {"a": 2}, "another input", id="another input"),
        pytest.param("other", {"a": 1}, "another workflow", id="another workflow"),
    ],
)
async def test_a_spawn_that_differs_gets_the_child_and_everybody_can_see_it(
    world: Instance,
    worker: ScriptedWorker,
    workflow: str,
    input: dict[str, int],  # the field
    want: str,
) -> None:
    parent = await start_parent(world, worker)
    name = await worker.spawn(parent, "child", {"a": 1}, key="a")
    assert await worker.spawn(parent, workflow, input, key="a") == name
    said = 'child "a" of step "work" of run p was spawned before with ' + want
    assert await world.event(name, "SpawnInputDiffers") == f"{said}; the existing run is used as it is"
    assert world.metric("hatchet_operator_children_conflicted_total") == 1
    assert (await world.run(name))["spec"]["inputJson"] == '{"a": 1}'
    error = await refusal(worker.spawn(parent, workflow, input, key="a", on_conflict="fail"))
    assert error.code() is StatusCode.ALREADY_EXISTS
    assert f"was spawned before, as run {name}, with {want}" in (error.details() or "")


async def test_on_conflict_lets_an_equal_spawn_pass(world: Instance, worker: ScriptedWorker) -> None:
    parent = await start_parent(world, worker)
    name = await worker.spawn(parent, input={"a": 1, "b": {"c": 2, "d": 3}}, key="a", on_conflict="fail")
    assert await worker.spawn(parent, input={"b": {"d": 3, "c": 2}, "a": 1}, key="a", on_conflict="fail") == name
    assert world.metric("hatchet_operator_children_conflicted_total") == 0
    assert (await world.run(name))["spec"]["inputJson"] == '{"a": 1, "b": {"c": 2, "d": 3}}'  # as it was sent first


async def test_a_failed_child_is_executed_again_once_per_attempt_of_the_parent(
    world: Instance, worker: ScriptedWorker
) -> None:
    parent = await start_parent(world, worker)
    name = await worker.spawn(parent, key="a", on_failed="retry")
    child = await worker.next()
    grandchild = await worker.spawn(child, "other", key="g")
    await worker.complete(await worker.next(), {"g": 1})
    await worker.fail(child, "the first time")
    assert errors_of(await worker.result(name)) == ["the first time"]

    assert await worker.spawn(parent, key="a", on_failed="retry") == name
    awaiting = asyncio.create_task(worker.result(name))
    again = await worker.next()
    assert (again.workflow_run_id, again.retry_count) == (name, 0)
    assert again.task_run_external_id != child.task_run_external_id
    assert await worker.spawn(again, "other", key="g") == grandchild
    assert outputs_of(await worker.result(grandchild)) == {"work": {"g": 1}}
    await worker.fail(again, "the second time")
    assert errors_of(await awaiting) == ["the second time"]

    assert await worker.spawn(parent, key="a", on_failed="retry") == name
    assert errors_of(await worker.result(name)) == ["the second time"]

    await worker.fail(parent)
    retry = await worker.next()
    assert await worker.spawn(retry, key="a", on_failed="retry") == name
    await worker.complete(await worker.next(), {"n": 3})
    assert outputs_of(await worker.result(name)) == {"work": {"n": 3}}
    assert (await world.run(name))["spec"]["reruns"] == 2
    assert len(await children(world)) == 2


async def test_a_child_that_did_not_fail_is_not_executed_again(world: Instance, worker: ScriptedWorker) -> None:
    parent = await start_parent(world, worker)
    name = await worker.spawn(parent, key="a", on_failed="retry")
    await worker.complete(await worker.next(), {"n": 1})
    await world.finished(name)
    assert await worker.spawn(parent, key="a", on_failed="retry") == name
    assert outputs_of(await worker.result(name)) == {"work": {"n": 1}}
    assert "reruns" not in (await world.run(name))["spec"] or (await world.run(name))["spec"]["reruns"] == 0


async def test_a_rerun_that_the_api_server_refuses_is_no_stale_attempt(world: Instance, worker: ScriptedWorker) -> None:
    parent = await start_parent(world, worker)
    name = await worker.spawn(parent, key="a", on_failed="retry")
    await worker.fail(await worker.next(), "the first time")
    await world.finished(name)
    match = {"verb": ["patch"], "resource": ["workflowruns"]}
    world.server.faults.install([{"match": match, "action": "status", "code": 403, "message": "policy says no"}])
    error = await refusal(worker.spawn(parent, key="a", on_failed="retry"))
    assert error.code() is StatusCode.INVALID_ARGUMENT
    assert f"run default/{name}, which failed, can't be run again: policy says no" in (error.details() or "")
    assert await worker.spawn(parent, key="a", on_failed="retry") == name
    assert (await worker.next()).workflow_run_id == name


# --- Names are taken on trust from nobody


def make_impostor(parent: dict[str, Any], *, key: str = "a", **changes: Any) -> dict[str, Any]:
    """Make a run under the name of child "a" of a parent's step "work"."""
    metadata = parent["metadata"]
    name = child_run_name(metadata["name"], metadata["uid"], step="work", spawn=f"key:{key}")
    body = make_run(name, "child", input={})
    owner = {
        "apiVersion": body["apiVersion"],
        "kind": "WorkflowRun",
        "name": metadata["name"],
        "uid": changes.get("owner_uid", metadata["uid"]),
        "controller": changes.get("controller", True),
    }
    if changes.get("owned", True):
        body["metadata"]["ownerReferences"] = [owner]
    stored = {"name": metadata["name"], "uid": metadata["uid"], "step": "work", "key": key, "index": 0}
    if changes.get("has_parent", True):
        body["spec"]["parent"] = stored | changes.get("stored", {})
    return body


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"owned": False, "has_parent": False}, id="a person's run"),
        pytest.param({"owned": False}, id="no owner"),
        pytest.param({"controller": False}, id="an owner that does not control it"),
        pytest.param({"has_parent": False}, id="no identity"),
        pytest.param({"stored": {"key": "b"}}, id="another key"),
        pytest.param({"stored": {"step": "second"}}, id="another step"),
        pytest.param({"stored": {"uid": "somebody"}}, id="another parent"),
    ],
)
async def test_a_foreign_object_with_the_childs_name_is_a_conflict(
    world: Instance, worker: ScriptedWorker, changes: dict[str, Any]
) -> None:
    parent = await start_parent(world, worker)
    impostor = make_impostor(await world.run("p"), **changes)
    name = impostor["metadata"]["name"]
    await world.api.create(RUNS, NAMESPACE, impostor)
    for _ in range(2):  # known by its create only, and known by the watch
        error = await refusal(worker.spawn(parent, key="a"))
        assert error.code() is StatusCode.ALREADY_EXISTS
        assert f"run default/{name} is there, but it is not the child that" in (error.details() or "")
        await world.until(lambda: any(record.ref.name == name for record in world.engine.store))


async def test_a_child_that_is_being_deleted_is_never_returned(world: Instance, worker: ScriptedWorker) -> None:
    parent = await start_parent(world, worker)
    name = await worker.spawn(parent, key="a")
    await worker.complete(await worker.next(), {"n": 1})
    old = (await world.run(name))["metadata"]["uid"]
    await begin_deletion(world, name)
    spawning = asyncio.create_task(worker.spawn(parent, key="a"))
    done, _ = await asyncio.wait([spawning], timeout=0.5)
    assert not done
    await world.release_deletion(name)
    assert await spawning == name
    assert (await world.run(name))["metadata"]["uid"] != old
    await worker.complete(await worker.next(), {"n": 2})
    assert outputs_of(await worker.result(name)) == {"work": {"n": 2}}


async def test_nobody_spawns_after_the_wait_when_the_parent_ended_meanwhile(
    world: Instance, worker: ScriptedWorker
) -> None:
    parent = await start_parent(world, worker)
    name = await worker.spawn(parent, key="a")
    await begin_deletion(world, name)
    spawning = asyncio.create_task(worker.spawn(parent, key="a"))
    await world.until(lambda: ObjectRef(NAMESPACE, name) in world.engine.spawning.children.locks)
    await world.patch_run("p", cancelled=True)
    await world.finished("p")
    await world.release_deletion(name)
    assert (await refusal(spawning)).code() is StatusCode.FAILED_PRECONDITION
    assert not await world.exists(name)


async def test_a_parent_made_anew_under_its_old_name_inherits_nothing(world: Instance, worker: ScriptedWorker) -> None:
    parent = await start_parent(world, worker)
    old = await worker.spawn(parent, key="a")
    await worker.complete(await worker.next())
    await world.delete_run("p")
    await world.until_gone(old)
    worker.cancelled.clear()
    again = await start_parent(world, worker)
    assert await worker.spawn(again, key="a") != old


# --- When a spawn is admitted


async def test_a_spawn_of_an_attempt_that_is_over_is_refused(world: Instance, worker: ScriptedWorker) -> None:
    parent = await start_parent(world, worker)
    await worker.fail(parent)
    await worker.next()
    error = await refusal(worker.spawn(parent, key="a"))
    assert error.code() is StatusCode.FAILED_PRECONDITION
    assert error.details() == (
        'this attempt of a step of run "p" is over (it was cancelled, timed out or given to another worker), '
        "so it can spawn nothing"
    )
    assert await children(world) == []


async def test_a_spawn_of_a_finished_run_is_refused(world: Instance, worker: ScriptedWorker) -> None:
    parent = await start_parent(world, worker)
    await world.patch_run("p", cancelled=True)
    await world.finished("p")
    assert (await refusal(worker.spawn(parent, key="a"))).code() is StatusCode.FAILED_PRECONDITION


async def test_a_spawn_of_a_run_that_is_being_deleted_is_refused(world: Instance, worker: ScriptedWorker) -> None:
    parent = await start_parent(world, worker)
    await begin_deletion(world, "p")
    error = await refusal(worker.spawn(parent, key="a"))
    assert error.code() is StatusCode.FAILED_PRECONDITION
    assert error.details() == 'run "p" is being deleted, so its step can spawn nothing'


async def test_a_spawn_of_a_run_that_is_gone_is_refused(world: Instance, worker: ScriptedWorker) -> None:
    parent = await start_parent(world, worker)
    await world.delete_run("p")
    await worker.until_cancelled(parent)
    error = await refusal(worker.spawn(parent, key="a"))
    assert error.code() is StatusCode.NOT_FOUND
    assert error.details() == 'run "p" is gone, so its step can spawn nothing'
    assert await children(world) == []


@pytest.mark.parametrize(
    ("fields", "want"),
    [
        pytest.param({"index": -2}, "child_index is -2; expected -1 or more", id="an index below -1"),
        pytest.param({"key": "k" * 70_000}, "70000 characters", id="a key beyond all bounds"),
        pytest.param({"key": ""}, "is empty; give it a text, or none", id="an empty key"),
        pytest.param({"key": "a", "on_conflict": "ignore"}, 'on_conflict is "ignore"', id="an unknown option"),
    ],
)
async def test_a_spawn_that_makes_no_sense_is_refused(
    world: Instance, worker: ScriptedWorker, fields: dict[str, Any], want: str
) -> None:
    error = await refusal(worker.spawn(await start_parent(world, worker), **fields))
    assert error.code() is StatusCode.INVALID_ARGUMENT
    assert want in (error.details() or "")


# --- Root runs


async def test_a_request_id_names_one_run(world: Instance, worker: ScriptedWorker) -> None:
    names = await asyncio.gather(*(worker.trigger("child", request_id="r-1") for _ in range(10)))
    assert set(names) == {root_run_name("child", "r-1")}
    await worker.complete(await worker.next(), {"n": 1})
    assert await worker.trigger("child", request_id="r-1") == names[0]
    assert outputs_of(await worker.result(names[0])) == {"work": {"n": 1}}
    assert worker.has_nothing_new
    assert len({await worker.trigger("child", request_id="r-2"), *names}) == 2


async def test_a_request_id_with_another_input_gets_the_run_that_is_there_and_an_event(
    world: Instance, worker: ScriptedWorker
) -> None:
    name = await worker.trigger("child", request_id="r", input={"a": 1, "b": 1})
    assert await worker.trigger("child", request_id="r", input={"b": 1, "a": 1}) == name
    assert world.metric("hatchet_operator_children_conflicted_total") == 0
    assert await worker.trigger("child", request_id="r", input={"a": 2, "b": 1}) == name
    assert 'request id "r" came before with another input' in await world.event(name, "SpawnInputDiffers")


async def test_a_request_id_is_its_workflows_own(world: Instance, worker: ScriptedWorker) -> None:
    assert await worker.trigger("child", request_id="r") != await worker.trigger("other", request_id="r")


async def test_a_request_whose_name_is_taken_by_another_workflow_is_a_conflict(
    world: Instance, worker: ScriptedWorker
) -> None:
    await world.create_run(root_run_name("child", "r"), "other")
    error = await refusal(worker.trigger("child", request_id="r"))
    assert error.code() is StatusCode.ALREADY_EXISTS
    assert "which is another workflow's; use another request id" in (error.details() or "")


# --- Cancelling down the tree


async def test_cancelling_reaches_three_levels_and_every_state(world: Instance) -> None:
    worker = await world.scripted()
    await worker.put_workflow("parent", [{"retries": 1}])
    await worker.put_workflow("running")
    await worker.put_workflow("backing-off", [{"retries": 1, "backoff_factor": 600.0}])
    queued = await world.scripted()
    await queued.put_workflow("queued")  # its worker never listens
    await worker.start()
    await world.create_run("root", "parent")
    root = await worker.next()
    middle = await worker.spawn(root, "parent", key="m")
    in_middle = await worker.next()
    names = {state: await worker.spawn(in_middle, state, key=state) for state in ("running", "backing-off", "queued")}
    leaves = {(action := await worker.next()).job_name: action for _ in range(2)}
    await worker.fail(leaves["backing-off"])
    finished = await worker.spawn(in_middle, "running", key="finished")
    await worker.complete(await worker.next(), {"n": 1})

    await world.patch_run("root", cancelled=True)
    for name in ("root", middle, *names.values()):
        status = await world.finished(name)
        assert status["phase"] == "Cancelled"
        assert status["reason"] == ("CancelRequested" if name == "root" else "ParentCancelled")
    for action in (root, in_middle, leaves["running"]):
        await worker.until_cancelled(action)
    assert await world.phase(finished) == "Succeeded"
    assert worker.has_nothing_new


async def test_a_child_created_late_under_a_cancelled_parent_is_cancelled(
    world: Instance, worker: ScriptedWorker
) -> None:
    await start_parent(world, worker)
    await world.patch_run("p", cancelled=True)
    await world.finished("p")
    late = make_impostor(await world.run("p"))
    await world.api.create(RUNS, NAMESPACE, late)
    status = await world.finished(late["metadata"]["name"])
    assert (status["phase"], status["reason"]) == ("Cancelled", "ParentCancelled")
    assert status["message"] == "its parent run p was cancelled"
    assert worker.has_nothing_new


@pytest.mark.parametrize("parent_ends", ["Succeeded", "Failed"])
async def test_what_a_parents_end_means_for_its_children(world: Instance, parent_ends: str) -> None:
    worker = await world.scripted()
    await worker.put_workflow("parent")
    await worker.put_workflow("child")
    await worker.start()
    await world.create_run("p", "parent")
    parent = await worker.next()
    left = await worker.spawn(parent, key="left")
    leaving = await worker.next()
    taken = await worker.spawn(parent, key="taken", on_parent_close="Cancel")
    going = await worker.next()
    await (worker.complete(parent) if parent_ends == "Succeeded" else worker.fail(parent))
    status = await world.finished(taken)
    assert (status["phase"], status["reason"]) == ("Cancelled", "ParentClosed")
    await worker.until_cancelled(going)
    await worker.complete(leaving, {"n": 1})
    assert (await world.finished(left))["phase"] == "Succeeded"
    assert (await world.finished("p"))["phase"] == parent_ends
    assert leaving.task_run_external_id not in worker.cancelled


# --- As users of the SDK see it


async def test_a_parent_that_fails_and_is_retried_executes_each_child_once(world: Instance) -> None:
    executed: Counter[str] = Counter()

    @hatchet.workflow()
    class Parent:
        @hatchet.step(retries=2)
        async def spawn(self, context: Context) -> dict[str, Any]:
            refs = [await context.aio.spawn_workflow("Child", {"a": i}, key=f"c{i}") for i in range(10)]
            refs += [await context.aio.spawn_workflow("Child", {"a": i}) for i in range(10, 15)]
            results = await asyncio.gather(*(ref.result() for ref in refs))
            if context.retry_count() < 2:
                raise RuntimeError("after all children ended")
            return {"results": [result["process"]["a"] for result in results]}

    @hatchet.workflow()
    class Child:
        @hatchet.step()
        async def process(self, context: Context) -> dict[str, Any]:
            executed[context.workflow_run_id()] += 1
            return {"a": context.workflow_input()["a"]}

    await world.work(Parent(), Child())
    await world.create_run("p", "parent")
    status = await world.finished("p")
    assert status["phase"] == "Succeeded"
    assert json.loads(step_of(status, "spawn")["output"]) == {"results": list(range(15))}
    assert status["children"] == {"total": 15, "succeeded": 15, "failed": 0, "cancelled": 0, "summary": "15/15"}
    assert sorted(executed.values()) == [1] * 15


async def test_sync_aio_and_bulk_spawns_share_one_counter(world: Instance) -> None:
    seen: list[list[str]] = []

    @hatchet.workflow()
    class Parent:
        @hatchet.step(retries=1)
        def spawn(self, context: Context) -> None:
            refs = [context.spawn_workflow("Child", {"n": 0})]
            refs += context.spawn_workflows(
                [{"workflow_name": "Child", "input": {"n": n}, "key": "k" if n == 1 else None} for n in (1, 2)]
            )
            refs.append(asyncio.run(self.aio(context)))
            refs.append(context.spawn_workflow("Child", {"n": 4}))
            seen.append([ref.workflow_run_id for ref in refs])
            if context.retry_count() == 0:
                raise RuntimeError("once more")

        async def aio(self, context: Context) -> Any:
            return await context.aio.spawn_workflow("Child", {"n": 3})

    @hatchet.workflow()
    class Child:
        @hatchet.step()
        async def process(self, context: Context) -> None:
            pass

    await world.work(Parent(), Child())
    await world.create_run("p", "parent")
    assert (await world.finished("p"))["phase"] == "Succeeded"
    first, second = seen
    assert first == second
    assert len(set(first)) == 5
    runs = {run["metadata"]["name"]: run["spec"] for run in await world.runs()}
    assert [runs[name]["parent"]["index"] for name in first] == [-1, 0, 1, 2, 3]
    assert [json.loads(runs[name]["inputJson"])["n"] for name in first] == [0, 1, 2, 3, 4]


async def test_how_a_cached_child_ended_is_raised_again_in_python(world: Instance) -> None:
    raised: list[list[str]] = []

    @hatchet.workflow()
    class Parent:
        @hatchet.step(retries=1)
        async def spawn(self, context: Context) -> None:
            errors = []
            for name, key in (("Broken", "b"), ("Cancelling", "c")):
                ref = await context.aio.spawn_workflow(name, {}, key=key)
                try:
                    await ref.result()
                except WorkflowRunCancelled as error:
                    errors.append(f"cancelled: {error}")
                except WorkflowRunFailed as error:
                    errors.append(f"failed: {error.errors['work'].splitlines()[0]}")
            raised.append(errors)
            if context.retry_count() == 0:
                raise RuntimeError("once more")

    @hatchet.workflow()
    class Broken:
        @hatchet.step()
        async def work(self, context: Context) -> None:
            raise ValueError("it broke")

    @hatchet.workflow()
    class Cancelling:
        @hatchet.step()
        async def work(self, context: Context) -> None:
            context.cancel()

    await world.work(Parent(), Broken(), Cancelling())
    await world.create_run("p", "parent")
    assert (await world.finished("p"))["phase"] == "Succeeded"
    want = [
        "failed: it broke",
        "cancelled: Workflow Errors: ['this step run was cancelled due to CANCELLED_BY_STEP']",
    ]
    assert raised == [want, want]


async def test_refused_spawns_are_exceptions_of_their_own(world: Instance) -> None:
    raised: list[Exception] = []

    @hatchet.workflow()
    class Parent:
        @hatchet.step()
        async def spawn(self, context: Context) -> None:
            await context.aio.spawn_workflow("Parent2", {"a": 1}, key="a")
            for name, key, options in (("Parent2", "a", {"on_conflict": "fail"}), ("Nobody", "b", {})):
                try:
                    await context.aio.spawn_workflow(name, {"a": 2}, key=key, options=options)  # type: ignore[call-overload]
                except (SpawnConflict, WorkflowNotFound) as error:
                    raised.append(error)

    @hatchet.workflow()
    class Parent2:
        @hatchet.step()
        async def work(self, context: Context) -> None:
            pass

    await world.work(Parent(), Parent2())
    await world.create_run("p", "parent")
    assert (await world.finished("p"))["phase"] == "Succeeded"
    conflict, unknown = raised
    assert isinstance(conflict, SpawnConflict)
    assert "with another input" in str(conflict)
    assert isinstance(unknown, WorkflowNotFound)
    assert 'workflow "Nobody" is not registered in namespace "default" (registered: Parent, Parent2)' in str(unknown)
