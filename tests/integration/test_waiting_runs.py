"""What a run says while no worker comes, in the words of the kubelet, the scheduler or the API server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import aiohttp
import pytest

from hatchet_operator.cluster.kinds import PODS, POOLS, QUOTAS, WORKFLOWS, Resource
from hatchet_operator.decisions.pooling import trouble_of
from hatchet_operator.resources.base import API_VERSION, Json
from hatchet_operator.resources.names import ObjectRef
from tests.integration.inprocess import NAMESPACE, POOL, Instance, running_operator
from tests.kube.eventually import eventually
from tests.kube.session import Call

WAITING = "WaitingForWorker"
SOON = timedelta(seconds=0.2)


async def create_pool(world: Instance, **spec: Any) -> None:
    pod = {"containers": [{"name": "worker", "image": "nowhere:1"}]}
    body = {
        "apiVersion": API_VERSION,
        "kind": "WorkerPool",
        "metadata": {"name": POOL},
        "spec": {"template": {"spec": pod}, **spec},
    }
    await world.api.create(POOLS, NAMESPACE, body)
    await world.until_pool_seen()


async def one_pod(world: Instance) -> str:
    """Wait for a pod; return its name."""
    found: list[Json] = []

    async def is_there() -> bool:
        nonlocal found
        found, _ = await world.api.list_all(PODS, NAMESPACE)
        return bool(found)

    await eventually(is_there)
    return str(found[0]["metadata"]["name"])


async def tell(world: Instance, pod: str, reason: str, message: str, *, last_lines: str = "") -> None:
    """Write what a kubelet would write of a container that waits."""
    state: Json = {"name": "worker", "ready": False, "restartCount": 1, "image": "nowhere:1", "imageID": ""}
    state["state"] = {"waiting": {"reason": reason, "message": message}}
    if last_lines:
        state["lastState"] = {"terminated": {"exitCode": 1, "message": last_lines}}
    await world.api.patch(
        PODS, NAMESPACE, pod, {"status": {"phase": "Pending", "containerStatuses": [state]}}, subresource="status"
    )


async def until_pool_has_trouble(world: Instance, *words: str) -> None:
    """Wait until the operator knows why the pool's pod does not start: a run keeps the first words that it is told."""

    def is_known() -> bool:
        trouble = world.engine.known_pools.trouble_of(ObjectRef(NAMESPACE, POOL))
        return trouble is not None and all(word in trouble for word in words)

    await world.until(is_known)


def is_suspended(world: Instance, workflow: str) -> bool:
    known = world.engine.workflows.get(ObjectRef(NAMESPACE, workflow))
    return known is not None and known.spec.suspended


async def until_told(world: Instance, run: str, *words: str, reason: str = WAITING) -> str:
    """Wait until a run says that it waits, with these words; return the whole message."""
    status: Json = {}

    async def is_told() -> bool:
        nonlocal status
        status = (await world.run(run)).get("status", {})
        return status.get("reason") == reason and all(word in status["message"] for word in words)

    try:
        await eventually(is_told)
    except TimeoutError:
        raise AssertionError(f"{run} says {status}, and not {words}") from None
    assert status["phase"] == "Pending"
    return str(status["message"])


async def refuse_pods(world: Instance, **rule: Any) -> None:
    fault = {"match": {"verb": "create", "resource": "pods"}, "times": 0, "action": "status", "code": 403, **rule}
    async with aiohttp.ClientSession(world.url) as http, http.post("/_faults", json=[fault]) as answer:
        assert answer.status == 200, await answer.text()


@pytest.mark.parametrize("execution", ["Pool", "Pod"])
async def test_an_image_that_is_not_there_is_told(execution: str) -> None:
    async with running_operator(waiting_told_after=SOON) as world:
        await world.create_workflow("etl", execution=execution)
        await (await world.scripted()).put_workflow("etl")
        await create_pool(world, minReplicas=0, maxReplicas=1)
        await world.create_run("r", "etl")
        pod = await one_pod(world)
        assert (pod == "r") is (execution == "Pod")
        await tell(world, pod, "ErrImagePull", "no such image")
        await until_told(world, "r", f"pod {pod}: ErrImagePull: no such image")


