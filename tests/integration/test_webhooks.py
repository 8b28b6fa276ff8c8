"""Webhooks, from what a sender posts to the run; and what is said of sources where their author looks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from hatchet_operator.cluster.kinds import SECRETS, WEBHOOK_SOURCES
from hatchet_operator.resources.base import API_VERSION
from tests.integration.inprocess import NAMESPACE, SECONDS, Instance, running_operator
from tests.kube.eventually import eventually

Answer = tuple[int, dict[str, Any]]
SECRET = "a-secret"


@pytest.fixture
async def instance() -> AsyncIterator[Instance]:
    async with running_operator(events_port=0) as instance:
        yield instance


async def put_secret(instance: Instance, value: str = SECRET, name: str = "signing", key: str = "secret") -> None:
    data = {key: base64.b64encode(value.encode()).decode()}
    await instance.api.create(SECRETS, NAMESPACE, {"metadata": {"name": name}, "data": data})


async def put_source(instance: Instance, name: str = "github", **spec: Any) -> None:
    given = {"type": "GitHub", "secretRef": {"name": "signing"}, **spec}
    body = {"apiVersion": API_VERSION, "kind": "WebhookSource", "metadata": {"name": name}, "spec": given}
    await instance.api.create(WEBHOOK_SOURCES, NAMESPACE, body)


async def until_ready(instance: Instance, status: str, name: str = "github") -> dict[str, Any]:
    async def read(name: str) -> Any:
        return await instance.api.get(WEBHOOK_SOURCES, NAMESPACE, name)

    return await instance.condition(name, "Ready", status=status, of=read)


async def start_with(instance: Instance, *keys: str) -> None:
    worker = await instance.scripted()
    await worker.put_workflow("etl", event_triggers=keys)


async def post(instance: Instance, body: bytes, source: str = "github", **headers: str) -> Answer:
    assert instance.operator.term is not None
    url = f"http://127.0.0.1:{instance.operator.term.events_port}/v1/namespaces/{NAMESPACE}/webhooks/{source}"
    given = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    timeout = aiohttp.ClientTimeout(total=SECONDS)
    async with (
        aiohttp.ClientSession(timeout=timeout) as http,
        http.post(url, data=body, headers=given) as response,
    ):
        return response.status, await response.json()


def hub(body: bytes, secret: str = SECRET) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


async def deliver(instance: Instance, delivery: str = "d-1", secret: str = SECRET) -> Answer:
    body = b'{"ref": "refs/heads/main"}'
    signature = hub(body, secret)
    return await post(instance, body, X_GitHub_Event="push", X_GitHub_Delivery=delivery, X_Hub_Signature_256=signature)


async def test_a_delivery_of_github_starts_a_run_once(instance: Instance) -> None:
    await start_with(instance, "github:*")
    await put_secret(instance, f"{SECRET}\n")  # as a file has it
    await put_source(instance)
    await until_ready(instance, "True")
    status, answer = await deliver(instance)
    assert (status, answer["id"], answer["key"]) == (200, "github_d-1", "github:push")
    run = await instance.run(answer["runs"][0]["name"])
    assert json.loads(run["spec"]["inputJson"]) == {"ref": "refs/heads/main"}
    labels = run["metadata"]["labels"]
    assert labels["hatchet-operator.dev/event-source"] == "github"
    assert labels["hatchet-operator.dev/event"] == "github_d-1"
    again, another = await deliver(instance), await deliver(instance, "d-2")
    assert [each[1]["runs"][0]["created"] for each in (again, another)] == [False, True]


async def test_a_delivery_of_stripe_is_taken_while_it_is_new(instance: Instance) -> None:
    await start_with(instance, "stripe:charge.failed")
    await put_secret(instance)
    await put_source(instance, "stripe", type="Stripe")
    await until_ready(instance, "True", "stripe")
    body = b'{"id": "evt_1", "type": "charge.failed"}'

    def stripe(at: int) -> str:
        return f"t={at},v1={hmac.new(SECRET.encode(), f'{at}.'.encode() + body, hashlib.sha256).hexdigest()}"

    now = int(time.time())
    status, answer = await post(instance, body, "stripe", Stripe_Signature=stripe(now))
    assert (status, answer["id"], len(answer["runs"])) == (200, "stripe_evt_1", 1)
    status, answer = await post(instance, body, "stripe", Stripe_Signature=stripe(now - 400))
    assert (status, "expected at most 5m" in answer["error"]) == (401, True)


async def test_a_wrong_signature_is_told_to_the_sender_and_on_the_source(instance: Instance) -> None:
    await put_secret(instance)
    await put_source(instance)
    await until_ready(instance, "True")
    status, answer = await deliver(instance, secret="another")
    assert status == 401
    assert answer["error"] == "X-Hub-Signature-256 is not the signature of this body with the secret of the source"
    assert 'Secret "signing"; does its sender have it?' in await instance.event("github", "DeliveryRefused")
    assert instance.metric("hatchet_operator_webhooks_refused_total") == 1
    assert instance.metric("hatchet_operator_events_total") == 0


async def test_a_source_without_its_secret_says_so_to_its_senders(instance: Instance) -> None:
    await put_source(instance)
    await until_ready(instance, "False")
    status, answer = await deliver(instance)
    assert (status, answer["error"]) == (503, 'WebhookSource "github" has no secret yet; its status says why')


async def test_an_expression_that_is_none_is_told_on_the_source(instance: Instance) -> None:
    await put_secret(instance)
    await put_source(instance, eventKey="body.kind")
    said = (await until_ready(instance, "False"))["message"]
    assert said == "spec.eventKey: eventKey 'body.kind' names body, which is not there; expected input and headers"
    assert (await deliver(instance))[0] == 400


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(b"[1]", "is a JSON list; expected an object", id="a list"),
        pytest.param(b'{"a":', "is not JSON", id="half of it"),
        pytest.param(b"\xff", "is not UTF-8", id="no text"),
    ],
)
async def test_a_body_that_is_signed_and_makes_no_sense_is_told(instance: Instance, body: bytes, words: str) -> None:
    await put_secret(instance)
    await put_source(instance)
    await until_ready(instance, "True")
    status, answer = await post(instance, body, X_GitHub_Event="push", X_Hub_Signature_256=hub(body))
    assert (status, words in answer["error"]) == (400, True)


async def test_a_form_is_told_what_to_choose(instance: Instance) -> None:
    """GitHub's default when a webhook is made by hand."""
    status, answer = await post(instance, b"payload=%7B%7D", Content_Type="application/x-www-form-urlencoded")
    assert (status, "choose JSON" in answer["error"]) == (415, True)


async def test_a_source_that_is_gone_takes_nothing(instance: Instance) -> None:
    await put_secret(instance)
    await put_source(instance)
    await until_ready(instance, "True")
    await instance.api.delete(WEBHOOK_SOURCES, NAMESPACE, "github")

    async def is_unknown() -> bool:
        return await deliver(instance) == (404, {"error": 'there is no WebhookSource "github" in namespace "default"'})

    await eventually(is_unknown)


async def test_without_a_port_a_source_says_what_to_set() -> None:
    async with running_operator() as instance:
        await put_secret(instance)
        await put_source(instance)
        said = (await until_ready(instance, "False"))["message"]
        assert said == "the operator has no port for events; give it one: events.port of the chart, or --events-port"


async def test_a_status_that_is_written_over_is_written_again(instance: Instance) -> None:
    match = {"verb": "update", "resource": "webhooksources", "subresource": "status"}
    instance.server.faults.install([{"match": match, "action": "status", "code": 409}])
    await put_secret(instance)
    await put_source(instance)
    await until_ready(instance, "True")
