"""Pools whose pods are replaced, end, or may not be made; the test plays kubelet and workers."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import aiohttp
import pytest

from hatchet_operator.cluster.kinds import EVENTS, PODS, POOLS
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import API_VERSION, Json
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.pod import read_pod
from tests.integration.inprocess import (
    NAMESPACE,
    POOL,
    Instance,
    ScriptedWorker,
    operator_of,
    running_operator,
    running_server,
)
from tests.kube.eventually import eventually


@pytest.fixture
async def world() -> AsyncIterator[Instance]:
    async with running_operator(running_after=60, waiting_told_after=timedelta(seconds=0.2)) as instance:
        yield instance


def template(image: str = "etl:1") -> Json:
    return {"spec": {"containers": [{"name": "worker", "image": image}]}}


async def create_pool(world: Instance, name: str = POOL, **spec: Any) -> Json:
    body = {
        "apiVersion": API_VERSION,
        "kind": "WorkerPool",
        "metadata": {"name": name},
        "spec": {"template": template(), **spec},
    }
    pool = await world.api.create(POOLS, NAMESPACE, body)
    await world.until_pool_seen(name)
    return pool


async def pods_of(world: Instance, pool: str = POOL) -> list[Json]:
    items, _ = await world.api.list_all(PODS, NAMESPACE, label_selector=f"{labels.POOL}={pool}")
    return sorted(items, key=lambda pod: int(pod["metadata"]["resourceVersion"]))


async def pod_with(world: Instance, image: str) -> Json:
    """Wait for a pod that was made from a template with this image."""
    found: list[Json] = []

    async def is_there() -> bool:
        nonlocal found
        found = [pod for pod in await pods_of(world) if pod["spec"]["containers"][0]["image"] == image]
        return bool(found) and world.engine.registry.find_pod(found[0]["metadata"]["uid"]) is not None

    await eventually(is_there)
    return found[0]


# --- Which definition is the current one


async def retries_in_effect(world: Instance) -> int:
    definition = (await world.workflow("etl"))["status"]["definition"]
    return int(definition["steps"][0].get("retries", 0))


async def roll_out(world: Instance) -> tuple[ScriptedWorker, ScriptedWorker]:
    """Change a pool's template while its pod works; return workers in the old pod and in the new one."""
    await create_pool(world)
    old = await world.scripted(pod=await pod_with(world, "etl:1"))
    await old.put_workflow("etl", [{"retries": 1}])
    await old.start()
    await world.api.patch(POOLS, NAMESPACE, POOL, {"spec": {"template": template("etl:2")}})
    return old, await world.scripted(pod=await pod_with(world, "etl:2"))


async def test_an_old_pod_that_starts_again_does_not_put_its_definition_back(world: Instance) -> None:
    old, new = await roll_out(world)
    revision = await new.put_workflow("etl", [{"retries": 2}])
    await old.put_workflow("etl", [{"retries": 1}])
    assert await retries_in_effect(world) == 2
    assert (await world.workflow("etl"))["status"]["revision"] == revision


async def test_an_old_pod_counts_until_a_new_one_registers(world: Instance) -> None:
    old, new = await roll_out(world)
    await old.put_workflow("etl", [{"retries": 3}])
    assert await retries_in_effect(world) == 3
    await new.put_workflow("etl", [{"retries": 2}])
    assert await retries_in_effect(world) == 2


async def test_a_new_pod_with_the_same_definition_takes_it_over(world: Instance) -> None:
    old, new = await roll_out(world)
    await new.put_workflow("etl", [{"retries": 1}])
    await old.put_workflow("etl", [{"retries": 3}])
    assert await retries_in_effect(world) == 1


async def test_a_workflow_that_only_the_old_pod_has_stays_its_own(world: Instance) -> None:
    old, new = await roll_out(world)
    await new.put_workflow("other")
    await old.put_workflow("etl", [{"retries": 4}])
    assert await retries_in_effect(world) == 4


async def test_of_workers_that_no_pool_makes_the_last_one_counts(world: Instance) -> None:
    _, new = await roll_out(world)
    await new.put_workflow("etl", [{"retries": 2}])
    await (await world.scripted()).put_workflow("etl", [{"retries": 5}])
    assert await retries_in_effect(world) == 5
    await new.put_workflow("etl", [{"retries": 2}])
    assert await retries_in_effect(world) == 2