async def test_what_the_watch_showed_of_a_pod_is_newer_than_the_answer_to_its_create() -> None:
    async with running_operator(waiting_told_after=SOON) as world:
        is_shown = asyncio.Event()

        async def create_and_answer_late(create: Call, kind: Resource, *arguments: Any, **named: Any) -> Any:
            created = await create(kind, *arguments, **named)
            if kind is PODS:
                await is_shown.wait()
            return created

        world.surroundings.session.detours["create"] = create_and_answer_late
        await world.create_workflow("etl", execution="Pod")
        await (await world.scripted()).put_workflow("etl")
        await create_pool(world, minReplicas=0, maxReplicas=1)
        await world.create_run("r", "etl")
        pod = await world.api.get(PODS, NAMESPACE, await one_pod(world))
        await tell(world, "r", "ErrImagePull", "no such image")

        def is_known() -> bool:
            known = world.engine.pods_of_runs.pod(pod["metadata"]["uid"])
            return known is not None and trouble_of(known.seen) is not None

        await world.until(is_known)
        is_shown.set()
        await until_told(world, "r", "pod r: ErrImagePull: no such image")


async def test_other_words_are_not_written_at_once_and_none_stay_when_a_worker_comes() -> None:
    async with running_operator(waiting_told_after=SOON) as world:
        worker = await world.scripted()
        await worker.put_workflow("etl")
        await create_pool(world)
        pod = await one_pod(world)
        await world.create_run("r", "etl")
        await tell(world, pod, "ErrImagePull", "no such image")
        await until_told(world, "r", "no such image")
        told = await world.run("r")
        await tell(world, pod, "ErrImagePull", "no such registry")
        await until_pool_has_trouble(world, "no such registry")
        await world.create_run("later", "etl")
        await until_told(world, "later", "no such registry")
        assert await world.run("r") == told
        await worker.start()
        for _ in range(2):
            await worker.complete(await worker.next())
        status = await world.finished("r")
        assert (status["phase"], status["reason"], status.get("message")) == ("Succeeded", "Completed", None)


async def test_a_crash_is_told_with_the_last_lines_of_the_log() -> None:
    async with running_operator(waiting_told_after=SOON) as world:
        worker = await world.scripted()
        await worker.put_workflow("etl")
        await create_pool(world)
        pod = await one_pod(world)
        await world.create_run("r", "etl")
        await tell(world, pod, "CrashLoopBackOff", "back-off 10s", last_lines="Traceback:\nModuleNotFoundError: app\n")
        await until_told(world, "r", "Error (exit code 1)\nTraceback:\nModuleNotFoundError: app")


@pytest.mark.parametrize("execution", ["Pool", "Pod"])
async def test_a_refused_pod_is_told(execution: str) -> None:
    async with running_operator(waiting_told_after=SOON) as world:
        await world.create_workflow("etl", execution=execution)
        worker = await world.scripted()
        await worker.put_workflow("etl")
        await refuse_pods(world)
        await create_pool(world, minReplicas=0, maxReplicas=1)
        await world.create_run("r", "etl")
        await until_told(world, "r", "the API server refused the")


async def test_a_run_that_begins_to_wait_when_the_trouble_is_old_is_told_it() -> None:
    async with running_operator(waiting_told_after=SOON) as world:
        await (await world.scripted()).put_workflow("etl")
        await create_pool(world)
        await tell(world, await one_pod(world), "ErrImagePull", "no such image")
        await until_pool_has_trouble(world)
        await world.create_run("r", "etl")
        await until_told(world, "r", "no such image")


