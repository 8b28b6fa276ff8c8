"""Workers in Pods die, and the operator hears of it in whatever order: from the kubelet, the worker and its successor.

The kubelet is played by the test, which writes what a kubelet writes; the workers are played, too.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from hatchet_operator.cluster.kinds import PODS
from hatchet_operator.pace import Pace
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.names import ObjectRef
from hatchet_sdk.contracts import dispatcher_pb2 as wire
from tests.integration.inprocess import (
    NAMESPACE,
    POOL,
    Instance,
    ScriptedWorker,
    errors_of,
    operator_of,
    running_operator,
    running_server,
    step_of,
)
from tests.integration.service_accounts import create_pod
from tests.kube.eventually import eventually

OOM = {"exitCode": 137, "reason": "OOMKilled"}


def now(instance: Instance, seconds: float = 0) -> str:
    return (instance.surroundings.clock.now() + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def more_than_a_second_passes(instance: Instance) -> None:
    """Have what follows be after what was, for a kubelet, too: a Pod's times are whole seconds."""
    instance.surroundings.ahead += timedelta(seconds=1.1)


def running(instance: Instance, *, ago: float = 60) -> Json:
    return {"running": {"startedAt": now(instance, -ago)}}


def ended(instance: Instance, how: Json | None = None, *, began_ago: float = 60) -> Json:
    return {"terminated": {**(how or OOM), "startedAt": now(instance, -began_ago), "finishedAt": now(instance)}}


BACKS_OFF = {"waiting": {"reason": "CrashLoopBackOff"}}


async def kubelet_says(
    instance: Instance, pod: str, state: Json, *, restarts: int = 0, last: Json | None = None, **status: Any
) -> None:
    container = {
        "name": "worker",
        "state": state,
        "lastState": last or {},
        "ready": "running" in state,
        "restartCount": restarts,
        "image": "etl:1",
        "imageID": "",
    }
    said = {"phase": "Running", "containerStatuses": [container], **status}
    await instance.api.patch(PODS, NAMESPACE, pod, {"status": said}, subresource="status")


async def worker_in(instance: Instance, pod: Json, *workflows: str, slots: int = 100) -> ScriptedWorker:
    worker = await instance.scripted(pod=pod)
    for workflow in workflows or ("etl",):
        await worker.put_workflow(workflow)
    return await worker.start(slots=slots, as_our_sdk=True)


async def has_lost(instance: Instance, run: str, losses: int) -> bool:
    step = (await instance.run(run)).get("status", {}).get("steps", {}).get("work", {})
    return bool(step.get("losses", 0) == losses)


@pytest.mark.parametrize("seen", [False, True], ids=["its container was never seen running", "all events came before"])
async def test_the_end_of_a_worker_is_noticed_whatever_its_pod_said_before(seen: bool) -> None:
    async with running_operator() as instance:
        pod = await create_pod(instance.api, "first", pool=POOL)
        if seen:
            await kubelet_says(instance, "first", running(instance))
        worker = await worker_in(instance, pod)
        await instance.create_run("run", "etl")
        await worker.next()

        await kubelet_says(instance, "first", ended(instance))

        await eventually(partial(has_lost, instance, "run", 1))
        step = step_of((await instance.run("run"))["status"])
        assert step["error"] == "its worker died; its container ended (exit code 137, OOMKilled)"


async def test_a_worker_is_not_taken_for_the_one_before_it_in_its_pod() -> None:
    async with running_operator() as instance:
        pod = await create_pod(instance.api, "first", pool=POOL)
        await kubelet_says(instance, "first", running(instance))
        first = await worker_in(instance, pod)
        await instance.create_run("run", "etl")
        await first.next()
        await first.close()
        # The kubelet is slow: the next container's worker is there before anything is said of the end of the first.
        more_than_a_second_passes(instance)
        end = ended(instance)
        more_than_a_second_passes(instance)
        began = running(instance, ago=0)
        second = await worker_in(instance, pod)
        await kubelet_says(instance, "first", end)
        await kubelet_says(instance, "first", BACKS_OFF, last=end)
        await kubelet_says(instance, "first", began, restarts=1, last=end)

        await eventually(partial(has_lost, instance, "run", 1))
        assert "OOMKilled" in step_of((await instance.run("run"))["status"])["error"]
        await second.complete(await second.next(), {"by": "second"})
        assert (await instance.finished("run"))["phase"] == "Succeeded"