async def test_runs_of_the_old_definition_go_on_when_an_old_pod_starts_again(world: Instance) -> None:
    old, new = await roll_out(world)
    await world.create_run("r", "etl")
    action = await old.next()
    await new.put_workflow("etl", [{"retries": 0}])
    await old.put_workflow("etl", [{"retries": 1}])
    await old.fail(action)
    again = await old.next()
    await old.complete(again)
    assert (await world.finished("r"))["phase"] == "Succeeded"


# --- A workflow that another pool is to have

OTHER = "other"


async def test_attempts_that_nobody_got_yet_go_to_the_new_pool(world: Instance) -> None:
    worker = await world.scripted()
    await worker.put_workflow("etl")
    await worker.start(slots=1)
    await world.create_run("running", "etl")
    running = await worker.next()
    await world.create_run("queued", "etl")
    await world.until(lambda: bool(world.engine.runs.attempts.queue.waiting_in(NAMESPACE, POOL)))
    await world.patch_workflow("etl", pool=OTHER)
    other = await world.scripted(pool=OTHER)
    await other.put_workflow("etl")
    await other.start()
    await other.complete(await other.next())
    await worker.complete(running)
    for name in ("queued", "running"):
        assert (await world.finished(name))["phase"] == "Succeeded"
    assert worker.has_nothing_new


async def test_a_pool_that_takes_a_workflow_over_gets_what_waits(world: Instance) -> None:
    worker = await world.scripted()
    await worker.put_workflow("etl")
    await world.create_run("r", "etl")
    await world.until(lambda: bool(world.engine.runs.attempts.queue.waiting_in(NAMESPACE, POOL)))
    other = await world.scripted(pool=OTHER)
    await other.put_workflow("etl")
    await other.start()
    await other.complete(await other.next())
    assert (await world.finished("r"))["phase"] == "Succeeded"


async def test_a_run_of_an_earlier_definition_goes_on_in_the_new_pool() -> None:
    steps: list[Json] = [{"readable_id": "a"}, {"readable_id": "b", "parents": ["a"]}]
    async with running_server() as (server, url):
        async with operator_of(server, url) as world:
            worker = await world.scripted()
            await worker.put_workflow("etl", steps)
            await worker.start()
            await world.create_run("r", "etl")
            await worker.complete(await worker.next())
            await worker.next()
            await worker.put_workflow("etl", [*steps, {"readable_id": "c"}])
            await worker.close()
        async with operator_of(server, url, rejoin=0.1) as world:
            await world.until(lambda: bool(world.engine.runs.attempts.queue.waiting_in(NAMESPACE, POOL)))
            await world.patch_workflow("etl", pool=OTHER)
            other = await world.scripted(pool=OTHER)
            await other.put_workflow("etl", [*steps, {"readable_id": "c"}])
            await other.start()
            action = await other.next()
            assert action.task_name == "b"
            await other.complete(action)
            assert (await world.finished("r"))["phase"] == "Succeeded"
            assert other.has_nothing_new


async def test_the_pod_of_a_run_is_made_anew_from_the_new_pool(world: Instance) -> None:
    await create_pool(world, minReplicas=0)
    await create_pool(world, OTHER, minReplicas=0)
    await world.create_workflow("etl", execution="Pod")
    await (await world.scripted()).put_workflow("etl")
    await world.create_run("r", "etl")

    async def has_pods(pool: str, *names: str) -> bool:
        return [pod["metadata"]["name"] for pod in await pods_of(world, pool)] == list(names)

    await eventually(lambda: has_pods(POOL, "r"))
    await world.patch_workflow("etl", pool=OTHER)
    await eventually(lambda: has_pods(OTHER, "r-1"))
    await eventually(lambda: has_pods(POOL))


# --- Pods that end at once


