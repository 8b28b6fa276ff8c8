"""Pods of pools and their Secrets, in races."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from hatchet_operator.access.identity import Caller
from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import PODS, POOLS, RUNS, SECRETS, Resource
from hatchet_operator.decisions.observed import Outcome
from hatchet_operator.decisions.protection import IDLE, is_protected
from hatchet_operator.engine.dispatch.worker import WorkerStream
from hatchet_operator.engine.engine import Engine
from hatchet_operator.engine.workers.registry import RegistrationRequest
from hatchet_operator.errors import Refused
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import API_VERSION, Json
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.workflow import WorkflowDefinition
from hatchet_operator_dev.apiserver import ApiServer
from tests.integration.engine.world import (
    NAMESPACE,
    POOL,
    SECONDS,
    make_definition,
    make_run,
    next_attempt,
    requests_to,
    running_loop,
    session_of,
    started,
    until,
)
from tests.kube.eventually import eventually
from tests.kube.session import Call


def make_pool(**spec: Any) -> Json:
    container = {"name": "worker", "image": "local"}
    return {
        "apiVersion": API_VERSION,
        "kind": "WorkerPool",
        "metadata": {"name": POOL, "namespace": NAMESPACE},
        "spec": {"minReplicas": 1, "template": {"spec": {"containers": [container]}}, **spec},
    }


async def pods_of(api: Api) -> list[Json]:
    return (await api.list_all(PODS, NAMESPACE))[0]


async def has_a_pod(api: Api) -> bool:
    return len(await pods_of(api)) == 1


async def test_a_pod_that_was_refused_is_made_seconds_after_the_reason_is_gone(
    server: ApiServer, engine: Engine, api: Api
) -> None:
    match = {"verb": ["create"], "resource": ["pods"]}
    server.faults.install([{"match": match, "action": "status", "code": code} for code in (403, 409)])
    engine.pools.observe("ADDED", await api.create(POOLS, NAMESPACE, make_pool()))
    await eventually(lambda: has_a_pod(api), within_seconds=SECONDS)


async def test_a_pool_made_anew_under_its_name_takes_its_secret_over(engine: Engine, api: Api) -> None:
    earlier = make_pool(minReplicas=0)
    earlier["metadata"]["name"] = "earlier"  # stands for the one of that name that the collector has not seen gone yet
    uid = (await api.create(POOLS, NAMESPACE, earlier))["metadata"]["uid"]
    owner = {"apiVersion": API_VERSION, "kind": "WorkerPool", "name": "earlier", "uid": uid}
    metadata = {"name": f"{POOL}-token", "labels": {labels.MANAGED_BY: labels.MANAGER}, "ownerReferences": [owner]}
    await api.create(SECRETS, NAMESPACE, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata})
    pool = await api.create(POOLS, NAMESPACE, make_pool())
    engine.pools.observe("ADDED", pool)
    await eventually(lambda: has_a_pod(api), within_seconds=SECONDS)
    secret = await api.get(SECRETS, NAMESPACE, f"{POOL}-token")
    assert [owner["uid"] for owner in secret["metadata"]["ownerReferences"]] == [pool["metadata"]["uid"]]
    assert "token" in secret["data"]


async def owners_of(api: Api, *kinds: Resource) -> list[str]:
    objects = [obj for kind in kinds for obj in (await api.list_all(kind, NAMESPACE))[0]]
    return [owner["uid"] for obj in objects for owner in obj["metadata"].get("ownerReferences", ())]


async def test_a_pool_that_is_made_anew_between_two_events_gets_a_secret_of_its_own(engine: Engine, api: Api) -> None:
    earlier = await api.create(POOLS, NAMESPACE, make_pool())
    engine.pools.observe("ADDED", earlier)
    await eventually(lambda: has_a_pod(api), within_seconds=SECONDS)
    await api.delete(POOLS, NAMESPACE, POOL)
    anew = await api.create(POOLS, NAMESPACE, make_pool(minReplicas=0))
    engine.pools.observe("MODIFIED", anew)

    async def is_its_own() -> bool:
        return await owners_of(api, PODS, SECRETS) == [anew["metadata"]["uid"]]

    await eventually(is_its_own, within_seconds=SECONDS)


async def test_a_pool_that_is_made_anew_does_not_count_pods_that_were_left_alone(engine: Engine, api: Api) -> None:
    engine.pools.observe("ADDED", await api.create(POOLS, NAMESPACE, make_pool()))
    await eventually(lambda: has_a_pod(api), within_seconds=SECONDS)
    await api.delete(POOLS, NAMESPACE, POOL, propagation="Orphan")

    async def is_left_alone() -> bool:
        return await owners_of(api, PODS) == []

    await eventually(is_left_alone, within_seconds=SECONDS)
    anew = await api.create(POOLS, NAMESPACE, make_pool())
    engine.pools.observe("MODIFIED", anew)

    async def has_its_own() -> bool:
        return await owners_of(api, PODS) == [anew["metadata"]["uid"]]

    await eventually(has_its_own, within_seconds=SECONDS)


async def test_a_secret_of_somebody_else_is_not_written_over(engine: Engine, api: Api) -> None:
    theirs = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"{POOL}-token"}, "stringData": {"token": "x"}}
    secret = await api.create(SECRETS, NAMESPACE, theirs)
    engine.pools.observe("ADDED", await api.create(POOLS, NAMESPACE, make_pool()))

    async def is_said() -> bool:
        conditions = (await api.get(POOLS, NAMESPACE, POOL)).get("status", {}).get("conditions", [])
        return any("somebody else's" in condition["message"] for condition in conditions)

    await eventually(is_said, within_seconds=SECONDS)
    assert (await api.get(SECRETS, NAMESPACE, f"{POOL}-token"))["data"] == secret["data"]


async def test_a_pool_is_not_refused_for_what_came_of_an_earlier_one_of_its_name(engine: Engine, api: Api) -> None:
    earlier = await api.create(POOLS, NAMESPACE, make_pool())
    detours = session_of(engine).detours

    async def refuse_late(create: Call, resource: Resource, *args: Any, **options: Any) -> Any:
        if resource is not PODS:
            return await create(resource, *args, **options)
        engine.pools.observe("DELETED", earlier)  # the watch is quicker than the answer
        del detours["create"]
        raise Refused("being terminated", status=403, causes=frozenset({"NamespaceTerminating"}))

    detours["create"] = refuse_late
    engine.pools.observe("ADDED", earlier)
    await until(lambda: not detours)
    await api.delete(POOLS, NAMESPACE, POOL)
    engine.pools.observe("ADDED", await api.create(POOLS, NAMESPACE, make_pool()))
    await eventually(lambda: has_a_pod(api), within_seconds=SECONDS)


async def test_pods_are_looked_at_by_the_kubelet_when_their_secret_changes(engine: Engine, api: Api) -> None:
    """By itself it brings them another authority or address within a minute or so."""
    spec: Json = {"minReplicas": 1, "template": {"spec": {"containers": [{"name": "worker", "image": "etl:1"}]}}}
    body = {"apiVersion": API_VERSION, "kind": "WorkerPool", "metadata": {"name": POOL}, "spec": spec}
    engine.pools.observe("ADDED", await api.create(POOLS, NAMESPACE, body))
    await until(lambda: len(engine.registry.pods_of(ObjectRef(NAMESPACE, POOL))) == 1)
    (pod,) = engine.registry.pods_of(ObjectRef(NAMESPACE, POOL))
    assert labels.CREDENTIALS not in pod.annotations

    engine.pools.trust("another authority")

    async def is_told() -> bool:
        there = await api.get(PODS, NAMESPACE, pod.name)
        return labels.CREDENTIALS in there["metadata"].get("annotations", {})

    await eventually(is_told, within_seconds=SECONDS)
    assert "ca.crt" in (await api.get(SECRETS, NAMESPACE, f"{POOL}-token"))["data"]


async def test_pods_whose_tokens_are_of_a_key_that_is_gone_are_replaced(server: ApiServer, api: Api) -> None:
    pool = await api.create(POOLS, NAMESPACE, make_pool())
    async with started(server) as engine:
        engine.pools.observe("ADDED", pool)
        await eventually(lambda: has_a_pod(api), within_seconds=SECONDS)
    (earlier,) = await pods_of(api)

    async def is_surged() -> bool:
        return len({pod["metadata"]["labels"][labels.TEMPLATE] for pod in await pods_of(api)}) == 2

    async with started(server, token_key="another" * 9) as engine:
        engine.pools.observe("ADDED", pool)
        await eventually(is_surged, within_seconds=SECONDS)
    assert earlier["metadata"]["uid"] in {pod["metadata"]["uid"] for pod in await pods_of(api)}


# --- Nodes that are not to be taken away


async def protection_of(api: Api) -> list[bool]:
    return [is_protected(pod["metadata"].get("annotations", {})) for pod in await pods_of(api)]


async def until_protected(api: Api, want: bool) -> None:
    async def holds() -> bool:
        return await protection_of(api) == [want]

    await eventually(holds, within_seconds=SECONDS)


async def worker_in_the_pod(engine: Engine, api: Api) -> tuple[Caller, WorkerStream]:
    """Have the pool's only pod run, with a worker."""
    await eventually(lambda: has_a_pod(api), within_seconds=SECONDS)
    (pod,) = await pods_of(api)
    uid = pod["metadata"]["uid"]
    await until(lambda: engine.registry.find_pod(uid) is not None)
    await engine.workflows.register(NAMESPACE, POOL, long_definition())
    caller = Caller(namespace=NAMESPACE, pool=POOL, pod_name=pod["metadata"]["name"], pod_uid=uid)
    request = RegistrationRequest(name="worker", actions=("etl:work",), pod_name=pod["metadata"]["name"], pod_uid=uid)
    worker = await engine.registry.register(caller, request)
    return caller, engine.registry.listen(caller, worker.id, [])[1]


