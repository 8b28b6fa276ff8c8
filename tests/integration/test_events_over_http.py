"""Events over HTTP, as curl and other programs send them: what is answered, what it started, who is turned away."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest

from hatchet_operator.access.certificates import make_authority, make_certificate
from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.pace import Pace
from hatchet_operator.receiver.bounds import Bounds
from hatchet_operator.receiver.server import Receiver
from hatchet_operator.settings import Tls
from hatchet_sdk.contracts import workflows_pb2 as workflows_wire
from tests.integration.inprocess import NAMESPACE, SECONDS, Instance, receiving, running_operator
from tests.integration.service_accounts import AUDIENCE, create_pod, request_token

EVENTS = f"/v1/namespaces/{NAMESPACE}/events"
Answer = tuple[int, dict[str, Any]]


@pytest.fixture
async def instance() -> AsyncIterator[Instance]:
    async with running_operator(events_port=0, token_audience=AUDIENCE) as instance:
        yield instance


@pytest.fixture
async def http(instance: Instance) -> AsyncIterator[aiohttp.ClientSession]:
    async with session_with(instance) as http:
        yield http


@asynccontextmanager
async def session_with(
    instance: Instance, url: str | None = None, **options: Any
) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Bearer {instance.config().token}"}
    timeout = aiohttp.ClientTimeout(total=SECONDS)
    async with aiohttp.ClientSession(url or address_of(instance), headers=headers, timeout=timeout, **options) as http:
        yield http


def address_of(instance: Instance) -> str:
    assert instance.operator.term is not None
    return f"http://127.0.0.1:{instance.operator.term.events_port}"


async def push(http: aiohttp.ClientSession, path: str = "user:create", **options: Any) -> Answer:
    given: dict[str, Any] = {"json": {"a": 1}} if not {"data", "json"} & options.keys() else {}
    async with http.post(f"{EVENTS}/{path}", **given, **options) as response:
        assert response.content_type == "application/json"
        return response.status, await response.json()


async def start_with(instance: Instance, **events: tuple[str, ...]) -> None:
    worker = await instance.scripted()
    for name, keys in events.items():
        await worker.put_workflow(name, event_triggers=keys)


async def test_an_event_is_answered_with_what_it_started(instance: Instance, http: aiohttp.ClientSession) -> None:
    await start_with(instance, etl=("user:create",), Report=("user:*",), other=("order:*",))
    headers = {"Idempotency-Key": "signup-ada", "Hatchet-Metadata": '{"by": "me"}', "Hatchet-Priority": "3"}
    status, answer = await push(http, headers=headers)
    assert (status, answer["id"], answer["key"]) == (200, "signup-ada", "user:create")
    assert [(run["workflow"], run["created"]) for run in answer["runs"]] == [("etl", True), ("Report", True)]
    for run in answer["runs"]:
        there = await instance.run(run["name"])
        assert there["spec"]["inputJson"] == '{"a": 1}'
        assert (there["spec"]["additionalMetadata"], there["spec"]["priority"]) == ({"by": "me"}, 3)
    found, _ = await instance.api.list_all(
        RUNS, NAMESPACE, label_selector="hatchet-operator.dev/event=signup-ada,hatchet-operator.dev/triggered-by=event"
    )
    assert {run["metadata"]["name"] for run in found} == {run["name"] for run in answer["runs"]}


async def test_an_event_that_is_sent_again_with_its_id_starts_nothing(
    instance: Instance, http: aiohttp.ClientSession
) -> None:
    await start_with(instance, etl=("user:create",))
    headers = {"Idempotency-Key": "signup-ada"}
    answers = await asyncio.gather(*(push(http, headers=headers) for _ in range(3)))
    assert sorted(answer["runs"][0]["created"] for _, answer in answers) == [False, False, True]
    assert len({answer["runs"][0]["name"] for _, answer in answers}) == 1
    for _ in range(2):
        _, answer = await push(http)
        assert answer["runs"][0]["created"], "without an id it is another event each time"


async def test_an_event_that_nothing_wants_says_so_and_is_counted(
    instance: Instance, http: aiohttp.ClientSession
) -> None:
    status, answer = await push(http, "nobody%2Fwants", data=b"")
    assert (status, answer["key"], answer["runs"]) == (200, "nobody/wants", [])
    assert instance.metric("hatchet_operator_events_unmatched_total") == 1


@pytest.mark.parametrize(
    ("path", "options", "want", "words"),
    [
        pytest.param("a", {"data": b'{"a":'}, 415, "expected application/json", id="no type"),
        pytest.param("a", {"data": {"payload": "{}"}}, 415, "choose JSON", id="a form"),
        pytest.param("a", {"json": [1]}, 400, "is a JSON list; expected an object", id="a list"),
        pytest.param("a", {"json": {"a": "x" * 300_000}}, 413, "larger than 256 KiB", id="too large"),
        pytest.param("x" * 1025, {}, 400, "1 to 1024 characters", id="a long key"),
        pytest.param("a", {"headers": {"Idempotency-Key": "x" * 1025}}, 400, "1 to 1024 characters", id="a long id"),
        pytest.param("a", {"headers": {"Hatchet-Priority": "9"}}, 400, "expected 1, 2 or 3", id="a priority of 9"),
        pytest.param("a", {"headers": {"Hatchet-Metadata": "x"}}, 400, 'metadata of event "a" is not JSON', id="meta"),
        pytest.param("a", {"headers": {"Authorization": "Basic x"}}, 401, "no valid token", id="no bearer"),
        pytest.param("a", {"headers": {"Authorization": "Bearer x.y.z"}}, 401, "no valid token", id="a wrong token"),
        pytest.param("a/b", {}, 404, "expected POST /v1/namespaces/NAMESPACE/events/KEY", id="no such path"),
    ],
)
async def test_what_makes_no_sense_is_told(
    http: aiohttp.ClientSession, path: str, options: dict[str, Any], want: int, words: str
) -> None:
    status, answer = await push(http, path, **options)
    assert status == want
    assert words in answer["error"]


async def test_a_body_that_is_no_json_or_no_text_is_told(http: aiohttp.ClientSession) -> None:
    json = {"Content-Type": "application/json; charset=utf-8"}
    assert await push(http, data=b'{"a":', headers=json) == (
        400,
        {"error": 'payload of event "user:create" is not JSON (unexpected end of data: line 1 column 6 (char 5)); '
         "expected the text of an object"},
    )  # fmt: skip
    status, answer = await push(http, data=b"\xff", headers=json)
    assert (status, answer["error"][:24]) == (400, "the body is not UTF-8 ('")


async def test_a_body_that_lies_of_its_size_is_cut_off(http: aiohttp.ClientSession) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(6):
            yield b" " * 65_536

    status, answer = await push(http, data=endless(), headers={"Content-Type": "application/json"})
    assert (status, "larger than 256 KiB" in answer["error"]) == (413, True)


async def test_an_event_has_a_scope(instance: Instance, http: aiohttp.ClientSession) -> None:
    worker = await instance.scripted()
    filters = [workflows_wire.EventFilter(expression="input.a == 1", scope="shop")]
    await worker.put_workflow("etl", event_triggers=("a",), event_filters=filters)
    counts = [len((await push(http, "a", headers=headers))[1]["runs"]) for headers in ({}, {"Hatchet-Scope": "shop"})]
    assert counts == [0, 1]


async def test_another_method_is_told_which_one_to_take(http: aiohttp.ClientSession) -> None:
    async with http.get(f"{EVENTS}/a") as response:
        assert (response.status, response.headers["Allow"]) == (405, "POST")
        assert (await response.json())["error"] == "events come by POST"


async def test_nobody_starts_anything_in_another_namespace(http: aiohttp.ClientSession) -> None:
    async with http.post("/v1/namespaces/bank/events/a", json={}) as response:
        assert response.status == 403
        want = 'pool "main" is of namespace "default" and starts nothing in "bank"'
        assert (await response.json())["error"] == want


async def test_a_pod_of_a_pool_sends_events_with_its_service_accounts_token(instance: Instance) -> None:
    await start_with(instance, etl=("user:create",))
    pod = await create_pod(instance.api, "sender", pool="main")
    token = await request_token(instance.api, pod["metadata"]["name"])
    async with session_with(instance) as http:
        status, answer = await push(http, headers={"Authorization": f"bearer {token}"})
    assert (status, len(answer["runs"])) == (200, 1)


# --- Service accounts outside of pools


@pytest.fixture
async def account(instance: Instance) -> AsyncIterator[aiohttp.ClientSession]:
    """A session with the token of an account that has no Pod, in a cluster where rights are asked for."""
    await create_pod(instance.api, "beside", pool=None)  # with the account
    await start_with(instance, etl=("user:create",))
    token = await request_token(instance.api, None)
    timeout = aiohttp.ClientTimeout(total=SECONDS)
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(address_of(instance), headers=headers, timeout=timeout) as http:
        yield http


async def test_an_account_that_may_create_runs_pushes_events(
    instance: Instance, account: aiohttp.ClientSession
) -> None:
    asked: list[Any] = []

    def authorize(spec: Any) -> bool:
        asked.append(spec)
        return True

    instance.server.authorizer = authorize
    for _ in range(3):
        status, answer = await push(account)
        assert (status, len(answer["runs"])) == (200, 1)
    (spec,) = asked
    assert spec["user"] == f"system:serviceaccount:{NAMESPACE}:worker"
    assert f"system:serviceaccounts:{NAMESPACE}" in spec["groups"]
    want = {"group": "hatchet-operator.dev", "resource": "workflowruns", "verb": "create", "namespace": NAMESPACE}
    assert want.items() <= spec["resourceAttributes"].items()


async def test_an_account_without_that_right_starts_nothing_and_is_told_what_it_lacks(
    instance: Instance, account: aiohttp.ClientSession
) -> None:
    instance.server.authorizer = lambda spec: False
    status, answer = await push(account)
    want = f'system:serviceaccount:{NAMESPACE}:worker may not start runs in namespace "{NAMESPACE}": it needs a role'
    assert (status, answer["error"][: len(want)]) == (403, want)
    assert await instance.runs() == []


async def test_a_right_that_is_given_or_taken_away_counts_within_seconds(
    instance: Instance, account: aiohttp.ClientSession
) -> None:
    for allowed, status in ((False, 403), (True, 200), (False, 403)):
        instance.server.authorizer = lambda spec, allowed=allowed: allowed
        assert (await push(account))[0] == status
        instance.surroundings.ahead += timedelta(seconds=10)


async def test_a_right_in_one_namespace_is_none_in_another(instance: Instance, account: aiohttp.ClientSession) -> None:
    instance.server.authorizer = lambda spec: bool(spec["resourceAttributes"]["namespace"] == NAMESPACE)
    assert (await push(account))[0] == 200
    async with account.post("/v1/namespaces/bank/events/a", json={}) as response:
        assert response.status == 403


async def test_a_pod_of_another_namespaces_pool_needs_the_right_here(instance: Instance) -> None:
    await start_with(instance, etl=("user:create",))
    pod = await create_pod(instance.api, "sender", pool="main", namespace="shop")
    for allowed, status in ((True, 200), (False, 403)):
        instance.server.authorizer = lambda spec, allowed=allowed: allowed
        token = await request_token(instance.api, pod["metadata"]["name"], namespace="shop")  # not asked about yet
        headers = {"Authorization": f"Bearer {token}"}
        async with session_with(instance) as http:
            assert (await push(http, headers=headers))[0] == status


async def test_nobody_is_let_in_unchecked_while_rights_cant_be_asked_for(
    instance: Instance, account: aiohttp.ClientSession
) -> None:
    fault = {"match": {"resource": "localsubjectaccessreviews"}, "action": "status", "times": 1}
    for code, words in ((500, "send it again"), (403, "its role needs create on tokenreviews")):
        instance.server.faults.install([{**fault, "code": code}])
        status, answer = await push(account)
        assert (status, words in answer["error"]) == (503, True)
    assert (await push(account))[0] == 200


async def test_an_operator_of_one_namespace_takes_no_events_for_another() -> None:
    async with running_operator(events_port=0, token_audience=AUDIENCE, namespaces=(NAMESPACE, "shop")) as instance:
        await create_pod(instance.api, "beside", pool=None)
        headers = {"Authorization": f"Bearer {await request_token(instance.api, None)}"}
        async with (
            session_with(instance) as http,
            http.post("/v1/namespaces/bank/events/a", json={}, headers=headers) as response,
        ):
            assert (response.status, (await response.json())["error"]) == (
                403,
                "this operator serves namespaces default, shop only",
            )


async def test_what_the_api_server_refuses_is_told_with_its_words(
    instance: Instance, http: aiohttp.ClientSession
) -> None:
    await start_with(instance, etl=("user:create",))
    match = {"verb": "create", "resource": "workflowruns"}
    fault = {"match": match, "action": "status", "code": 403, "message": "exceeded quota: runs"}
    instance.server.faults.install([fault])
    status, answer = await push(http)
    assert (status, "exceeded quota" in answer["error"]) == (400, True)


# --- Clients that take their time


IMPATIENT = Bounds(headers_seconds=0.2, body_seconds=0.2)


async def read_to_the_end(address: str, *sent: bytes) -> bytes:
    """Send something and no more, and return what comes until the connection is closed."""
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        for each in sent:
            writer.write(each)
            await writer.drain()
        return await asyncio.wait_for(reader.read(), SECONDS)
    finally:
        writer.close()


@pytest.mark.parametrize("sent", [b"", f"POST {EVENTS}/a HTTP/1.1\r\nHost: x".encode()])
async def test_headers_that_do_not_come_are_not_waited_for(instance: Instance, sent: bytes) -> None:
    async with receiving(instance, IMPATIENT) as address:
        assert await read_to_the_end(address, sent) == b""


async def test_a_body_that_does_not_come_is_not_waited_for(instance: Instance) -> None:
    headers = (
        f"POST {EVENTS}/a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {instance.config().token}\r\n"
        "Content-Type: application/json\r\nContent-Length: 9\r\n\r\n"
    )
    async with receiving(instance, IMPATIENT) as address:
        answer = await read_to_the_end(address, headers.encode(), b'{"a"')
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'{"error":"the body did not come within 0 s"}' in answer


async def test_connections_beyond_a_number_are_closed_unread(instance: Instance) -> None:
    bounds = Bounds(connections=1)
    async with receiving(instance, bounds) as address, session_with(instance, f"http://{address}") as http:
        assert (await push(http))[0] == 200  # and the connection is kept
        assert await read_to_the_end(address, b"GET / HTTP/1.1\r\n") == b""
        assert (await push(http))[0] == 200


# --- Certificates


async def test_the_certificate_is_that_of_the_grpc_port_and_is_renewed(instance: Instance) -> None:
    now = datetime.now(UTC)
    first, second = make_authority(now), make_authority(now)
    receiver = Receiver(instance.engine)
    port = await receiver.bind("127.0.0.1", 0, make_certificate(first, ["127.0.0.1"], now))
    await receiver.listen()
    try:
        for authority in (first, second):
            if authority is second:
                receiver.show(make_certificate(second, ["127.0.0.1"], now))
            trust = ssl.create_default_context(cadata=authority.certificate.decode())
            headers = {"Authorization": f"Bearer {instance.config().token}"}
            async with (
                aiohttp.ClientSession(f"https://127.0.0.1:{port}", headers=headers) as http,
                http.post(f"{EVENTS}/a", json={}, ssl=trust) as response,
            ):
                assert response.status == 200
    finally:
        await receiver.stop(0)


async def test_an_operator_with_a_certificate_speaks_https() -> None:
    async with running_operator(events_port=0, tls=Tls.OWN, tls_names=("127.0.0.1",)) as instance:
        trust = ssl.create_default_context(cadata=instance.engine.pools.ca_pem)
        url = address_of(instance).replace("http:", "https:")
        async with aiohttp.ClientSession() as http, http.post(f"{url}{EVENTS}/a", ssl=trust) as response:
            assert response.status == 401


# --- The end


async def test_an_event_under_way_is_answered_when_the_operator_is_asked_to_end() -> None:
    async with AsyncExitStack() as client:
        async with running_operator(events_port=0, pace=Pace(grace=5)) as instance:
            http = await client.enter_async_context(session_with(instance))
            await start_with(instance, etl=("user:create",))
            match = {"verb": "create", "resource": "workflowruns"}
            instance.server.faults.install([{"match": match, "action": "delay", "seconds": 0.3}])
            pushing = asyncio.create_task(push(http))
            await instance.until(lambda: instance.metric("hatchet_operator_events_total") == 1)
        status, answer = await pushing
    assert (status, answer["runs"][0]["created"]) == (200, True)