async def end(world: Instance, pod: Json, *, exit_code: int = 1, message: str = "no database") -> None:
    """Write what a kubelet writes of a pod that does not start its containers again."""
    reason = "Error" if exit_code else "Completed"
    state = {"terminated": {"exitCode": exit_code, "reason": reason, "message": message}}
    container = {"name": "worker", "state": state, "ready": False, "restartCount": 0, "image": "etl:1", "imageID": ""}
    status = {"phase": "Failed" if exit_code else "Succeeded", "containerStatuses": [container]}
    await world.api.patch(PODS, NAMESPACE, pod["metadata"]["name"], {"status": status}, subresource="status")


async def pool_of(world: Instance, name: str = POOL) -> Json:
    return await world.api.get(POOLS, NAMESPACE, name)


async def until_pod_seen(world: Instance, pod: Json) -> None:
    await world.until(lambda: world.engine.registry.find_pod(pod["metadata"]["uid"]) == read_pod(pod))
    await until_decided(world)


async def until_decided(world: Instance) -> None:
    """Wait until what the operator has seen of pools led to what it leads to."""
    await world.until(lambda: world.engine.pools.are_at_rest)


async def available(world: Instance) -> Json:
    conditions = (await pool_of(world)).get("status", {}).get("conditions", [])
    return next((condition for condition in conditions if condition["type"] == "Available"), {})


async def until_available_says(world: Instance, reason: str, *words: str) -> Json:
    condition: Json = {}

    async def is_said() -> bool:
        nonlocal condition
        condition = await available(world)
        return condition.get("reason") == reason and all(word in condition["message"] for word in words)

    try:
        await eventually(is_said)
    except TimeoutError:
        raise AssertionError(f"the pool says {condition}, and not {reason}, {words}") from None
    return condition


async def until_next_pod(world: Instance, before: set[str]) -> Json:
    found: list[Json] = []

    async def is_there() -> bool:
        nonlocal found
        found = [pod for pod in await pods_of(world) if pod["metadata"]["uid"] not in before]
        return bool(found)

    await eventually(is_there)
    return found[0]


@pytest.mark.parametrize(
    ("exit_code", "words"),
    [
        pytest.param(1, "Error (exit code 1)\nno database", id="crashes"),
        pytest.param(0, "Completed (exit code 0)\nno database", id="ends well"),
    ],
)
async def test_a_pod_that_ends_at_once_is_made_again_after_longer_and_longer_pauses(
    world: Instance, exit_code: int, words: str
) -> None:
    await world.create_workflow("etl")
    await (await world.scripted()).put_workflow("etl")
    await create_pool(world)
    seen: set[str] = set()
    made = []
    for _ in range(3):
        pod = await until_next_pod(world, seen)
        seen.add(pod["metadata"]["uid"])
        made.append(time.monotonic())
        await end(world, pod, exit_code=exit_code)
        await until_available_says(world, "PodsFailing", f"pod {pod['metadata']['name']}: {words}")
    assert made[1] - made[0] >= 1
    assert made[2] - made[1] >= 2
    await world.create_run("r", "etl")

    async def run_says_why() -> bool:
        return words in (await world.run("r")).get("status", {}).get("message", "")

    await eventually(run_says_why)
    left = {pod["metadata"]["uid"] for pod in await pods_of(world)}  # and maybe the next one
    assert left & seen == {pod["metadata"]["uid"]}, "the last one is kept for its log, until there is another"


async def test_a_pool_says_who_ended_its_pod(world: Instance) -> None:
    await create_pool(world)
    name = (await pod_with(world, "etl:1"))["metadata"]["name"]
    evicted = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}
    await world.api.patch(PODS, NAMESPACE, name, {"status": evicted}, subresource="status")
    want = f"pod {name} was ended: Evicted: The node was low on resource: memory."
    assert await world.event(POOL, "PodEnded") == want


async def test_a_mended_template_is_tried_at_once(world: Instance) -> None:
    await create_pool(world)
    pod = await until_next_pod(world, set())
    annotations = {"annotations": {labels.POD_NUMBER: "9"}}  # the next one would come in five minutes
    await world.api.patch(PODS, NAMESPACE, pod["metadata"]["name"], {"metadata": annotations})
    await end(world, pod)
    await until_available_says(world, "PodsFailing", "no database")
    await world.api.patch(POOLS, NAMESPACE, POOL, {"spec": {"template": template("etl:2")}})
    mended = await pod_with(world, "etl:2")
    assert labels.POD_NUMBER not in mended["metadata"].get("annotations", {})

    async def is_gone() -> bool:
        return len(await pods_of(world)) == 1

    await eventually(is_gone)


