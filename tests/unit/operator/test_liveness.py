"""What counts as progress, in virtual time: a watch, and the election, that hear, are refused, or hang."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from itertools import islice
from types import SimpleNamespace
from typing import Any

import pytest
from yarl import URL

from hatchet_operator.cluster.api import Api, Page, always
from hatchet_operator.cluster.election import Elector
from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.informer import Informer
from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.decisions.shards import Scope
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.engine.runs.changes import RunFeed
from hatchet_operator.engine.runs.observer import RunObserver
from hatchet_operator.engine.runs.store import RunStore
from hatchet_operator.engine.watches import Watches
from hatchet_operator.errors import Transient
from hatchet_operator.handlers import Endless, KopfWatches
from hatchet_operator.pace import TURN_SECONDS, Pace
from hatchet_operator.resources.base import Json
from hatchet_operator.settings import Settings
from hatchet_operator.term import Term
from tests.kube.virtual_time import VirtualTimeLoop

NOWHERE = Endpoint(server="http://nowhere")
FIVE_MINUTES = 300.0


class WatchApi(Api):
    """A server on which nothing happens; a watch does what the test says."""

    def __init__(self, watch: Callable[[], Coroutine[Any, Any, None]]) -> None:
        super().__init__(NOWHERE, may_write=always)
        self._watch = watch

    async def list_pages(self, *args: object, **kwargs: object) -> AsyncIterator[Page]:
        yield Page(items=[], version="1")

    async def watch(self, *args: object, **kwargs: object) -> AsyncIterator[tuple[str, Json]]:
        for _ in range(10):
            await self._watch()
            yield "BOOKMARK", {"metadata": {"resourceVersion": "1"}}


async def bookmarks() -> None:
    await asyncio.sleep(10)


async def outage() -> None:
    raise Transient("nobody answers")


async def hangs() -> None:
    await asyncio.sleep(3600)


def a_part_of_an_engine(informer: Informer) -> Any:
    watches = Watches(
        Api(NOWHERE, may_write=always),
        Scope(),
        silence_seconds=FIVE_MINUTES,
        turn_seconds=TURN_SECONDS,
        metrics=Metrics(),
        on_absence=lambda: None,
        runs=RunObserver(RunStore(), RunFeed(), clock=Clock()),
        on_limit=lambda *_: None,
        on_pod=(),
    )
    watches.runs = watches.pods = watches.limits = informer
    return SimpleNamespace(watches=watches)


@pytest.mark.parametrize(
    ("watch", "want"),
    [
        pytest.param(bookmarks, [], id="one that gets bookmarks"),
        pytest.param(outage, [], id="an outage, which a new process would not end"),
        pytest.param(
            hangs, [f"watch of {each} silent for 300s" for each in ("rate limits", "pods", "runs")], id="one that hangs"
        ),
    ],
)
def test_which_watches_are_silent(watch: Callable[[], Coroutine[Any, Any, None]], want: list[str]) -> None:
    async def main() -> list[str]:
        term = make_term()
        informer = Informer(WatchApi(watch), RUNS, on_change=lambda kind, obj: None)
        term.engine = a_part_of_an_engine(informer)
        running = asyncio.create_task(informer.run())
        await asyncio.sleep(FIVE_MINUTES)
        running.cancel()
        return term.silent_watches(120)

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(main()) == want


async def kopf_asks(watches: KopfWatches, path: str, *statuses: int) -> int:
    """Let kopf send a request that is answered so, one after the other, and return the answer that it gets."""
    request = SimpleNamespace(url=URL(f"http://localhost/apis/hatchet-operator.dev/v1alpha1{path}"))
    answers = iter(statuses or (200,))

    async def answer(_: object) -> SimpleNamespace:
        status = next(answers)
        return SimpleNamespace(status=status, ok=status < 400, close=lambda: None)

    answered = await watches.pass_on(request, answer)  # type: ignore[arg-type]  # a part of each
    return answered.status


@pytest.mark.parametrize(
    ("path", "statuses", "want"),
    [
        pytest.param("/workflows?limit=500", [200], True, id="a list"),
        pytest.param("/namespaces/etl/workerpools", [200], True, id="a list of one namespace"),
        pytest.param("/workflows?limit=500&continue=x", [200], False, id="a list's further page"),
        pytest.param("/workflows?watch=true&resourceVersion=7", [200], False, id="a watch"),
        pytest.param("/workflows", [503], False, id="a list that was refused"),
        pytest.param("/workflows", [404, 404, 200], True, id="a list of a kind that came back"),
        pytest.param("", [200], False, id="which kinds there are"),
    ],
)
def test_after_which_of_its_requests_kopf_may_have_missed_deletions(path: str, statuses: list[int], want: bool) -> None:
    async def main() -> bool:
        listed = asyncio.Event()
        namespaces = ("etl",) if "/namespaces/etl/" in path else ()
        watches = KopfWatches(namespaces, on_list=listed.set, on_absence=lambda: None)
        watches.begin()
        assert await kopf_asks(watches, path, *statuses) == statuses[-1]
        return listed.is_set()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(main()) is want


def test_kopf_goes_on_trying_for_as_long_as_the_api_server_fails() -> None:
    pauses = Endless()
    assert list(islice(pauses, 1000))[-1] == 13
    assert list(islice(pauses, 2)) == [1, 1], "each request begins with short ones"


def test_kopf_has_to_ask_for_its_kinds_once_it_was_started() -> None:
    async def main() -> None:
        watches = KopfWatches(("etl",), on_list=lambda: None, on_absence=lambda: None)
        await asyncio.sleep(FIVE_MINUTES)
        assert watches.asked_at() == {}, "before kopf's start nothing is wanted of it"
        watches.begin()
        await asyncio.sleep(100)
        await kopf_asks(watches, "/namespaces/etl/workflows?watch=true")
        await kopf_asks(watches, "")
        await asyncio.sleep(100)
        begun = FIVE_MINUTES
        assert watches.asked_at() == {"workflows": begun + 100, "workerpools": begun, "webhooksources": begun}
        watches.begin()
        assert set(watches.asked_at().values()) == {begun + 200}

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())


@pytest.mark.parametrize(
    ("runs", "want"),
    [
        pytest.param(True, False, id="one that is refused all the time"),
        pytest.param(False, True, id="one that hangs"),
    ],
)
def test_an_election_has_to_go_on(runs: bool, want: bool) -> None:
    class Refusing(Api):
        async def get(self, *args: object) -> Json:
            raise Transient("nobody answers")

    async def main() -> bool:
        loop = asyncio.get_running_loop()
        api = Refusing(NOWHERE, may_write=always)
        elector = Elector(api, namespace="ops", name="lease", identity="me", clock=loop.time)
        acquiring = asyncio.create_task(elector.acquire() if runs else hangs())
        await asyncio.sleep(FIVE_MINUTES)
        acquiring.cancel()
        return elector.silent_for() > Pace().stuck

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(main()) == want


def make_term() -> Term:
    return Term(
        Settings(),
        NOWHERE,
        metrics=Metrics(),
        is_leading=lambda: True,
        on_absence=lambda: None,
        ready=asyncio.Event(),
        install_signal_handlers=lambda: None,
        clock=Clock(),
        pace=Pace(),
        open_api=Api,
        announce=announce_nothing,
    )


async def announce_nothing(address: str | None) -> None:
    return
