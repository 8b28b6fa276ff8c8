from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.kinds import ENDPOINT_SLICES, SERVICES, Resource
from hatchet_operator.cluster.leader_endpoint import Address, LeaderEndpoint
from hatchet_operator.errors import NotFound
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator_dev.apiserver import ApiServer
from tests.kube.eventually import eventually

SERVICE = ObjectRef("ops", "hatchet")
NAMESPACES = Resource(group="", version="v1", plural="namespaces", kind="Namespace", namespaced=False)


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    server = ApiServer()
    url = await server.start()
    async with Api(Endpoint(server=url), may_write=always) as api:
        await api.create(NAMESPACES, None, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ops"}})
        yield api
    await server.stop()


async def slice_of(api: Api) -> Json | None:
    try:
        return await api.get(ENDPOINT_SLICES, "ops", "hatchet-leader")
    except NotFound:
        return None


async def until_it_leads_to(api: Api, ip: str | None) -> Json:
    found: Json = {}

    async def holds() -> bool:
        nonlocal found
        found = await slice_of(api) or {}
        want = [] if ip is None else [[ip]]
        return bool(found) and [endpoint["addresses"] for endpoint in found["endpoints"]] == want

    await eventually(holds)
    return found


class CountingApi(Api):
    """Counts how often the slice was looked at."""

    looks = 0

    async def get(self, *args: Any) -> Json:
        self.looks += 1
        return await super().get(*args)


async def keep_for_some_looks(api: Api, ip: str) -> None:
    async with CountingApi(api.endpoint, may_write=always) as counting:
        keeping = asyncio.create_task(make_endpoint(counting, ip, look_again_seconds=0.01).keep())

        async def looked() -> bool:
            return counting.looks >= 5  # at the Service and at the slice, so what followed from the first two is done

        try:
            await eventually(looked)
        finally:
            keeping.cancel()


def make_endpoint(api: Api, ip: str, *, look_again_seconds: float = 3600, **more: Any) -> LeaderEndpoint:
    address = Address(ip=ip, port=7070, **more)
    return LeaderEndpoint(api, SERVICE, address, look_again_seconds=look_again_seconds, last_words_seconds=60)


async def keep_until_it_leads_to(api: Api, ip: str) -> Json:
    keeping = asyncio.create_task(make_endpoint(api, ip).keep())
    try:
        return await until_it_leads_to(api, ip)
    finally:
        keeping.cancel()


async def test_each_leader_has_the_service_lead_to_itself(api: Api) -> None:
    first = await keep_until_it_leads_to(api, "10.0.0.1")
    assert (first["addressType"], first["ports"][0]["port"]) == ("IPv4", 7070)
    second = await keep_until_it_leads_to(api, "10.0.0.2")
    assert second["metadata"]["uid"] == first["metadata"]["uid"]
    await keep_for_some_looks(api, "10.0.0.2")
    again = await until_it_leads_to(api, "10.0.0.2")
    assert again["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"], "nothing was to be written"


async def test_events_are_led_to_a_port_of_their_own(api: Api) -> None:
    keeping = asyncio.create_task(make_endpoint(api, "10.0.0.1", events_port=7080).keep())
    try:
        ports = (await until_it_leads_to(api, "10.0.0.1"))["ports"]
    finally:
        keeping.cancel()
    assert {port["name"]: port["port"] for port in ports} == {"grpc": 7070, "events": 7080}


@pytest.mark.parametrize(
    "of_others",
    [
        pytest.param({"kubernetes.io/service-name": None}, id="they belong to no Service"),
        pytest.param({"kubernetes.io/service-name": "another"}, id="they belong to another Service"),
        pytest.param({"endpointslice.kubernetes.io/managed-by": None}, id="they are nobody's"),
    ],
)
async def test_labels_that_others_change_are_put_back(of_others: Json, api: Api) -> None:
    """By its label kube-proxy finds the slice of a Service."""
    want = (await keep_until_it_leads_to(api, "10.0.0.1"))["metadata"]["labels"]
    changed = {**of_others, "team": "ours"}
    await api.patch(ENDPOINT_SLICES, "ops", "hatchet-leader", {"metadata": {"labels": changed}})
    keeping = asyncio.create_task(make_endpoint(api, "10.0.0.1").keep())

    async def are_back() -> bool:
        found = await slice_of(api)
        return found is not None and found["metadata"]["labels"] == {**want, "team": "ours"}

    try:
        await eventually(are_back)
    finally:
        keeping.cancel()
    version = (await slice_of(api) or {})["metadata"]["resourceVersion"]
    await keep_for_some_looks(api, "10.0.0.1")
    assert (await slice_of(api) or {})["metadata"]["resourceVersion"] == version, "a label more is nobody's harm"


async def test_ports_that_pods_still_have_lead_to_the_leader_as_long_as_they_do(api: Api) -> None:
    own = {"name": "grpc", "port": 7171, "targetPort": 7171, "appProtocol": "https"}
    await api.create(SERVICES, "ops", {"metadata": {"name": "hatchet"}, "spec": {"ports": [own]}})
    used = frozenset({7070, 7171})
    served: list[frozenset[int]] = []
    endpoint = LeaderEndpoint(
        api,
        SERVICE,
        Address(ip="10.0.0.1", port=9999),
        former_ports=lambda: used,
        on_served=served.append,
        look_again_seconds=0.05,
    )

    async def ports() -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
        service, leads = await api.get(SERVICES, "ops", "hatchet"), await slice_of(api) or {"ports": []}
        return (
            [(port["name"], port["port"]) for port in service["spec"]["ports"]],
            [(port["name"], port["port"]) for port in leads["ports"]],
        )

    async def are(want: tuple[list[tuple[str, int]], list[tuple[str, int]]]) -> bool:
        return await ports() == want

    keeping = asyncio.create_task(endpoint.keep())
    try:
        both = [("grpc", 7171), ("grpc-7070", 7070)], [("grpc", 9999), ("grpc-7070", 9999)]
        await eventually(lambda: are(both))
        await eventually(lambda: told(served, frozenset({7070})))
        used = frozenset()
        await eventually(lambda: are(([("grpc", 7171)], [("grpc", 9999)])))
    finally:
        keeping.cancel()


async def told(served: list[frozenset[int]], want: frozenset[int]) -> bool:
    return bool(served) and served[-1] == want


async def test_an_address_of_the_other_family(api: Api) -> None:
    await keep_until_it_leads_to(api, "10.0.0.1")
    assert (await keep_until_it_leads_to(api, "fd00::1"))["addressType"] == "IPv6"


async def test_a_leader_that_ends_has_it_lead_nowhere(api: Api) -> None:
    await keep_until_it_leads_to(api, "10.0.0.1")
    await make_endpoint(api, "10.0.0.1").withdraw()
    await until_it_leads_to(api, None)


async def test_the_pod_is_named_for_people(api: Api) -> None:
    keeping = asyncio.create_task(make_endpoint(api, "10.0.0.1", pod_name="operator-0", pod_uid="1-2").keep())
    found = await until_it_leads_to(api, "10.0.0.1")
    keeping.cancel()
    assert found["endpoints"][0]["targetRef"] == {
        "kind": "Pod",
        "namespace": "ops",
        "name": "operator-0",
        "uid": "1-2",
    }


async def test_a_deposed_leader_can_not_point_back(api: Api) -> None:
    """It read the slice, was frozen, and writes when another has written."""
    await keep_until_it_leads_to(api, "10.0.0.1")
    read, may_write = asyncio.Event(), asyncio.Event()

    class Frozen(Api):
        async def get(self, *args: object) -> Json:
            answer = await api.get(*args)  # type: ignore[arg-type]  # handed on as they are
            read.set()
            await may_write.wait()
            return answer

    async with Frozen(api.endpoint, may_write=always) as frozen:
        late = asyncio.create_task(make_endpoint(frozen, "10.0.0.3").withdraw())
        await read.wait()
        await keep_until_it_leads_to(api, "10.0.0.2")
        may_write.set()
        await late
    await until_it_leads_to(api, "10.0.0.2")