async def test_a_missing_pool_is_told() -> None:
    async with running_operator(waiting_told_after=SOON) as world:
        await world.create_workflow("etl", execution="Pod")
        worker = await world.scripted()
        await worker.put_workflow("etl")
        await world.create_run("r", "etl")
        await until_told(world, "r", f'there is no WorkerPool "{POOL}"')


async def test_a_pool_that_is_not_there_or_may_have_no_pods_is_told() -> None:
    async with running_operator(waiting_told_after=SOON) as world:
        await (await world.scripted()).put_workflow("etl")
        await world.create_run("r", "etl")
        await until_told(world, "r", f'there is no WorkerPool "{POOL}", and no other worker of that pool is connected')
        await create_pool(world, minReplicas=0, maxReplicas=0)
        await world.create_run("s", "etl")
        await until_told(world, "s", f'pool "{POOL}" may have no pods (maxReplicas: 0)')


async def test_a_suspended_workflow_is_told_and_no_more_when_it_goes_on() -> None:
    async with running_operator() as world:
        worker = await world.scripted()
        await worker.put_workflow("etl")
        await worker.start()
        await world.api.patch(WORKFLOWS, NAMESPACE, "etl", {"spec": {"suspended": True}})
        await world.until(lambda: is_suspended(world, "etl"))
        await world.create_run("r", "etl")
        want = 'workflow "etl" is suspended: no step starts until its spec.suspended is false'
        assert await until_told(world, "r", "suspended", reason="WorkflowSuspended") == want
        assert worker.has_nothing_new
        await world.api.patch(WORKFLOWS, NAMESPACE, "etl", {"spec": {"suspended": False}})
        await worker.complete(await worker.next())
        assert (await world.finished("r"))["reason"] == "Completed"


async def test_the_schedule_timeout_says_it_too() -> None:
    async with running_operator(waiting_told_after=SOON) as world:
        await world.create_workflow("etl", scheduleTimeout="1s")
        worker = await world.scripted()
        await worker.put_workflow("etl")
        await create_pool(world)
        await tell(world, await one_pod(world), "ErrImagePull", "no such image")
        await until_pool_has_trouble(world)
        await world.create_run("r", "etl")
        status = await world.finished("r")
        assert (status["phase"], status["reason"]) == ("Failed", "SchedulingTimedOut")
        assert "ErrImagePull: no such image" in status["message"]


async def test_a_workflow_that_no_worker_has_any_more_is_told() -> None:
    async with running_operator(waiting_told_after=SOON) as world:
        old = await world.scripted()
        await old.put_workflow("OldName")
        new = await world.scripted()
        await new.put_workflow("NewName")
        await new.start()
        await world.create_run("r", "oldname")
        await until_told(
            world,
            "r",
            'has one connected worker, but none that offers step "work" of workflow "OldName" (offered: NewName)',
            "it gives up at",
        )
        await world.condition("oldname", "Offered", status="False", of=world.workflow)
        await world.condition("newname", "Offered", status="True", of=world.workflow)
        workers = [(await world.workflow(name))["status"]["workers"] for name in ("oldname", "newname")]
        assert workers == [0, 1]


async def test_busy_slots_are_told_on_the_first_runs_and_on_the_pool() -> None:
    async with running_operator(waiting_told_after=SOON) as world:
        worker = await world.scripted()
        await worker.put_workflow("etl")
        await create_pool(world)
        await worker.start(slots=2)
        for number in range(2):
            await world.create_run(f"busy-{number}", "etl")
        running = [await worker.next() for _ in range(2)]
        for number in range(30):
            await world.create_run(f"r-{number:02}", "etl")
        said = await until_told(world, "r-00", "all 2 slots are busy", "2 steps run", reason="WaitingForSlot")
        told = await world.run("r-00")

        async def pool_says() -> bool:
            status = (await world.api.get(POOLS, NAMESPACE, POOL))["status"]
            numbers = (status.get("queued"), status.get("running"), status.get("slots"))
            return numbers == (30, 2, 2) and "oldestQueuedAt" in status

        await eventually(pool_says)
        for action in running:
            await worker.complete(action)
        for _ in range(30):
            await worker.complete(await worker.next())
        for number in range(30):
            await world.finished(f"r-{number:02}")

        async def is_idle() -> bool:
            status = (await world.api.get(POOLS, NAMESPACE, POOL))["status"]
            return (status["queued"], status["running"]) == (0, 0) and "oldestQueuedAt" not in status

        await eventually(is_idle, within_seconds=60)
        assert "it is the next" in said
        assert told["status"]["message"] == said