async def test_a_worker_is_over_when_another_takes_its_place_though_its_pod_says_nothing() -> None:
    async with running_operator() as instance:
        pod = await create_pod(instance.api, "first", pool=POOL)
        await kubelet_says(instance, "first", running(instance))
        first = await worker_in(instance, pod)
        await instance.create_run("run", "etl")
        await first.next()
        await first.close()
        second = await worker_in(instance, pod)
        await second.complete(await second.next(), {"by": "second"})
        step = step_of(await instance.finished("run"))
        assert (step["losses"], step["phase"]) == (1, "Succeeded")


async def test_two_workers_of_one_name_in_one_pod_leave_each_other_alone() -> None:
    async with running_operator() as instance:
        pod = await create_pod(instance.api, "first", pool=POOL)
        await kubelet_says(instance, "first", running(instance))
        workers = [await worker_in(instance, pod, slots=1) for _ in range(2)]
        for name in ("a", "b"):
            await instance.create_run(name, "etl")
        attempts = [await worker.next() for worker in workers]
        await asyncio.sleep(1.5)  # in which the first would be taken for dead
        for worker, attempt in zip(workers, attempts, strict=True):
            await worker.complete(attempt)
        for name in ("a", "b"):
            assert step_of(await instance.finished(name)).get("losses", 0) == 0

        for name in ("c", "d"):
            await instance.create_run(name, "etl")
        for worker in workers:
            await worker.next()
        await kubelet_says(instance, "first", ended(instance))
        for name in ("c", "d"):
            await eventually(partial(has_lost, instance, name, 1))


# --- Poison


async def awaits(worker: ScriptedWorker, run: str) -> asyncio.Task[Any]:
    """Await a run as a step of this worker does, until the worker is gone."""
    waiting = asyncio.create_task(worker.result(run))
    await asyncio.sleep(0)
    return waiting


async def until_waiting(instance: Instance, run: str) -> None:
    def waits() -> bool:
        record = instance.engine.store.get(ObjectRef(NAMESPACE, run))
        return record is not None and any(attempt.awaits for attempt in record.attempts.values())

    await instance.until(waits)


async def dies(instance: Instance, worker: ScriptedWorker, pod: str, restarts: int) -> None:
    """Have a worker's connections break first, as they do, and its Pod say so a moment later."""
    await worker.close()
    await kubelet_says(instance, pod, ended(instance, began_ago=3600), restarts=restarts)


async def test_a_parent_gets_the_error_of_its_poisonous_child_on_the_same_worker() -> None:
    async with running_operator() as instance:
        pod = await create_pod(instance.api, "only", pool=POOL)
        await instance.create_run("parent", "etl")
        child, waiting = "", None
        for life in range(3):
            more_than_a_second_passes(instance)
            worker = await worker_in(instance, pod, "etl", "child")
            for _ in range(2):
                action = await worker.next()
                if action.workflow_run_id == child:
                    break  # it is tried apart: its parent has to wait
                child = await worker.spawn(action)
                waiting = await awaits(worker, child)
                await until_waiting(instance, "parent")
            assert action.workflow_run_id == child, "the parent occupies no slot while it waits"
            await dies(instance, worker, "only", life)
            await eventually(partial(has_lost, instance, child, life + 1))
            if waiting is not None:
                waiting.cancel()
        status = await instance.finished(child)
        assert status["message"].endswith(
            "WORKER_LOST: its worker died 3 times while the step ran; its container ended (exit code 137, OOMKilled)"
        )
        lost = step_of(status)["lostWorkers"]
        assert [(each["worker"], each["kind"], each["why"]) for each in lost] == [
            ("only", "Crash", "its container ended (exit code 137, OOMKilled)")
        ] * 3

        more_than_a_second_passes(instance)
        worker = await worker_in(instance, pod, "etl", "child")
        again = await worker.next()
        assert again.workflow_run_id == "parent"
        (error,) = errors_of(await worker.result(await worker.spawn(again)))
        assert "OOMKilled" in error
        await worker.fail(again, error)
        step = step_of(await instance.finished("parent"))
        assert (step["reason"], step.get("losses", 0)) == ("StepFailed", 0)
        assert {each["kind"] for each in step["lostWorkers"]} == {"Bystander"}