def long_definition() -> WorkflowDefinition:
    definition = make_definition("etl")
    (step,) = definition.steps
    return definition.model_copy(update={"steps": (step.model_copy(update={"timeout": timedelta(hours=1)}),)})


async def begin(api: Api, worker: tuple[Caller, WorkerStream], name: str) -> str:
    """Have the worker begin a run; return the attempt."""
    await api.create(RUNS, NAMESPACE, make_run(name))
    return await next_attempt(worker[1])


async def complete_after(
    engine: Engine, api: Api, worker: tuple[Caller, WorkerStream], name: str, seconds: float
) -> None:
    attempt = await begin(api, worker, name)
    await asyncio.sleep(seconds)
    await engine.report(worker[0], attempt, Outcome.COMPLETED, payload="{}")


PROTECTING: Json = {"protect_after": timedelta(seconds=1), "worker_silent": timedelta(hours=1)}


async def test_a_pod_is_protected_while_it_works_long_and_no_run_costs_a_write(server: ApiServer, api: Api) -> None:
    async with started(server, **PROTECTING) as engine:
        engine.pools.observe("ADDED", await api.create(POOLS, NAMESPACE, make_pool()))
        worker = await worker_in_the_pod(engine, api)
        before = requests_to(server, "patch", "pods")
        for number in range(10):
            await complete_after(engine, api, worker, f"short-{number}", 0.1)
        assert await protection_of(api) == [False]
        assert requests_to(server, "patch", "pods") == before

        long = await begin(api, worker, "long")
        await until_protected(api, True)
        await engine.report(worker[0], long, Outcome.COMPLETED, payload="{}")
        for number in range(3):
            await complete_after(engine, api, worker, f"again-{number}", 1.5)
            await idle_for(engine, IDLE * 0.9)
        assert requests_to(server, "patch", "pods") == before + 1, "work with pauses"
        await idle_for(engine, IDLE * 0.1)
        await until_protected(api, False)
        assert requests_to(server, "patch", "pods") == before + 2


