"""When the Secret of a webhook source is read, and what is said meanwhile; in virtual time."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from typing import Any

import pytest

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import SECRETS, WEBHOOK_SOURCES
from hatchet_operator.decisions.webhooks import Delivery
from hatchet_operator.engine.engine import Engine
from hatchet_operator.errors import NotReady, Unauthenticated
from hatchet_operator.resources.base import API_VERSION, Json
from hatchet_operator_dev.apiserver import ApiServer
from tests.integration.engine.world import NAMESPACE, SECONDS, loop_time, requests_to, started
from tests.kube.eventually import eventually


def data_of(value: str, key: str = "secret") -> dict[str, Any]:
    return {"data": {key: base64.b64encode(value.encode()).decode()}}


async def put_secret(api: Api, value: str = "a-secret", key: str = "secret") -> None:
    await api.create(SECRETS, NAMESPACE, {"metadata": {"name": "signing"}, **data_of(value, key)})


async def put_source(engine: Engine, api: Api) -> None:
    spec = {"type": "GitHub", "secretRef": {"name": "signing"}}
    body = {"apiVersion": API_VERSION, "kind": "WebhookSource", "metadata": {"name": "github"}, "spec": spec}
    engine.webhooks.observe("ADDED", await api.create(WEBHOOK_SOURCES, NAMESPACE, body))


async def deliver(engine: Engine, secret: str = "a-secret") -> str:
    body = b'{"ref": "refs/heads/main"}'
    signature = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {"x-github-event": "push", "x-github-delivery": "d-1", "x-hub-signature-256": signature}
    return (await engine.webhooks.read(NAMESPACE, "github", Delivery(body=body, headers=headers))).key


async def until_said(api: Api, status: str, *words: str) -> None:
    async def is_said() -> bool:
        found: list[Json] = (
            (await api.get(WEBHOOK_SOURCES, NAMESPACE, "github")).get("status", {}).get("conditions", [])
        )
        ready: Json = next((each for each in found if each["type"] == "Ready"), {})
        return ready.get("status") == status and all(word in ready["message"] for word in words)

    await eventually(is_said, within_seconds=SECONDS)


async def test_a_secret_that_was_replaced_is_good_after_a_second(server: ApiServer, api: Api) -> None:
    async with started(server, events_port=0) as engine:
        await put_secret(api)
        await put_source(engine, api)
        await until_said(api, "True")
        assert await deliver(engine) == "github:push"
        await api.patch(SECRETS, NAMESPACE, "signing", data_of("new"))
        await asyncio.sleep(1.1)
        assert await deliver(engine, secret="new") == "github:push"


async def test_who_can_not_sign_has_the_secret_read_once_a_second(server: ApiServer, api: Api) -> None:
    async with started(server, events_port=0) as engine:
        await put_secret(api)
        await put_source(engine, api)
        await until_said(api, "True")
        before, began = requests_to(server, "get", "secrets"), loop_time()
        for _ in range(50):
            with pytest.raises(Unauthenticated):
                await deliver(engine, secret="another")
            await asyncio.sleep(0.1)
        assert 4 <= requests_to(server, "get", "secrets") - before <= 1 + (loop_time() - began)


async def test_a_source_without_its_secret_says_which_and_goes_on_when_it_is_there(server: ApiServer, api: Api) -> None:
    async with started(server, events_port=0) as engine:
        await put_source(engine, api)
        await until_said(api, "False", 'there is no Secret "signing" in namespace "default"')
        with pytest.raises(NotReady, match='WebhookSource "github" has no secret yet; its status says why'):
            await deliver(engine)
        await put_secret(api, key="other")
        await until_said(api, "False", 'Secret "signing" has no key "secret" (it has: other)')
        await api.patch(SECRETS, NAMESPACE, "signing", data_of("x"))
        await until_said(api, "True")
        assert await deliver(engine, secret="x") == "github:push"
