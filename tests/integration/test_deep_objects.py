"""Objects that kube-apiserver takes and Python's JSON does not: nested hundreds of levels deep."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import aiohttp
import pytest

from hatchet_operator.access.identity import Caller, mint_token
from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.definitions import definition_problems
from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.kinds import PODS, POOLS, RUNS, WORKFLOWS, Resource
from hatchet_operator.resources.base import API_VERSION, Json
from hatchet_sdk import ClientConfig
from tests.integration.commands import install_crds
from tests.integration.inprocess import KEY, NAMESPACE, POOL, ScriptedWorker, make_run, operator_at
from tests.kube.eventually import eventually
from tests.kube.real_api import BinariesMissingError, RealApi

DEPTHS = (101, 201, 300, 990, 1100, 4000)  # beyond our limit, pydantic, orjson's writer, json, orjson's parser, all
DEEP = {f"deep-{depth}": '{"a":' * depth + "1" + "}" * depth for depth in DEPTHS}


@pytest.fixture(scope="module")
def server() -> Iterator[RealApi]:
    try:
        server = RealApi(unsafe_no_fsync=True)
    except BinariesMissingError as missing:
        pytest.skip(str(missing))
    with server:
        yield server


@pytest.fixture
def endpoint(server: RealApi) -> Endpoint:
    return Endpoint(server=server.url, token=server.token, ssl_context=server.endpoint.ssl_context())


@pytest.fixture
async def api(endpoint: Endpoint) -> AsyncIterator[Api]:
    async with Api(endpoint, user_agent="test", may_write=always) as api:
        if await definition_problems(api, ()):
            await install_crds(api)
        yield api


async def create(endpoint: Endpoint, resource: Resource, body: str) -> None:
    """Send a text as it is: nothing in Python would write it."""
    headers = {"Authorization": f"Bearer {endpoint.token}", "Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(ssl=endpoint.ssl_context or True)
    async with (
        aiohttp.ClientSession(endpoint.server, connector=connector) as session,
        session.post(resource.path(NAMESPACE), data=body, headers=headers) as answer,
    ):
        assert answer.status == 201, await answer.text()


async def create_deep_runs(endpoint: Endpoint, *, field: str = "input") -> None:
    for name, deep in DEEP.items():
        await create(
            endpoint,
            RUNS,
            f'{{"apiVersion":"{API_VERSION}","kind":"WorkflowRun","metadata":{{"name":"{name}-{field.lower()}"}},'
            f'"spec":{{"workflow":"etl","{field}":{deep}}}}}',
        )


async def create_deep_pools(endpoint: Endpoint) -> None:
    for name, deep in DEEP.items():
        await create(
            endpoint,
            POOLS,
            f'{{"apiVersion":"{API_VERSION}","kind":"WorkerPool","metadata":{{"name":"{name}"}},"spec":{{"template":'
            f'{{"spec":{{"containers":[{{"name":"worker","image":"worker","env":[{{"name":"A","value":{deep}}}]}}]}}}}}}}}',
        )


async def finished(api: Api, name: str) -> Json:
    status: Json = {}

    async def is_final() -> bool:
        nonlocal status
        status = (await api.get(RUNS, NAMESPACE, name)).get("status", {})
        return status.get("phase") in ("Succeeded", "Failed")

    await eventually(is_final)
    return status


async def worker_of(address: str) -> ScriptedWorker:
    token = mint_token(Caller(namespace=NAMESPACE, pool=POOL), key=KEY, grpc_address=address)
    worker = ScriptedWorker(ClientConfig(host_port=address, token=token, tls_strategy="none"))
    await worker.put_workflow("etl")
    return await worker.start()


@pytest.mark.parametrize("first", [True, False], ids=["in the list", "in the watch"])
@pytest.mark.parametrize("field", ["input", "additionalMetadata"])
async def test_a_run_that_is_nested_too_deep_fails_in_words_and_the_others_go_on(
    api: Api, endpoint: Endpoint, field: str, first: bool
) -> None:
    if first:
        await create_deep_runs(endpoint, field=field)
        await api.create(RUNS, NAMESPACE, make_run("innocent", "etl"))
    async with operator_at(endpoint, rejoin=timedelta(seconds=1)) as operator:
        worker = await worker_of(operator.grpc_address)
        if not first:
            await create_deep_runs(endpoint, field=field)
            await api.create(RUNS, NAMESPACE, make_run("innocent", "etl"))
        action = await worker.next()
        assert action.workflow_run_id == "innocent"
        await worker.complete(action)
        assert (await finished(api, "innocent"))["phase"] == "Succeeded"
        for name in DEEP:
            status = await finished(api, f"{name}-{field.lower()}")
            assert (status["phase"], status["reason"]) == ("Failed", "InvalidInput")
            assert status["message"].startswith(f"spec.{field} is nested deeper than 100 levels")
        await worker.close()
    runs, _ = await api.list_all(RUNS, NAMESPACE)
    for run in runs:
        await api.delete(RUNS, NAMESPACE, run["metadata"]["name"])


async def test_a_list_of_500_has_the_other_499(api: Api, endpoint: Endpoint) -> None:
    await create_deep_runs(endpoint)
    names = [f"run-{number:03}" for number in range(499)]
    for name in names:
        await api.create(RUNS, NAMESPACE, make_run(name, "nobodys"))
    listed, _ = await api.list_all(RUNS, NAMESPACE)
    assert {item["metadata"]["name"] for item in listed} >= set(names)
    for run in listed:
        await api.delete(RUNS, NAMESPACE, run["metadata"]["name"])


@pytest.mark.parametrize("first", [True, False], ids=["in the list", "in the watch"])
async def test_a_pool_that_is_nested_too_deep_is_not_valid_and_the_others_go_on(
    api: Api, endpoint: Endpoint, first: bool, caplog: pytest.LogCaptureFixture
) -> None:
    template = {"spec": {"containers": [{"name": "worker", "image": "worker"}]}}
    innocent: dict[str, Any] = {
        "apiVersion": API_VERSION,
        "kind": "WorkerPool",
        "metadata": {"name": "innocent"},
        "spec": {"template": template},
    }
    if first:
        await create_deep_pools(endpoint)
    async with operator_at(endpoint, rejoin=timedelta(seconds=1)):
        if not first:
            await create_deep_pools(endpoint)
        await api.create(POOLS, NAMESPACE, innocent)

        async def has_pod() -> bool:
            pods, _ = await api.list_all(PODS, NAMESPACE)
            return any(pod["metadata"]["generateName"] == "innocent-" for pod in pods)

        await eventually(has_pod)
        for name in DEEP:
            assert (await valid(api, name))["status"] == "False"
            assert (await valid(api, name))["message"].startswith("spec.template is nested deeper than 100 levels")
        # kopf's watch of the other kind, which was opened with it
        body = {"apiVersion": API_VERSION, "kind": "Workflow", "metadata": {"name": "later"}, "spec": {}}
        await api.create(WORKFLOWS, NAMESPACE, body)

        async def has_conditions() -> bool:
            return "conditions" in (await api.get(WORKFLOWS, NAMESPACE, "later")).get("status", {})

        await eventually(has_conditions)
    assert "kopf ended, starting it again" not in caplog.messages
    for resource in (POOLS, PODS, WORKFLOWS):
        for item in (await api.list_all(resource, NAMESPACE))[0]:
            await api.delete(resource, NAMESPACE, item["metadata"]["name"], grace_seconds=0)


async def valid(api: Api, pool: str) -> Json:
    condition: Json = {}

    async def has() -> bool:
        nonlocal condition
        conditions = (await api.get(POOLS, NAMESPACE, pool)).get("status", {}).get("conditions", [])
        condition = next((found for found in conditions if found["type"] == "Valid"), {})
        return bool(condition)

    await eventually(has)
    return condition
