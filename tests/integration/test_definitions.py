"""CRDs that are missing, too old, or deleted: the operator says so, is not ready, and goes on by itself."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from hatchet_operator.apiserver import ApiServer
from hatchet_operator.cluster.api import Api, Endpoint, Json, always
from hatchet_operator.cluster.kinds import CRDS, EVENTS, PODS, POOLS
from hatchet_operator.errors import NotFound
from hatchet_operator.operator import Operator
from hatchet_operator.resources.base import API_VERSION
from hatchet_operator.resources.crds import load_crds
from hatchet_operator.settings import Settings
from tests.integration.inprocess import KEY, NAMESPACE, POOL, Instance, running_operator
from tests.kube.eventually import eventually

MEND = (
    'install them with "helm upgrade" where the chart installed them, '
    'else with "hatchet-operator crds | kubectl apply -f -"'
)
POD: dict[str, Any] = {"pod_name": "operator-1", "pod_uid": "some-uid", "operator_namespace": "default"}


def crd(plural: str) -> Json:
    return copy.deepcopy(next(each for each in load_crds() if each["spec"]["names"]["plural"] == plural))


async def delete_crd(api: Api, plural: str) -> None:
    name = f"{plural}.hatchet-operator.dev"
    await api.delete(CRDS, None, name)

    async def is_gone() -> bool:
        try:
            await api.get(CRDS, None, name)
        except NotFound:
            return True
        return False

    await eventually(is_gone)


async def until_state(operator: Operator, *words: str, ready: bool) -> str:
    async def holds() -> bool:
        health = operator.health()
        return health.ready is ready and all(word in health.state for word in words)

    try:
        await eventually(holds)
    except TimeoutError:
        raise AssertionError(f"it says {operator.health()}, and not {words}") from None
    assert operator.health().stuck == (), "a restart would not help"
    return operator.health().state


async def events_of_the_operator(api: Api) -> list[str]:
    events, _ = await api.list_all(EVENTS, NAMESPACE)
    return [each["message"] for each in events if each["involvedObject"]["name"] == POD["pod_name"]]


@asynccontextmanager
async def starting_operator(*crds: Json) -> AsyncIterator[tuple[Api, Operator]]:
    """Start an operator for an API server that has these CRDs, and wait for nothing."""
    async with ApiServer() as url, Api(Endpoint(server=url), user_agent="test", may_write=always) as api:
        for each in crds:
            await api.create(CRDS, None, each)
        operator = Operator(Settings(token_key=KEY, **POD), Endpoint(server=url))
        stop = asyncio.Event()
        running = asyncio.create_task(operator.run(stop))
        try:
            yield api, operator
        finally:
            stop.set()
            await running


async def test_an_operator_waits_for_its_crds_and_names_those_that_are_missing() -> None:
    async with starting_operator() as (api, operator):
        for plural in ("workflows", "workflowruns", "workerpools"):
            await until_state(operator, f"the CRD {plural}.hatchet-operator.dev is not installed", MEND, ready=False)
        for plural in ("workflows", "workerpools"):
            await api.create(CRDS, None, crd(plural))
        state = f"the CRD workflowruns.hatchet-operator.dev is not installed: {MEND}"

        async def says_which() -> bool:
            return operator.health().state == state

        await eventually(says_which)
        await api.create(CRDS, None, crd("workflowruns"))
        await until_state(operator, "ok", ready=True)
        said = await events_of_the_operator(api)
        assert state in said
        assert len(said) == len(set(said)), "each thing once"


async def test_an_operator_waits_while_a_crd_is_older_than_it_needs() -> None:
    old = crd("workflowruns")
    status = old["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    del status["message"], status["steps"]["additionalProperties"]["properties"]["losses"]
    async with starting_operator(crd("workflows"), crd("workerpools"), old) as (api, operator):
        state = await until_state(operator, "workflowruns.hatchet-operator.dev is of another version", ready=False)
        assert "it lacks status.message, status.steps.*.losses: " in state
        await api.patch(CRDS, None, old["metadata"]["name"], {"spec": crd("workflowruns")["spec"]})
        await until_state(operator, "ok", ready=True)


async def test_an_operator_says_which_versions_are_served_instead() -> None:
    def renamed(each: Json) -> Json:
        each["spec"]["versions"][0]["name"] = "v1"
        return each

    crds = [renamed(crd(plural)) for plural in ("workflows", "workflowruns", "workerpools")]
    async with starting_operator(*crds) as (_, operator):
        await until_state(
            operator, "workflowruns.hatchet-operator.dev is not installed in v1alpha1, but in v1", ready=False
        )


async def pool_condition(world: Instance, kind: str) -> Json:
    conditions = (await world.api.get(POOLS, NAMESPACE, POOL)).get("status", {}).get("conditions", [])
    return next((each for each in conditions if each["type"] == kind), {})


async def create_pool(world: Instance) -> None:
    pod = {"containers": [{"name": "worker", "image": "nowhere:1"}]}
    body: Json = {"apiVersion": API_VERSION, "kind": "WorkerPool", "metadata": {"name": POOL}}
    await world.api.create(POOLS, NAMESPACE, body | {"spec": {"template": {"spec": pod}}})


async def test_the_crd_of_runs_is_deleted_while_one_goes() -> None:

    async with running_operator(**POD) as world:
        await create_pool(world)
        worker = await world.scripted()
        await worker.put_workflow("etl")
        await worker.start()
        await world.create_run("first", "etl")
        lost = await worker.next()
        await delete_crd(world.api, "workflowruns")
        state = await until_state(
            world.operator, "the CRD workflowruns.hatchet-operator.dev is not installed", ready=False
        )

        async def is_told() -> bool:
            available = await pool_condition(world, "Available")
            said = (available.get("status"), available.get("reason"), available.get("message"))
            return said == ("False", "DefinitionMissing", state) and state in await events_of_the_operator(world.api)

        await eventually(is_told)
        await worker.until_cancelled(lost)
        await world.api.create(CRDS, None, crd("workflowruns"))
        await until_state(world.operator, "ok", ready=True)
        await world.create_run("second", "etl")
        await worker.complete(await worker.next())
        assert (await world.finished("second"))["phase"] == "Succeeded"

        async def is_untold() -> bool:
            return (await pool_condition(world, "Available")).get("reason") != "DefinitionMissing"

        await eventually(is_untold)


async def has_pods(world: Instance) -> bool:
    pods, _ = await world.api.list_all(PODS, NAMESPACE)
    owners = {owner["uid"] for pod in pods for owner in pod["metadata"]["ownerReferences"]}
    try:
        return (await world.api.get(POOLS, NAMESPACE, POOL))["metadata"]["uid"] in owners
    except NotFound:
        return False


async def test_the_crd_of_pools_is_deleted_and_comes_back() -> None:

    async with running_operator(**POD) as world:
        await create_pool(world)
        await eventually(lambda: has_pods(world))  # it is watched
        await delete_crd(world.api, "workerpools")
        await until_state(world.operator, "the CRD workerpools.hatchet-operator.dev is not installed", ready=False)
        await world.api.create(CRDS, None, crd("workerpools"))
        await until_state(world.operator, "ok", ready=True)
        await create_pool(world)
        await eventually(lambda: has_pods(world))