async def test_suspects_are_tried_apart_by_the_next_operator_too() -> None:
    async with running_server() as (server, url):
        async with operator_of(server, url) as instance:
            pod = await create_pod(instance.api, "only", pool=POOL)
            worker = await worker_in(instance, pod)
            for run in ("a", "b"):
                await instance.create_run(run, "etl")
                await worker.next()
            await dies(instance, worker, "only", 0)
            for run in ("a", "b"):
                await eventually(partial(has_lost, instance, run, 1))
        async with operator_of(server, url, rejoin=0.1) as instance:
            more_than_a_second_passes(instance)
            worker = await worker_in(instance, pod)
            first = await worker.next()
            assert first.workflow_run_id == "b", "the one that began last"
            await asyncio.sleep(1)
            assert worker.has_nothing_new
            await worker.complete(first)
            await worker.complete(await worker.next())
            for run in ("a", "b"):
                assert step_of(await instance.finished(run))["losses"] == 1


# --- What had not begun


async def test_a_step_that_a_published_worker_left_without_beginning_goes_to_another() -> None:
    async with running_operator() as instance:
        leaving = await instance.scripted()
        await leaving.put_workflow("etl")
        await leaving.start()
        for run in ("begun", "pushed"):
            await instance.create_run(run, "etl")
        actions = {action.workflow_run_id: action for action in [await leaving.next(), await leaving.next()]}
        await leaving.report(actions["begun"], wire.STEP_EVENT_TYPE_STARTED, "")
        await leaving.stop_listening()
        other = await instance.scripted()
        await other.put_workflow("etl")
        await other.start()

        taken = await other.next()
        assert taken.workflow_run_id == "pushed"
        assert taken.task_run_external_id != actions["pushed"].task_run_external_id
        await leaving.complete(actions["pushed"], {"by": "leaving"})  # of no effect: it is the other's by now
        await other.complete(taken, {"by": "other"})
        step = step_of(await instance.finished("pushed"))
        assert (step["output"], step.get("losses", 0)) == ('{"by": "other"}', 0)
        assert [each["kind"] for each in step["lostWorkers"]] == ["NotStarted"]
        await leaving.complete(actions["begun"], {"by": "leaving"})
        assert step_of(await instance.finished("begun"))["output"] == '{"by": "leaving"}'
        assert other.has_nothing_new

        await leaving.listen()  # it was not dead after all
        await leaving.until_cancelled(actions["pushed"])


async def begins(worker: ScriptedWorker, action: wire.AssignedAction) -> None:
    """Say so as Hatchet's Python SDK does: when a step arrives, and when it begins."""
    for _ in range(2):
        await worker.report(action, wire.STEP_EVENT_TYPE_STARTED, "")


async def test_a_step_that_only_arrived_is_not_taken_for_one_that_began() -> None:
    async with running_operator() as instance:
        leaving = await instance.scripted()
        await leaving.put_workflow("etl")
        await leaving.start()
        await instance.create_run("earlier", "etl")
        await begins(leaving, earlier := await leaving.next())
        await leaving.complete(earlier)
        await instance.create_run("begun", "etl")
        await begins(leaving, begun := await leaving.next())
        await instance.create_run("arrived", "etl")
        await leaving.report(await leaving.next(), wire.STEP_EVENT_TYPE_STARTED, "")
        await leaving.stop_listening()
        other = await instance.scripted()
        await other.put_workflow("etl")
        await other.start()

        taken = await other.next()
        assert taken.workflow_run_id == "arrived"
        await other.complete(taken)
        assert [each["kind"] for each in step_of(await instance.finished("arrived"))["lostWorkers"]] == ["NotStarted"]
        await leaving.complete(begun)
        assert not step_of(await instance.finished("begun")).get("lostWorkers")


async def test_what_ran_before_the_operator_began_counts_as_begun() -> None:
    async with running_server() as (server, url):
        async with operator_of(server, url, running_after=0.1) as instance:
            pod = await create_pod(instance.api, "only", pool=POOL)
            await kubelet_says(instance, "only", running(instance))
            before = await instance.scripted(pod=pod)
            await before.put_workflow("etl")
            await before.start()
            await instance.create_run("long", "etl")
            await begins(before, action := await before.next())

            async def is_persisted() -> bool:
                return bool((await instance.run("long")).get("status", {}).get("phase") == "Running")

            await eventually(is_persisted)
        async with operator_of(server, url, pace=Pace(grace=0.0, not_begun=0.1)) as instance:
            worker = await instance.scripted(pod=pod)
            worker.id = before.id
            await worker.listen()
            await instance.until(lambda: instance.connected() == 1)
            await worker.stop_listening()
            await instance.until(lambda: instance.connected() == 0)
            await asyncio.sleep(0.5)  # in which it would be given away
            await worker.complete(action)
            assert not step_of(await instance.finished("long")).get("lostWorkers")