@pytest.mark.parametrize("execution", ["Pool", "Pod"])
async def test_a_pod_that_is_gated_is_told_on_pool_and_run(execution: str) -> None:
    async with running_operator(waiting_told_after=SOON) as world:
        await world.create_workflow("etl", execution=execution)
        await (await world.scripted()).put_workflow("etl")
        pod = {"schedulingGates": [{"name": "example.com/quota"}], "containers": [{"name": "w", "image": "nowhere:1"}]}
        await create_pool(world, minReplicas=0, maxReplicas=1, template={"spec": pod})
        await world.create_run("r", "etl")
        name = await one_pod(world)
        message = "Scheduling is blocked due to non-empty scheduling gates"
        gated = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": message}
        await world.api.patch(PODS, NAMESPACE, name, {"status": {"conditions": [gated]}}, subresource="status")
        words = f"pod {name}: SchedulingGated: {message}: example.com/quota"
        await until_told(world, "r", words)
        if execution == "Pool":

            async def is_told_on_the_pool() -> bool:
                status = (await world.api.get(POOLS, NAMESPACE, POOL))["status"]
                return any(each["message"] == words for each in status["conditions"])

            await eventually(is_told_on_the_pool)


async def a_pod_goes(world: Instance, full: str) -> None:
    await world.api.delete(PODS, NAMESPACE, full, grace_seconds=0)


async def the_quota_is_raised(world: Instance, full: str) -> None:
    await world.api.patch(QUOTAS, NAMESPACE, "full", {"spec": {"hard": {"pods": "9"}}})


async def the_quota_is_deleted(world: Instance, full: str) -> None:
    await world.api.delete(QUOTAS, NAMESPACE, "full")


@pytest.mark.parametrize("make_room", [a_pod_goes, the_quota_is_raised, the_quota_is_deleted])
async def test_runs_that_wait_for_a_quota_get_their_pods_in_the_order_in_which_they_came(
    make_room: Callable[[Instance, str], Awaitable[None]],
) -> None:
    async with running_operator(waiting_told_after=SOON) as world:
        await world.create_workflow("etl", execution="Pod")
        await (await world.scripted()).put_workflow("etl")
        await create_pool(world)
        full = await one_pod(world)
        await world.api.create(QUOTAS, NAMESPACE, {"metadata": {"name": "full"}, "spec": {"hard": {"pods": "1"}}})
        words = "exceeded quota: full, requested: pods=1, used: pods=1, limited: pods=1"
        await refuse_pods(world, message=words)
        names = ["z", "y", "x", "b", "a"]
        for name in names:
            await world.create_run(name, "etl")
            await until_told(world, name, words)
        asked = world.server.faults.rules[0].fired
        world.server.faults.clear()
        for uid in world.engine.pods_of_runs:  # as after many tries
            world.engine.pods_of_runs.known(uid).refused_until += 3600
        await make_room(world, full)

        made: list[str] = []

        async def all_are_made() -> bool:
            pods, _ = await world.api.list_all(PODS, NAMESPACE)
            ours = [pod["metadata"] for pod in pods if pod["metadata"]["name"] in names]
            made[:] = [each["name"] for each in sorted(ours, key=lambda each: int(each["resourceVersion"]))]
            return len(made) == len(names)

        await eventually(all_are_made)
        assert made == names
        assert asked < 20, "those behind the first are not tried"
