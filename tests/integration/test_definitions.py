"""CRDs that are missing, too old, or deleted: the operator says so, is not ready, and goes on by itself."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.kinds import CRDS, EVENTS, LEASES, PODS, POOLS
from hatchet_operator.errors import NotFound
from hatchet_operator.operator import Operator
from hatchet_operator.pace import Pace
from hatchet_operator.resources.base import API_VERSION, Json
from hatchet_operator.resources.crds import load_crds
from hatchet_operator.settings import Settings
from hatchet_operator_dev.apiserver import ApiServer
from tests.integration.inprocess import KEY, NAMESPACE, POOL, Instance, running_operator
from tests.kube.eventually import eventually

MEND = (
    'install them with "helm upgrade" where the chart installed them, '
    'else with "hatchet-operator crds | kubectl apply -f -"'
)
POD: dict[str, Any] = {"pod_name": "operator-1", "pod_uid": "some-uid", "operator_namespace": "default"}
IMPATIENT = Pace(look_again=0.05)

PLURALS = {each["spec"]["names"]["plural"] for each in load_crds()}


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
async def starting_operator(
    *crds: Json, lease: Json | None = None, server: ApiServer | None = None, pace: Pace | None = None, **settings: Any
) -> AsyncIterator[tuple[Api, Operator]]:
    """Start an operator for an API server that has these CRDs and this Lease, and wait for nothing."""
    async with server or ApiServer() as url, Api(Endpoint(server=url), user_agent="test", may_write=always) as api:
        for each in crds:
            await api.create(CRDS, None, each)
        if lease is not None:
            await api.create(LEASES, NAMESPACE, lease)
        operator = Operator(Settings(token_key=KEY, **POD, **settings), Endpoint(server=url), pace=pace or IMPATIENT)
        stop = asyncio.Event()
        running = asyncio.create_task(operator.run(stop))
        try:
            yield api, operator
        finally:
            stop.set()
            await running


async def test_an_operator_waits_for_its_crds_and_names_those_that_are_missing() -> None:
    async with starting_operator() as (api, operator):
        for plural in PLURALS:
            await until_state(operator, f"the CRD {plural}.hatchet-operator.dev is not installed", MEND, ready=False)
        for plural in PLURALS - {"workflowruns"}:
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
    async with starting_operator(*(crd(each) for each in PLURALS - {"workflowruns"}), old) as (api, operator):
        state = await until_state(operator, "workflowruns.hatchet-operator.dev is of another version", ready=False)
        assert "it lacks status.message, status.steps.*.losses: " in state
        await api.patch(CRDS, None, old["metadata"]["name"], {"spec": crd("workflowruns")["spec"]})
        await until_state(operator, "ok", ready=True)


async def test_an_operator_says_which_versions_are_served_instead() -> None:
    def renamed(each: Json) -> Json:
        each["spec"]["versions"][0]["name"] = "v1"
        return each

    crds = [renamed(crd(plural)) for plural in PLURALS]
    async with starting_operator(*crds) as (_, operator):
        await until_state(
            operator, "workflowruns.hatchet-operator.dev is not installed in v1alpha1, but in v1", ready=False
        )


@asynccontextmanager
async def standby(server: ApiServer | None = None, *, looks: float) -> AsyncIterator[tuple[Api, Operator]]:
    """Start an operator that waits for another one's Lease, with all CRDs there, at which it looks so often."""
    lease: Json = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "hatchet-operator"},
        "spec": {"holderIdentity": "another", "leaseDurationSeconds": 3600},
    }
    starting = starting_operator(
        *load_crds(), lease=lease, server=server, pace=replace(IMPATIENT, standby_looks=looks), leader_election=True
    )
    async with starting as (api, operator):
        await until_state(operator, "standby", ready=True)
        yield api, operator


async def begin_term(api: Api) -> None:
    await api.patch(LEASES, NAMESPACE, "hatchet-operator", {"spec": {"holderIdentity": ""}})


NEVER = 3600.0


async def test_a_standby_is_not_ready_while_a_crd_is_missing() -> None:
    async with standby(looks=0.05) as (api, operator):
        await delete_crd(api, "workflowruns")
        state = await until_state(
            operator, "the CRD workflowruns.hatchet-operator.dev is not installed", MEND, ready=False
        )
        assert operator.term is None
        await api.create(CRDS, None, crd("workflowruns"))
        await until_state(operator, "standby", ready=True)
        assert await events_of_the_operator(api) == [state]


async def test_a_look_that_is_refused_is_not_the_last_one() -> None:
    refused = {"match": {"verb": "list", "resource": "workflows"}, "action": "status", "code": 403, "skip": 2}
    server = ApiServer()
    server.faults.install([refused])
    async with standby(server, looks=0.05) as (api, operator):

        async def has_been_refused() -> bool:
            return not server.faults.missed()

        await eventually(has_been_refused)
        await delete_crd(api, "workflowruns")
        await until_state(operator, "the CRD workflowruns.hatchet-operator.dev is not installed", ready=False)


@pytest.mark.parametrize(
    "looks",
    [pytest.param(NEVER, id="which the standby had not noticed"), pytest.param(0.05, id="which the standby had said")],
)
async def test_a_term_begins_while_a_crd_is_missing(looks: float) -> None:
    async with standby(looks=looks) as (api, operator):
        await delete_crd(api, "workflows")
        if looks != NEVER:
            await until_state(operator, "workflows.hatchet-operator.dev", ready=False)
        await begin_term(api)

        async def leads() -> bool:
            return operator.elector is not None and operator.elector.is_leading()

        await eventually(leads)
        state = await until_state(operator, "the CRD workflows.hatchet-operator.dev is not installed", ready=False)
        await api.create(CRDS, None, crd("workflows"))
        await until_state(operator, "ok", ready=True)
        assert await leads(), "it kept the Lease meanwhile"
        assert await events_of_the_operator(api) == [state]


async def test_a_leader_that_waits_for_a_crd_ends_when_it_is_asked_to() -> None:
    async with standby(looks=NEVER) as (api, operator):
        await delete_crd(api, "workflows")
        await begin_term(api)
        await until_state(operator, "the CRD workflows.hatchet-operator.dev is not installed", ready=False)


async def pool_condition(world: Instance, kind: str) -> Json:
    conditions = (await world.api.get(POOLS, NAMESPACE, POOL)).get("status", {}).get("conditions", [])
    return next((each for each in conditions if each["type"] == kind), {})


async def create_pool(world: Instance) -> None:
    pod = {"containers": [{"name": "worker", "image": "nowhere:1"}]}
    body: Json = {"apiVersion": API_VERSION, "kind": "WorkerPool", "metadata": {"name": POOL}}
    await world.api.create(POOLS, NAMESPACE, body | {"spec": {"template": {"spec": pod}}})


async def test_the_crd_of_runs_is_deleted_while_one_goes() -> None:

    async with running_operator(pace=replace(IMPATIENT, grace=0), **POD) as world:
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

    async with running_operator(pace=replace(IMPATIENT, grace=0), **POD) as world:
        await create_pool(world)
        await eventually(lambda: has_pods(world))  # it is watched
        await delete_crd(world.api, "workerpools")
        await until_state(world.operator, "the CRD workerpools.hatchet-operator.dev is not installed", ready=False)
        await world.api.create(CRDS, None, crd("workerpools"))
        await until_state(world.operator, "ok", ready=True)
        await create_pool(world)
        await eventually(lambda: has_pods(world))
