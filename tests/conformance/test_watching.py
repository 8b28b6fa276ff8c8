"""Watches: which events, in which order, from where, and how they end."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.conformance.widgets import WIDGETS, make_widget
from tests.kube.client import PODS, Api, WatchEvent


async def version(api: Api) -> str:
    """Return the resource version of the widgets as they are now."""
    return str((await api.list_all(WIDGETS)).ok()["metadata"]["resourceVersion"])


def version_of(event: WatchEvent) -> str:
    return str(event.object["metadata"]["resourceVersion"])


async def test_a_watch_tells_of_creation_changes_and_deletion_in_order(api: Api) -> None:
    async with api.watch(WIDGETS, resourceVersion=await version(api)) as watch:
        created = (await api.create(WIDGETS, make_widget("a"))).ok()
        changed = (await api.merge_patch(WIDGETS, "a", {"spec": {"size": 2}})).ok()
        reported = (await api.merge_patch(WIDGETS, "a", {"status": {"phase": "Done"}}, "status")).ok()
        (await api.delete(WIDGETS, "a")).ok()
        events = [await watch.next() for _ in range(4)]
    assert [event.type for event in events] == ["ADDED", "MODIFIED", "MODIFIED", "DELETED"]
    assert [event.object for event in events[:3]] == [created, changed, reported]


async def test_a_deleted_event_carries_the_last_state_with_a_newer_version(api: Api) -> None:
    created = (await api.create(WIDGETS, make_widget("a"))).ok()
    async with api.watch(WIDGETS, resourceVersion=created["metadata"]["resourceVersion"]) as watch:
        (await api.delete(WIDGETS, "a")).ok()
        event = await watch.next()
    assert event.type == "DELETED"
    assert event.object["spec"] == created["spec"]
    assert event.object["metadata"]["uid"] == created["metadata"]["uid"]
    assert int(event.object["metadata"]["resourceVersion"]) > int(created["metadata"]["resourceVersion"])


async def test_a_watch_from_an_old_version_replays_what_followed(api: Api) -> None:
    first = (await api.create(WIDGETS, make_widget("a"))).ok()
    (await api.create(WIDGETS, make_widget("b"))).ok()
    (await api.delete(WIDGETS, "a")).ok()
    async with api.watch(WIDGETS, resourceVersion=first["metadata"]["resourceVersion"]) as watch:
        assert await watch.take(2) == [("ADDED", "b"), ("DELETED", "a")]


@pytest.mark.parametrize("start", [pytest.param({}, id="unset"), pytest.param({"resourceVersion": "0"}, id="zero")])
async def test_a_watch_without_a_version_begins_with_what_is_there(api: Api, start: dict[str, str]) -> None:
    for name in ("a", "b"):
        (await api.create(WIDGETS, make_widget(name))).ok()
    # Version zero may be served from a cache that lags; a consistent read makes it catch up.
    await version(api)
    async with api.watch(WIDGETS, **start) as watch:
        assert sorted(await watch.take(2)) == [("ADDED", "a"), ("ADDED", "b")]
        (await api.create(WIDGETS, make_widget("c"))).ok()
        assert await watch.take(1) == [("ADDED", "c")]


async def test_a_write_that_changes_nothing_is_not_told(api: Api) -> None:
    created = (await api.create(WIDGETS, make_widget("a"))).ok()
    async with api.watch(WIDGETS, resourceVersion=created["metadata"]["resourceVersion"]) as watch:
        (await api.put(WIDGETS, created)).ok()
        (await api.create(WIDGETS, make_widget("b"))).ok()
        assert await watch.take(1) == [("ADDED", "b")]


async def test_a_watch_sees_only_its_namespace(api: Api) -> None:
    other = api.within("default")
    name = f"stray-{api.namespace}"
    async with api.watch(WIDGETS, resourceVersion=await version(api)) as watch:
        (await other.create(WIDGETS, make_widget(name))).ok()
        (await api.create(WIDGETS, make_widget("a"))).ok()
        assert await watch.take(1) == [("ADDED", "a")]
    (await other.delete(WIDGETS, name)).ok()


@pytest.mark.parametrize(
    ("selector", "enter", "leave"),
    [
        pytest.param(
            {"labelSelector": "tier=one"},
            {"metadata": {"labels": {"tier": "one"}}},
            {"metadata": {"labels": {"tier": "two"}}},
            id="labels",
        ),
        pytest.param(
            {"fieldSelector": "spec.color=blue"}, {"spec": {"color": "blue"}}, {"spec": {"color": "red"}}, id="fields"
        ),
    ],
)
async def test_entering_a_selection_is_added_and_leaving_it_is_deleted(
    api: Api, selector: dict[str, str], enter: dict[str, object], leave: dict[str, object]
) -> None:
    (await api.create(WIDGETS, make_widget("a"))).ok()
    async with api.watch(WIDGETS, resourceVersion=await version(api), **selector) as watch:
        (await api.merge_patch(WIDGETS, "a", enter)).ok()
        (await api.merge_patch(WIDGETS, "a", {"spec": {"size": 2}})).ok()
        left = (await api.merge_patch(WIDGETS, "a", leave)).ok()
        (await api.delete(WIDGETS, "a")).ok()
        (await api.create(WIDGETS, make_widget("b"))).ok()
        (await api.merge_patch(WIDGETS, "b", enter)).ok()
        events = [await watch.next() for _ in range(4)]
    assert [(event.type, event.name) for event in events] == [
        ("ADDED", "a"),
        ("MODIFIED", "a"),
        ("DELETED", "a"),
        ("ADDED", "b"),
    ]
    # The state before it left, under the version of the write that made it leave.
    assert events[2].object["spec"]["size"] == 2
    assert events[2].object["metadata"]["resourceVersion"] == left["metadata"]["resourceVersion"]


async def test_a_watch_ends_cleanly_after_its_timeout(api: Api) -> None:
    start = asyncio.get_running_loop().time()
    async with api.watch(WIDGETS, resourceVersion=await version(api), timeoutSeconds=1) as watch:
        assert await watch.rest() == []
    assert 0.5 < asyncio.get_running_loop().time() - start < 50


async def test_bookmarks_tell_of_versions_that_the_watch_was_spared(api: Api) -> None:
    start = await version(api)
    (await api.create(WIDGETS, make_widget("a"))).ok()
    # Kubernetes sends a bookmark once a minute and shortly before the timeout, and only with something new to say:
    # without the write in another namespace there would be none at all.
    # The write has most of the timeout for itself: a bookmark that was sent before it says nothing of it.
    async with api.watch(WIDGETS, resourceVersion=start, allowWatchBookmarks="true", timeoutSeconds=12) as watch:
        assert await watch.take(1) == [("ADDED", "a")]
        stray = (await api.within("default").create(WIDGETS, make_widget(f"stray-{api.namespace}"))).ok()
        event = await watch.next()
        while event.type == "BOOKMARK" and int(version_of(event)) < int(stray["metadata"]["resourceVersion"]):
            event = await watch.next()
    assert event.type == "BOOKMARK"
    bookmark = event.object
    assert (bookmark["apiVersion"], bookmark["kind"]) == ("conformance.test/v1", "Widget")
    assert set(bookmark["metadata"]) <= {"resourceVersion", "creationTimestamp"}
    place = bookmark["metadata"]["resourceVersion"]
    (await api.create(WIDGETS, make_widget("b"))).ok()
    async with api.watch(WIDGETS, resourceVersion=place) as watch:
        assert await watch.take(1) == [("ADDED", "b")]


async def test_initial_events_end_with_an_annotated_bookmark(api: Api) -> None:
    (await api.create(WIDGETS, make_widget("a"))).ok()
    async with api.watch(
        WIDGETS, sendInitialEvents="true", allowWatchBookmarks="true", resourceVersionMatch="NotOlderThan"
    ) as watch:
        assert await watch.take(1) == [("ADDED", "a")]
        bookmark = await watch.next()
    assert bookmark.type == "BOOKMARK"
    assert bookmark.object["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true"


async def test_a_watch_from_a_version_that_is_forgotten_is_expired(api: Api) -> None:
    path = WIDGETS.path(api.namespace)
    answer = await api.call("GET", path, params={"watch": "true", "resourceVersion": "1", "timeoutSeconds": "5"})
    if answer.status == 200:  # the refusal may come as the first event, when the watch is open already
        event = answer.body if "type" in answer.body else json.loads(answer.body["text"].splitlines()[0])
        assert event["type"] == "ERROR"
        status = event["object"]
    else:
        assert answer.status == 410
        status = answer.body
    assert status["kind"] == "Status"
    assert status["code"] == 410
    assert status["reason"] == "Expired"
    assert "too old resource version: 1 (" in status["message"]


async def test_one_object_can_be_watched_by_name(api: Api) -> None:
    for name in ("a", "b"):
        (await api.create(WIDGETS, make_widget(name))).ok()
    async with api.watch(WIDGETS, resourceVersion=await version(api), fieldSelector="metadata.name=b") as watch:
        for name in ("a", "b"):
            (await api.delete(WIDGETS, name)).ok()
        assert await watch.take(1) == [("DELETED", "b")]


async def test_two_watches_see_the_same_events(api: Api) -> None:
    start = await version(api)
    async with api.watch(WIDGETS, resourceVersion=start) as one, api.watch(WIDGETS, resourceVersion=start) as two:
        for number in range(20):
            (await api.create(WIDGETS, make_widget(f"w{number}"))).ok()
        want = [("ADDED", f"w{number}") for number in range(20)]
        assert await one.take(20) == want
        assert await two.take(20) == want


async def test_versions_of_a_watch_only_grow(api: Api) -> None:
    async with api.watch(WIDGETS, resourceVersion=await version(api)) as watch:
        (await api.create(WIDGETS, make_widget("a"))).ok()
        await asyncio.gather(*(api.create(WIDGETS, make_widget(f"w{number}")) for number in range(20)))
        versions = [int((await watch.next()).object["metadata"]["resourceVersion"]) for _ in range(21)]
    assert versions == sorted(set(versions))


async def test_pods_can_be_watched_by_label_across_namespaces(api: Api) -> None:
    pod = PODS.make("a", metadata={"labels": {"of": api.namespace}}, spec={"containers": [{"name": "m", "image": "x"}]})
    elsewhere = api.within("")
    start = (await api.list_all(PODS)).ok()["metadata"]["resourceVersion"]
    async with elsewhere.watch(PODS, resourceVersion=start, labelSelector=f"of={api.namespace}") as watch:
        (await api.create(PODS, pod)).ok()
        (await api.delete(PODS, "a", gracePeriodSeconds=0)).ok()
        assert (await watch.next()).type == "ADDED"
        assert (await watch.until("DELETED")).name == "a"


async def test_a_list_in_chunks_and_the_watch_after_it_miss_nothing_and_repeat_nothing(api: Api) -> None:
    names = [f"w{number:03}" for number in range(60)]
    for name in names[:20]:
        (await api.create(WIDGETS, make_widget(name))).ok()

    async def go_on_creating() -> None:
        for name in names[20:]:
            (await api.create(WIDGETS, make_widget(name))).ok()

    creating = asyncio.create_task(go_on_creating())
    listed: list[str] = []
    page: dict[str, str] = {}
    while True:
        body = (await api.list_all(WIDGETS, limit=7, **page)).ok()
        listed += [item["metadata"]["name"] for item in body["items"]]
        if not body["metadata"].get("continue"):
            break
        page = {"continue": body["metadata"]["continue"]}
    async with api.watch(WIDGETS, resourceVersion=body["metadata"]["resourceVersion"]) as watch:
        told = await watch.take(len(names) - len(listed))
    await creating
    assert listed + [name for _, name in told] == names
