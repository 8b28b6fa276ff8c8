"""What a viewer may do and is shown as time passes, in virtual time, with an API server that says what a test wants."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from hatchet_cli.dashboard.feed import Feed, Feeds, Room
from hatchet_cli.dashboard.rights import ACTS, KINDS, Rights, watch_rights
from hatchet_operator.cluster.api import Api, Page, always
from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.kinds import OWN_RULES_REVIEWS, RUNS, Resource
from hatchet_operator.errors import ApiError, NotFound, Transient
from hatchet_operator.resources.base import Json
from tests.kube.virtual_time import VirtualTimeLoop

ALL = {"workflowruns", "workflows", "workerpools", "ratelimits", "pods"}


class Scripted(Api):
    """Answers what a test wants; its watches are silent."""

    def __init__(self, *allowed: str, runs: int = 0, has_all_rules: bool = True) -> None:
        super().__init__(Endpoint(server="http://nowhere"), may_write=always)
        self.allowed = set(allowed)  # resources, each for all verbs
        self.runs = [run(number) for number in range(runs)]
        self.has_all_rules = has_all_rules
        self.error: ApiError | None = None
        self.questions = 0

    async def create(self, resource: Resource, namespace: str | None, body: Json, *, strict: bool = False) -> Json:
        if self.error is not None:
            raise self.error
        if resource == OWN_RULES_REVIEWS:
            return {"status": {"resourceRules": sorted(self.allowed), "incomplete": not self.has_all_rules}}
        self.questions += 1
        return {"status": {"allowed": body["spec"]["resourceAttributes"]["resource"] in self.allowed}}

    async def list_pages(self, resource: Resource, *args: object, **kwargs: object) -> AsyncIterator[Page]:
        yield Page(items=list(self.runs) if resource == RUNS else [], version="1")

    async def watch(self, *args: object, **kwargs: object) -> AsyncIterator[tuple[str, Json]]:
        while True:
            await asyncio.sleep(60)
            yield "BOOKMARK", {"metadata": {"resourceVersion": "1"}}


def run(number: int) -> Json:
    metadata = {"name": f"run-{number}", "namespace": "team", "uid": str(number), "resourceVersion": "1"}
    return {"metadata": metadata, "spec": {"workflow": "child"}}


def in_virtual_time(test: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(test)


class Tab:
    """What a tab has been sent."""

    def __init__(self, feed: Feed) -> None:
        self.runs: set[str] = set()
        self.withheld: dict[str, str] = {}
        self.rights: dict[str, bool] = {}
        self.listening = asyncio.create_task(self._listen(feed))

    async def _listen(self, feed: Feed) -> None:
        async for message in feed.messages():
            self._take(json.loads(message))

    def _take(self, message: Json) -> None:
        self.rights = message.get("rights", self.rights)
        if (kind := message.get("kind")) is None:
            return
        self.withheld.pop(kind, None)
        if "withheld" in message:
            self.withheld[kind] = message["withheld"]
        if kind == "runs":
            self.runs = set() if "withheld" in message else self.runs
            self.runs |= {row["name"] for row in message.get("rows", [])}


def test_rights_are_told_when_they_change_and_a_server_that_is_away_changes_none() -> None:
    async def test() -> None:
        server, told = Scripted(*ALL), list[Rights]()

        async def listen() -> None:
            async for rights in watch_rights(server, "team"):
                told.append(rights)

        listening = asyncio.create_task(listen())
        await asyncio.sleep(60)
        assert told == [Rights(acts=dict.fromkeys(ACTS, True), kinds=dict.fromkeys(KINDS, True))]
        asked_once = server.questions
        server.error = Transient("no connection")
        await asyncio.sleep(60)
        server.error, server.allowed = None, ALL - {"pods", "ratelimits"}
        await asyncio.sleep(6)
        assert len(told) == 2
        assert [act for act, is_allowed in told[1].acts.items() if not is_allowed] == ["pods", "logs"]
        assert [kind for kind, is_allowed in told[1].kinds.items() if not is_allowed] == ["rateLimits"]
        assert server.questions == 2 * asked_once, "the list of rules says whether something changed"
        server.error = Transient("Unauthorized", status=401)
        await asyncio.wait_for(listening, 6)

    in_virtual_time(test())


def test_rights_that_a_webhook_decides_are_asked_for_each_time() -> None:
    async def test() -> None:
        server = Scripted(*ALL, has_all_rules=False)
        changes = watch_rights(server, "team")
        await anext(changes)
        server.allowed.clear()
        assert not any((await anext(changes)).kinds.values())

    in_virtual_time(test())


def test_without_reviews_everybody_may_do_everything() -> None:
    async def test() -> None:
        server = Scripted()
        server.error = NotFound("the embedded API server", status=404)
        assert all((await anext(watch_rights(server, "team"))).acts.values())

    in_virtual_time(test())


def test_rows_go_with_the_right_to_see_them_and_come_back_with_it() -> None:
    async def test() -> None:
        server, feeds = Scripted(*ALL, runs=3), None
        feeds = Feeds(server)
        async with feeds.listening("team") as feed:
            tab = Tab(feed)
            await asyncio.sleep(1)
            assert (len(tab.runs), tab.withheld, tab.rights["change"]) == (3, {}, True)
            server.allowed.remove("workflowruns")
            await asyncio.sleep(6)
            want = {"runs": "You may not list and watch workflowruns in namespace team."}
            assert (tab.runs, tab.withheld, tab.rights["change"]) == (set(), want, False)
            late = Tab(feed)
            await asyncio.sleep(1)
            assert (late.runs, late.withheld) == (set(), want)
            server.runs.pop()
            server.allowed.add("workflowruns")
            await asyncio.sleep(6)
            for each in (tab, late):
                assert (each.runs, each.withheld) == ({"run-0", "run-1"}, {})
        await feeds.close()

    in_virtual_time(test())


def test_a_viewer_who_is_refused_is_shown_nothing_any_more() -> None:
    async def test() -> None:
        server, refused = Scripted(*ALL, runs=3), asyncio.Event()
        feeds = Feeds(server, on_refused=refused.set)
        async with feeds.listening("team") as feed:
            tab = Tab(feed)
            logs = asyncio.create_task(feed.until_lost("logs"))
            await asyncio.sleep(60)
            assert not logs.done()
            server.error = Transient("Unauthorized", status=401)
            async with asyncio.timeout(6):
                await refused.wait()
                await asyncio.gather(tab.listening, logs)
        await feeds.close()

    in_virtual_time(test())


def test_logs_end_with_the_right_to_read_them() -> None:
    async def test() -> None:
        server = Scripted(*ALL)
        feeds = Feeds(server)
        async with feeds.listening("team") as feed:
            logs = asyncio.create_task(feed.until_lost("logs"))
            await asyncio.sleep(60)
            server.allowed.remove("pods")
            await asyncio.wait_for(logs, 6)
        await feeds.close()

    in_virtual_time(test())


def test_rows_are_bounded_for_all_feeds_together() -> None:
    async def test() -> None:
        room = Room(most=5)
        small, large = (Feeds(Scripted(*ALL, runs=count), room=room) for count in (3, 4))
        async with small.listening("team") as first:
            tab = Tab(first)
            await asyncio.sleep(1)
            async with large.listening("team") as second:
                other = Tab(second)
                await asyncio.sleep(60)
                assert len(tab.runs) == 3
                assert other.runs == set()
                assert "the server of this page holds 5 rows for everybody who looks" in other.withheld["runs"]
            await large.close()
            assert room.taken == 3
        await small.close()
        assert room.taken == 0

    in_virtual_time(test())