async def test_what_our_sdk_was_given_while_it_signed_off_goes_to_another_at_once() -> None:
    async with running_operator() as instance:
        leaving = await instance.scripted()
        await leaving.put_workflow("etl")
        await leaving.start(as_our_sdk=True)
        await instance.create_run("run", "etl")
        await leaving.next()
        await leaving.drain(has_ended=True)
        other = await instance.scripted()
        await other.put_workflow("etl")
        await other.start(as_our_sdk=True)
        await other.complete(await other.next())
        assert step_of(await instance.finished("run")).get("losses", 0) == 0


# --- Disruptions


async def test_pods_that_are_taken_away_are_told_and_not_counted_as_crashes() -> None:
    async with running_operator(max_disruptions=4) as instance:
        await instance.create_run("run", "etl")
        evicted: Json = {
            "phase": "Failed",
            "reason": "Evicted",
            "message": "The node was low on resource: memory.",
            "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}],
        }
        for number in range(4):
            name = f"pod-{number}"
            pod = await create_pod(instance.api, name, pool=POOL)
            worker = await worker_in(instance, pod)
            await worker.next()
            if number % 2:
                await instance.api.delete(PODS, NAMESPACE, name, grace_seconds=0)
            else:
                await kubelet_says(instance, name, running(instance), **evicted)

            async def is_told(count: int = number + 1) -> bool:
                step = (await instance.run("run"))["status"].get("steps", {}).get("work", {})
                return bool(step.get("disruptions", 0) == count)

            await eventually(is_told)
            await worker.close()
        step = step_of(await instance.finished("run"))
        assert (step["reason"], step.get("losses", 0), step["disruptions"]) == ("WorkerLost", 0, 4)
        assert step["error"].startswith("WORKER_LOST: its worker was taken away 4 times; its Pod was deleted")
        assert step["lostWorkers"][0]["why"] == (
            "its Pod ended as Failed: Evicted: The node was low on resource: memory."
        )


async def test_a_worker_whose_pod_is_being_deleted_takes_nothing_new() -> None:
    async with running_operator() as instance:
        pod = await create_pod(instance.api, "leaving", pool=POOL, node="node")
        await kubelet_says(instance, "leaving", running(instance))
        leaving = await worker_in(instance, pod)
        await instance.create_run("before", "etl")
        action = await leaving.next()
        await instance.api.delete(PODS, NAMESPACE, "leaving", grace_seconds=600)
        await instance.until(lambda: instance.connected() == 0)
        await instance.create_run("after", "etl")
        other = await worker_in(instance, await create_pod(instance.api, "other", pool=POOL))
        await other.complete(await other.next())
        await instance.finished("after")
        assert leaving.has_nothing_new
        await leaving.complete(action)
        assert step_of(await instance.finished("before")).get("disruptions", 0) == 0


# --- Steps that must not be executed twice


async def test_a_step_that_may_not_be_given_out_again_fails_with_its_worker() -> None:
    async with running_operator() as instance:
        pod = await create_pod(instance.api, "only", pool=POOL)
        worker = await instance.scripted(pod=pod)
        await worker.put_workflow("etl", [{"max_reassignments": 0}])
        await worker.start(as_our_sdk=True)
        await instance.create_run("once", "etl")
        await worker.next()
        await instance.api.delete(PODS, NAMESPACE, "only", grace_seconds=0)
        status = await instance.finished("once")
        assert (status["phase"], status["reason"]) == ("Failed", "WorkerLost")
        assert status["message"].endswith("it must not be dispatched again (max_reassignments is 0)")

        await instance.patch_workflow("etl", steps={"work": {"maxReassignments": 1}})
        worker = await worker_in(instance, await create_pod(instance.api, "next", pool=POOL))
        await instance.create_run("twice", "etl")
        await worker.next()
        await worker.close()
        await kubelet_says(instance, "next", ended(instance))
        await eventually(partial(has_lost, instance, "twice", 1))
        assert step_of((await instance.run("twice"))["status"])["phase"] == "Pending"