async def test_a_pod_that_is_made_for_work_is_protected_from_the_start(engine: Engine, api: Api) -> None:
    await engine.workflows.register(NAMESPACE, POOL, make_definition("etl"))
    engine.pools.observe("ADDED", await api.create(POOLS, NAMESPACE, make_pool(minReplicas=0, maxReplicas=1)))
    await api.create(RUNS, NAMESPACE, make_run("r"))
    await eventually(lambda: has_a_pod(api), within_seconds=SECONDS)
    assert await protection_of(api) == [True]


async def idle_for(engine: Engine, time: timedelta) -> None:
    """Let time pass in which nothing happens but what is due."""
    running_loop().skip(time.total_seconds())
    await asyncio.sleep(1)
    await until(lambda: engine.pools.are_at_rest)


async def test_a_refused_write_of_it_holds_nothing_up(server: ApiServer, api: Api) -> None:
    async with started(server, **PROTECTING) as engine:
        engine.pools.observe("ADDED", await api.create(POOLS, NAMESPACE, make_pool()))
        worker = await worker_in_the_pod(engine, api)
        match = {"verb": ["patch"], "resource": ["pods"]}
        server.faults.install([{"match": match, "action": "status", "code": 403, "times": 2}])
        before = requests_to(server, "patch", "pods")
        await begin(api, worker, "long")
        await asyncio.sleep(2)
        for refusals in (1, 2):
            assert requests_to(server, "patch", "pods") == before + refusals, "and no other one at once"
            assert await protection_of(api) == [False]
            await idle_for(engine, timedelta(minutes=1))
        assert await protection_of(api) == [True]
