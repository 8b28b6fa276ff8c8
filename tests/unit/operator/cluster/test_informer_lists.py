"""Lists of more than fits into memory at once: handed on page by page, compared with what was known at their end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import orjson
import pytest

from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.informer import Informer, UidOf
from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.cluster.transport import Params, Transport
from hatchet_operator.errors import ApiError, Gone, Transient
from hatchet_operator.resources.base import Json

EXPIRED = Gone("the continue parameter is too old", status=410)
NOWHERE = Endpoint(server="http://nowhere")
NO_ANSWER = Transient("no answer")
BUSY = Transient("too many requests", status=429, retry_after=0.001)


def make_object(name: str, uid: str | None = None, version: str = "1") -> Json:
    return {"metadata": {"name": name, "namespace": "shop", "uid": uid or name, "resourceVersion": version}}


def make_page(*names: str, more: bool = False) -> Json:
    """Make a page; "a=2" is an object "a" with the UID "2"."""
    items = [make_object(*name.split("=")) for name in names]
    return {"metadata": {"resourceVersion": "7", **({"continue": "more"} if more else {})}, "items": items}


class Answering(Transport):
    """Has each request answered by a function of its parameters."""

    def __init__(self, answer: Callable[[Mapping[str, str] | None], bytes]) -> None:
        super().__init__(NOWHERE, user_agent="test", on_answer=lambda *_: None)
        self._answer = answer

    async def fetch(self, method: str, path: str, *, params: Params | None = None, **_: Any) -> bytes:
        return self._answer(params)


class ScriptedApi(Api):
    """Answers lists with pages and errors, one after the other; its watches end with a 410 while there are more."""

    def __init__(self, answers: list[Json | ApiError]) -> None:
        super().__init__(NOWHERE, may_write=always, transport=Answering(self.answer))
        self.answers = answers
        self.asked: list[Mapping[str, str]] = []
        self.told: list[str] = []
        self.told_before: list[int] = []
        self.done = asyncio.Event()

    def answer(self, params: Mapping[str, str] | None) -> bytes:
        assert params is not None
        self.asked.append(dict(params))
        self.told_before.append(len(self.told))
        answer = self.answers.pop(0)
        if isinstance(answer, ApiError):
            raise answer
        return orjson.dumps(answer)

    async def watch(self, *_: Any, **__: Any) -> AsyncIterator[tuple[str, Json]]:
        if self.answers:
            raise Gone("too old resource version", status=410)
        self.done.set()
        await asyncio.Event().wait()
        yield "never", {}


async def follow(api: ScriptedApi) -> tuple[list[str], list[str | None]]:
    """Return what an informer told until the answers were used up, and what it said of "a" after each list."""
    uids: list[str | None] = []

    def observe(kind: str, obj: Json) -> None:
        metadata = obj["metadata"]
        known_as = "" if metadata["uid"] == metadata["name"] else f"={metadata['uid']}"
        api.told.append(f"{kind} {metadata['name']}{known_as}")

    async def listed(version: str, uid_of: UidOf) -> None:
        assert version == "7"
        uids.append(uid_of("shop", "a"))

    running = asyncio.create_task(Informer(api, RUNS, on_change=observe, on_relist=listed).run())
    done = asyncio.create_task(api.done.wait())
    await asyncio.wait((running, done), timeout=60, return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        running.result()
    assert done.done(), "it does not come to an end"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return api.told, uids


@pytest.mark.parametrize(
    ("answers", "want", "uids"),
    [
        pytest.param(
            [make_page("a", "b", more=True), make_page("c")],
            ["ADDED a", "ADDED b", "ADDED c"],
            ["a"],
            id="two pages",
        ),
        pytest.param(
            [make_page("a", "b"), make_page("b")],
            ["ADDED a", "ADDED b", "MODIFIED b", "DELETED a"],
            ["a", None],
            id="what is not listed any more was deleted, which shows at the list's end",
        ),
        pytest.param(
            [make_page("a", "b"), make_page("a=2", "b")],
            ["ADDED a", "ADDED b", "DELETED a", "ADDED a=2", "MODIFIED b"],
            ["a", "2"],
            id="what had a name before goes before the one that has it now",
        ),
        pytest.param(
            [make_page("a", "b", more=True), EXPIRED, make_page("b", "c")],
            ["ADDED a", "ADDED b", "MODIFIED b", "ADDED c", "DELETED a"],
            [None],
            id="a list whose snapshot was forgotten in its middle begins anew, and what it told of is compared",
        ),
        pytest.param(
            [make_page("a", more=True), NO_ANSWER, BUSY, make_page("b")],
            ["ADDED a", "ADDED b"],
            ["a"],
            id="a page that did not come is asked for again, and not the whole list",
        ),
        pytest.param(
            [make_page("a", more=True), NO_ANSWER, NO_ANSWER, NO_ANSWER, NO_ANSWER, make_page("a", "b")],
            ["ADDED a", "MODIFIED a", "ADDED b"],
            ["a"],
            id="a page that does not come time and again has the list begin anew",
        ),
    ],
)
async def test_what_is_told(answers: list[Json | ApiError], want: list[str], uids: list[str | None]) -> None:
    assert await follow(ScriptedApi(answers)) == (want, uids)


async def test_a_page_is_handed_on_before_the_next_one_is_asked_for() -> None:
    api = ScriptedApi([make_page("a", "b", more=True), make_page("c", more=True), make_page("d")])
    await follow(api)
    assert api.told_before == [0, 2, 3]
    assert [asked.get("continue") for asked in api.asked] == [None, "more", "more"]


async def test_a_list_that_is_wanted_whole_begins_anew_when_its_snapshot_was_forgotten() -> None:
    api = ScriptedApi([make_page("a", more=True), EXPIRED, make_page("b")])
    items, version = await api.list_all(RUNS)
    assert ([item["metadata"]["name"] for item in items], version) == (["b"], "7")
    api = ScriptedApi([make_page("a", more=True), EXPIRED] * 3)
    with pytest.raises(Gone):
        await api.list_all(RUNS)


@pytest.mark.parametrize(
    ("size", "count", "want"),
    [
        pytest.param(200, 50, "500", id="small objects: the most that is ever asked for"),
        pytest.param(10_000, 50, "49", id="larger ones: about half a megabyte"),
        pytest.param(500_000, 50, "10", id="huge ones: a few"),
    ],
)
async def test_the_size_of_a_page_follows_from_the_objects(size: int, count: int, want: str) -> None:
    first = make_page(*(f"run-{number}" for number in range(count)), more=True)
    for item in first["items"]:
        item["spec"] = {"inputJson": "x" * size}
    api = ScriptedApi([first, make_page()])
    await follow(api)
    assert api.asked[0]["limit"] == "50"
    assert api.asked[1]["limit"] == want
