"""Faults that tests order, seen from a client: each action, on requests and on watches, and when it stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest

from hatchet_operator_dev.apiserver import ApiServer

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
DEADLINE = aiohttp.ClientTimeout(total=60)


def make_config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


@pytest.fixture
async def api() -> AsyncIterator[aiohttp.ClientSession]:
    server = ApiServer(bookmark_seconds=0.05)
    url = await server.start()
    async with aiohttp.ClientSession(url, timeout=DEADLINE, headers={"User-Agent": "tester/1"}) as session:
        yield session
    await server.stop()


async def order(api: aiohttp.ClientSession, **rule: Any) -> None:
    async with api.post("/_faults", json=[rule]) as answer:
        assert answer.status == 200, await answer.text()


async def create(api: aiohttp.ClientSession, name: str) -> int:
    async with api.post(CONFIG_MAPS, json=make_config_map(name)) as answer:
        return answer.status


async def exists(api: aiohttp.ClientSession, name: str) -> bool:
    async with api.get(f"{CONFIG_MAPS}/{name}") as answer:
        return answer.status == 200


async def test_a_status_is_answered_after_some_matches_and_for_some(api: aiohttp.ClientSession) -> None:
    match = {"verb": "create", "resource": "configmaps", "name": "", "userAgent": "tester*"}
    await order(api, match=match, skip=1, times=2, action="status", code=429, retryAfter=7)
    assert await create(api, "a") == 201
    async with api.post(CONFIG_MAPS, json=make_config_map("b")) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (429, "7")
        assert (await answer.json())["reason"] == "TooManyRequests"
    assert [await create(api, name) for name in "bb"] == [429, 201]


async def test_a_rule_for_another_verb_name_or_agent_does_not_match(api: aiohttp.ClientSession) -> None:
    for match in ({"verb": "update"}, {"resource": "pods"}, {"userAgent": "kubectl*"}, {"namespace": "other"}):
        await order(api, match=match, action="status")
    assert await create(api, "a") == 201


async def test_a_dropped_request_is_not_done(api: aiohttp.ClientSession) -> None:
    await order(api, match={"verb": "create"}, action="drop")
    with pytest.raises(aiohttp.ClientError):
        await create(api, "a")
    assert not await exists(api, "a")


async def test_a_write_may_be_done_though_its_connection_drops(api: aiohttp.ClientSession) -> None:
    await order(api, match={"verb": "create"}, action="commit-then-drop")
    with pytest.raises(aiohttp.ClientError):
        await create(api, "a")
    assert await exists(api, "a")


async def test_a_write_may_be_done_though_its_answer_never_comes(api: aiohttp.ClientSession) -> None:
    await order(api, match={"verb": "create"}, action="commit-then-hang")
    hanging = asyncio.create_task(create(api, "a"))
    async with api.get("/_faults/fired?wait=30") as answer:
        assert (await answer.json())["fired"] is True
    assert await exists(api, "a")
    assert not hanging.done()
    hanging.cancel()


async def test_waiting_for_a_fault_that_does_not_come_ends(api: aiohttp.ClientSession) -> None:
    async with api.get("/_faults/fired?wait=0.05") as answer:
        assert (await answer.json())["fired"] is False


async def test_cleared_faults_are_gone(api: aiohttp.ClientSession) -> None:
    await order(api, match={}, times=0, action="status", code=503)
    assert await create(api, "a") == 503
    async with api.delete("/_faults") as answer:
        assert await answer.json() == {"rules": []}
    assert await create(api, "a") == 201


@pytest.mark.parametrize("rule", [{"action": "explode"}, {"action": "drop", "match": {"colour": "red"}}])
async def test_a_rule_that_means_nothing_is_refused(api: aiohttp.ClientSession, rule: dict[str, Any]) -> None:
    async with api.post("/_faults", json=[rule]) as answer:
        assert answer.status == 400


class Watch:
    """The events of one watch."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def next(self, kind: str = "") -> tuple[str, Any]:
        """Return the next event (of one kind); an empty type at the end of the stream."""
        while line := await self._response.content.readline():
            event = orjson.loads(line)
            if not kind or event["type"] == kind:
                return event["type"], event["object"]
        return "", None


@pytest.fixture
async def watch(api: aiohttp.ClientSession) -> AsyncIterator[Watch]:
    async with api.get(CONFIG_MAPS + "?watch=1&allowWatchBookmarks=true") as response:
        opened = Watch(response)
        assert (await opened.next())[0] == "BOOKMARK"
        yield opened


ON_WATCHES = {"verb": "watch", "resource": "configmaps"}


async def test_an_open_watch_is_cut(api: aiohttp.ClientSession, watch: Watch) -> None:
    await order(api, match=ON_WATCHES, action="cut")
    assert await watch.next("ADDED") == ("", None)


async def test_an_open_watch_expires(api: aiohttp.ClientSession, watch: Watch) -> None:
    await order(api, match=ON_WATCHES, action="gone")
    _, error = await watch.next("ERROR")
    assert (error["code"], error["reason"]) == (410, "Expired")
    assert await watch.next() == ("", None)


async def test_an_open_watch_goes_silent(api: aiohttp.ClientSession, watch: Watch) -> None:
    await order(api, match=ON_WATCHES, action="silent")
    await create(api, "a")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):  # six bookmarks long
            await watch.next("ADDED")


async def test_a_watch_opened_later_is_hit_too(api: aiohttp.ClientSession) -> None:
    await order(api, match=ON_WATCHES, action="gone")
    async with api.get(CONFIG_MAPS + "?watch=1") as response:
        assert (await Watch(response).next())[0] == "ERROR"


async def test_events_come_twice(api: aiohttp.ClientSession, watch: Watch) -> None:
    await order(api, match=ON_WATCHES, action="duplicate")
    await create(api, "a")
    assert await watch.next("ADDED") == await watch.next("ADDED")


async def test_an_older_version_follows_a_newer_one(api: aiohttp.ClientSession, watch: Watch) -> None:
    await order(api, match=ON_WATCHES, action="stale")
    await create(api, "a")
    async with api.put(f"{CONFIG_MAPS}/a", json=make_config_map("a", x="1")) as answer:
        assert answer.status == 200
    _, newer = await watch.next("MODIFIED")
    _, older = await watch.next("MODIFIED")
    assert int(older["metadata"]["resourceVersion"]) < int(newer["metadata"]["resourceVersion"])


async def test_requests_are_counted_by_verb_and_agent(api: aiohttp.ClientSession) -> None:
    for name in "ab":
        await create(api, name)
    async with api.get("/_stats") as answer:
        counted = (await answer.json())["requests"]
    what = {"verb": "create", "group": "", "resource": "configmaps", "subresource": "", "namespace": "default"}
    want = {**what, "userAgent": "tester/1", "count": 2}
    assert want in counted


async def test_rules_that_nothing_met_are_told_dropped_or_not(api: aiohttp.ClientSession) -> None:
    for label, match in {"met": {"verb": "create"}, "dropped": {"name": "nobody"}}.items():
        await order(api, label=label, match=match, action="status")
    assert await create(api, "a") == 500
    async with api.delete("/_faults"):
        pass
    for label, optional in {"kept": False, "optional": True}.items():
        await order(api, label=label, match={"name": "nobody"}, action="status", optional=optional)
    async with api.get("/_faults") as answer:
        assert [rule["label"] for rule in (await answer.json())["missed"]] == ["dropped", "kept"]
