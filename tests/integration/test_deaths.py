"""Workers in Pods die, and the operator hears of it in whatever order: from the kubelet, the worker and its successor.

The kubelet is played by the test, which writes what a kubelet writes; the workers are played, too.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from hatchet_operator.cluster.api import Json
from hatchet_operator.cluster.kinds import PODS
from tests.integration.inprocess import NAMESPACE, POOL, Instance, ScriptedWorker, running_operator, step_of
from tests.integration.service_accounts import create_pod
from tests.kube.eventually import eventually

OOM = {"exitCode": 137, "reason": "OOMKilled"}


def now(seconds: float = 0) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def running(*, ago: float = 60) -> Json:
    return {"running": {"startedAt": now(-ago)}}


def ended(how: Json | None = None, *, began_ago: float = 60) -> Json:
    return {"terminated": {**(how or OOM), "startedAt": now(-began_ago), "finishedAt": now()}}


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
    return await worker.start(slots=slots, says_its_time=True)


async def has_lost(instance: Instance, run: str, losses: int) -> bool:
    step = (await instance.run(run)).get("status", {}).get("steps", {}).get("work", {})
    return bool(step.get("losses", 0) == losses)


@pytest.mark.parametrize("seen", [False, True], ids=["its container was never seen running", "all events came before"])
async def test_the_end_of_a_worker_is_noticed_whatever_its_pod_said_before(seen: bool) -> None:
    async with running_operator() as instance:
        pod = await create_pod(instance.api, "first", pool=POOL)
        if seen:
            await kubelet_says(instance, "first", running())
        worker = await worker_in(instance, pod)
        await instance.create_run("run", "etl")
        await worker.next()

        await kubelet_says(instance, "first", ended())

        await eventually(partial(has_lost, instance, "run", 1))
        step = step_of((await instance.run("run"))["status"])
        assert step["error"] == "its worker died; its container ended (exit code 137, OOMKilled)"


async def test_a_worker_is_not_taken_for_the_one_before_it_in_its_pod() -> None:
    async with running_operator() as instance:
        pod = await create_pod(instance.api, "first", pool=POOL)
        await kubelet_says(instance, "first", running())
        first = await worker_in(instance, pod)
        await instance.create_run("run", "etl")
        await first.next()
        await first.close()
        # The kubelet is slow: the next container's worker is there before anything is said of the end of the first.
        await asyncio.sleep(1.1)  # a Pod's times are whole seconds
        end = ended()
        await asyncio.sleep(1.1)
        second = await worker_in(instance, pod)
        await kubelet_says(instance, "first", end)
        await kubelet_says(instance, "first", BACKS_OFF, last=end)
        await kubelet_says(instance, "first", running(ago=0), restarts=1, last=end)

        await eventually(partial(has_lost, instance, "run", 1))
        assert "OOMKilled" in step_of((await instance.run("run"))["status"])["error"]
        await second.complete(await second.next(), {"by": "second"})
        assert (await instance.finished("run"))["phase"] == "Succeeded"


async def test_a_worker_is_over_when_another_takes_its_place_though_its_pod_says_nothing() -> None:
    async with running_operator() as instance:
        pod = await create_pod(instance.api, "first", pool=POOL)
        await kubelet_says(instance, "first", running())
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
        await kubelet_says(instance, "first", running())
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
        await kubelet_says(instance, "first", ended())
        for name in ("c", "d"):
            await eventually(partial(has_lost, instance, name, 1))
