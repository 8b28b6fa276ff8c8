"""What the observer knows before the watch tells it."""

from __future__ import annotations

import pytest

from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.runs.changes import RunFeed
from hatchet_operator.engine.runs.observer import RunObserver
from hatchet_operator.engine.runs.store import RunStore
from hatchet_operator.resources.base import Json


def make_run(version: int, *, name: str = "a") -> Json:
    metadata = {"name": name, "namespace": "default", "uid": f"uid-{name}", "resourceVersion": str(version)}
    return {"metadata": metadata, "spec": {"workflow": "etl"}}


@pytest.fixture
def observer() -> RunObserver:
    feed = RunFeed()
    feed.react_with()
    observer = RunObserver(RunStore(), feed, clock=Clock())
    observer.loading = False
    return observer


def test_what_an_answer_said_is_known_when_the_watch_says_it(observer: RunObserver) -> None:
    observer.observe("ADDED", make_run(5))
    assert observer.is_known(5)


def test_what_others_wrote_is_not_known(observer: RunObserver) -> None:
    observer.observe("ADDED", make_run(5))
    assert not observer.is_known(4), "before us"
    assert observer.is_known(5)
    assert not observer.is_known(6), "after us"


def test_an_answer_after_its_event_is_not_remembered(observer: RunObserver) -> None:
    assert not observer.is_known(5)
    observer.observe("ADDED", make_run(5))  # as the watch told it
    assert not observer.is_known(5), "or versions would pile up that nobody asks for"
    observer.observe("ADDED", make_run(5))  # the answer
    assert not observer.is_known(5)


def test_what_two_answers_said_is_not_remembered(observer: RunObserver) -> None:
    for _ in range(2):
        observer.observe("ADDED", make_run(5))
    assert not observer.is_known(5)


async def test_a_list_tells_what_the_watch_would_have(observer: RunObserver) -> None:
    for version, name in ((5, "a"), (7, "b"), (9, "c")):
        observer.observe("ADDED", make_run(version, name=name))
    await observer.listed("7", lambda namespace, name: f"uid-{name}")
    assert [version for version in (5, 7, 9) if observer.is_known(version)] == [9]


def test_an_answer_that_is_not_understood_is_not_known(observer: RunObserver) -> None:
    observer.observe("ADDED", {**make_run(5), "spec": {}})
    assert not observer.is_known(5)