async def test_a_container_that_crashes_again_and_again_is_told_in_the_same_words(world: Instance) -> None:
    await create_pool(world)
    pod = await until_next_pod(world, set())
    crash = {"terminated": {"exitCode": 1, "reason": "Error", "message": "no database"}}
    states: list[Json] = [{"state": crash}]
    for seconds in (10, 20):
        back_off = {"reason": "CrashLoopBackOff", "message": f"back-off {seconds}s restarting failed container"}
        states += [{"state": {"waiting": back_off}, "lastState": crash}]
        states += [{"state": {"running": {}}, "lastState": crash}]
    said = []
    for state in states:
        container = {"name": "worker", "ready": False, "restartCount": 0, "image": "etl:1", "imageID": "", **state}
        status = {"phase": "Running", "containerStatuses": [container]}
        name = pod["metadata"]["name"]
        told = await world.api.patch(PODS, NAMESPACE, name, {"status": status}, subresource="status")
        await until_pod_seen(world, told)
        await until_available_says(world, "PodsFailing", "Error (exit code 1)\nno database")
        said.append((await pool_of(world))["metadata"]["resourceVersion"])
    assert len(set(said)) == 1, "the pool's status is written once"
    await world.event(POOL, "PodsFailing")
    events, _ = await world.api.list_all(EVENTS, NAMESPACE)
    assert [event["reason"] for event in events if event["involvedObject"]["kind"] == "WorkerPool"] == ["PodsFailing"]


# --- Pods that may not be made

QUOTA = "exceeded quota: full, requested: pods=1, used: pods=1, limited: pods=1"


def refuse_pods(world: Instance, code: int, message: str, **rule: Any) -> None:
    world.server.faults.install([fault_of_pods(code, message, **rule)])


def fault_of_pods(code: int, message: str, **rule: Any) -> Json:
    match = {"verb": "create", "resource": "pods"}
    return {"match": match, "action": "status", "code": code, "message": message, "times": 0} | rule


@pytest.mark.parametrize(
    ("code", "message", "reason", "valid"),
    [
        pytest.param(403, f'pods "main-x7k2p" is forbidden: {QUOTA}', "FailedCreate", "True", id="a quota"),
        pytest.param(403, "violates PodSecurity", "FailedCreate", "True", id="Pod Security admission"),
        pytest.param(400, 'admission webhook "a.b" denied the request: no', "FailedCreate", "True", id="a webhook"),
        pytest.param(422, "ValidatingAdmissionPolicy 'p' denied request: no", "FailedCreate", "True", id="a policy"),
        pytest.param(422, 'Pod "main-x7k2p" is invalid: spec.x: Invalid value', "InvalidSpec", "False", id="the spec"),
    ],
)
async def test_a_pool_and_its_runs_say_why_no_pod_is_made(
    world: Instance, code: int, message: str, reason: str, valid: str
) -> None:
    await (await world.scripted()).put_workflow("etl")
    refuse_pods(world, code, message)
    await create_pool(world, minReplicas=0, maxReplicas=1)
    await world.create_run("r", "etl")
    words = message.replace("x7k2p", "*")
    assert (await until_available_says(world, reason, words))["status"] == "False"
    assert (await world.condition(POOL, "Valid", of=lambda name: pool_of(world, name)))["status"] == valid
    assert words in await world.event(POOL, reason)

    async def run_says_why() -> bool:
        return words in (await world.run("r")).get("status", {}).get("message", "")

    await eventually(run_says_why)
    world.server.faults.clear()
    await until_available_says(world, "PodsMissing")
    assert (await world.condition(POOL, "Valid", of=lambda name: pool_of(world, name)))["status"] == "True"
    assert len(await pods_of(world)) == 1


async def test_without_the_right_to_watch_quotas_the_pool_is_tried_again_after_a_while(world: Instance) -> None:
    forbidden = {"match": {"resource": "resourcequotas"}, "action": "status", "code": 403, "message": "no", "times": 0}
    world.server.faults.install([forbidden, fault_of_pods(403, QUOTA, times=1)])
    await create_pool(world)
    await pod_with(world, "etl:1")
    assert world.server.faults.rules[0].fired == 1, "it is not asked for again and again"


class Autoscaler:
    """An HPA with one external metric and a target per pod: reads and writes nothing but the scale subresource."""

    def __init__(self, world: Instance, *, per_pod: int, least: int, most: int) -> None:
        self.url = f"{world.url}/apis/hatchet-operator.dev/v1alpha1/namespaces/{NAMESPACE}/workerpools/{POOL}/scale"
        self.per_pod, self.least, self.most = per_pod, least, most
        self.writes: list[int] = []

    async def look(self, metric: int) -> None:
        async with aiohttp.ClientSession() as http:
            async with http.get(self.url) as answer:
                scale = await answer.json()
            current, wanted = scale["spec"].get("replicas", 0), math.ceil(metric / self.per_pod)
            wanted = min(max(wanted, self.least), self.most)
            if current != wanted:
                async with http.put(self.url, json=scale | {"spec": {"replicas": wanted}}) as answer:
                    assert answer.status == 200, await answer.text()
                self.writes.append(wanted)


async def test_an_autoscaler_and_the_queue_settle_at_the_larger_of_what_they_want(world: Instance) -> None:
    worker = await world.scripted()
    await worker.put_workflow("etl")
    await create_pool(world, slots=10, minReplicas=0, maxReplicas=4, idleBeforeScaleIn="0s")
    autoscaler = Autoscaler(world, per_pod=2, least=1, most=3)
    names = [f"r{number}" for number in range(15)]  # the queue needs two pods
    for name in names:
        await world.create_run(name, "etl")

    async def has_pods(count: int) -> bool:
        await autoscaler.look(metric=sum([await world.exists(name) for name in names]))
        return len([pod for pod in await pods_of(world) if "deletionTimestamp" not in pod["metadata"]]) == count

    await eventually(lambda: has_pods(3))
    before = [pod["metadata"]["uid"] for pod in await pods_of(world)]
    for _ in range(5):
        assert await has_pods(3)
        await until_decided(world)
    assert [pod["metadata"]["uid"] for pod in await pods_of(world)] == before, "none comes and goes"
    for name in names:
        await world.delete_run(name)
    await eventually(lambda: has_pods(1))
    assert (autoscaler.writes[0], autoscaler.writes[-1]) == (3, 1)
    assert autoscaler.writes == sorted(autoscaler.writes, reverse=True), "never up again"


async def test_a_pool_that_can_not_replace_its_pod_is_available_and_says_so(world: Instance) -> None:
    await create_pool(world)
    worker = await world.scripted(pod=await pod_with(world, "etl:1"))
    await worker.put_workflow("etl")
    await worker.start()
    await until_available_says(world, "Available")
    refuse_pods(world, 403, QUOTA)
    await world.api.patch(POOLS, NAMESPACE, POOL, {"spec": {"template": template("etl:2")}})
    said = await until_available_says(world, "Available", "1 of 1 workers are connected, but ", QUOTA)
    assert said["status"] == "True"
    rolled_out = await world.condition(POOL, "RolledOut", of=lambda name: pool_of(world, name))
    assert (rolled_out["status"], rolled_out["reason"]) == ("False", "FailedCreate")


async def test_a_pool_whose_namespace_is_being_deleted_keeps_quiet(world: Instance) -> None:
    message = "pods is forbidden: unable to create new content in namespace default because it is being terminated"
    refuse_pods(world, 403, message, causes=["NamespaceTerminating"])
    before = await create_pool(world)
    await world.until(lambda: world.server.faults.rules[0].fired == 1)
    await until_decided(world)
    assert not world.engine.pools.will_look_at(ObjectRef(NAMESPACE, POOL)), "nothing is tried again"
    world.engine.pools.changed(ObjectRef(NAMESPACE, POOL))
    await until_decided(world)
    assert world.server.faults.rules[0].fired == 1
    assert (await pool_of(world, POOL))["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    events, _ = await world.api.list_all(EVENTS, NAMESPACE)
    assert events == []
