"""Lists: their version, their order, their chunks."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest

from tests.conformance.conftest import Server
from tests.conformance.widgets import WIDGETS, make_widget
from tests.kube.client import CONFIG_MAPS, Api

NAMES = ["a", "b", "c", "d", "e"]


@pytest.fixture
async def shelf(api: Api) -> Api:
    for name in reversed(NAMES):
        (await api.create(WIDGETS, make_widget(name))).ok()
    return api


async def test_a_list_has_a_kind_a_version_and_its_items_by_name(shelf: Api) -> None:
    body = (await shelf.list_all(WIDGETS)).ok(200)
    assert (body["apiVersion"], body["kind"]) == ("conformance.test/v1", "WidgetList")
    assert [item["metadata"]["name"] for item in body["items"]] == NAMES
    newest = max(int(item["metadata"]["resourceVersion"]) for item in body["items"])
    assert int(body["metadata"]["resourceVersion"]) >= newest


async def test_items_of_custom_resources_name_their_kind(shelf: Api) -> None:
    item = (await shelf.list_all(WIDGETS)).ok()["items"][0]
    assert (item["apiVersion"], item["kind"]) == ("conformance.test/v1", "Widget")


async def test_an_empty_list_has_no_items(api: Api) -> None:
    body = (await api.list_all(WIDGETS)).ok(200)
    assert body["items"] == []
    assert int(body["metadata"]["resourceVersion"]) > 0


async def test_a_list_sees_every_write_answered_before_it(api: Api) -> None:
    for number in range(20):
        (await api.create(CONFIG_MAPS, CONFIG_MAPS.make(f"m{number:02}"))).ok()
        assert len(await api.names(CONFIG_MAPS)) == number + 1


async def test_chunks_make_up_the_list_and_count_down(shelf: Api) -> None:
    names: list[str] = []
    remaining: list[int | None] = []
    versions: set[str] = set()
    token = ""
    while True:
        body = (await shelf.list_all(WIDGETS, limit=2, **({"continue": token} if token else {}))).ok(200)
        names += [item["metadata"]["name"] for item in body["items"]]
        remaining.append(body["metadata"].get("remainingItemCount"))
        versions.add(body["metadata"]["resourceVersion"])
        token = body["metadata"].get("continue", "")
        if not token:
            break
    assert names == NAMES
    assert remaining == [3, 1, None]
    assert len(versions) == 1


async def test_chunks_are_of_one_moment(shelf: Api) -> None:
    first = (await shelf.list_all(WIDGETS, limit=2)).ok()
    (await shelf.delete(WIDGETS, "d")).ok()
    (await shelf.create(WIDGETS, make_widget("f"))).ok()
    (await shelf.merge_patch(WIDGETS, "e", {"spec": {"size": 9}})).ok()
    rest = (await shelf.list_all(WIDGETS, limit=10, **{"continue": first["metadata"]["continue"]})).ok()
    assert [item["metadata"]["name"] for item in rest["items"]] == ["c", "d", "e"]
    assert rest["items"][-1]["spec"]["size"] == 1
    assert rest["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_a_list_no_longer_than_the_limit_is_whole(shelf: Api) -> None:
    metadata = (await shelf.list_all(WIDGETS, limit=5)).ok()["metadata"]
    assert "continue" not in metadata or metadata["continue"] == ""
    assert "remainingItemCount" not in metadata


async def test_a_chunk_with_a_selector_counts_no_remainder(shelf: Api) -> None:
    for name in ("b", "c", "e"):
        (await shelf.merge_patch(WIDGETS, name, {"spec": {"color": "blue"}})).ok()
    first = (await shelf.list_all(WIDGETS, limit=2, fieldSelector="spec.color=blue")).ok()
    assert [item["metadata"]["name"] for item in first["items"]] == ["b", "c"]
    assert "remainingItemCount" not in first["metadata"]
    token = first["metadata"]["continue"]
    rest = (await shelf.list_all(WIDGETS, limit=2, fieldSelector="spec.color=blue", **{"continue": token})).ok()
    assert [item["metadata"]["name"] for item in rest["items"]] == ["e"]


async def test_a_continue_token_that_is_nonsense_is_a_bad_request(shelf: Api) -> None:
    status = (await shelf.list_all(WIDGETS, limit=2, **{"continue": "nonsense"})).refused(400, "BadRequest")
    assert "continue" in status["message"]


async def test_resource_version_zero_lists_too(shelf: Api) -> None:
    assert "items" in (await shelf.list_all(WIDGETS, resourceVersion="0")).ok(200)


async def test_a_list_not_older_than_a_write_contains_it(shelf: Api) -> None:
    created = (await shelf.create(WIDGETS, make_widget("f"))).ok()
    body = (await shelf.list_all(WIDGETS, resourceVersion=created["metadata"]["resourceVersion"])).ok(200)
    assert [item["metadata"]["name"] for item in body["items"]] == [*NAMES, "f"]
    assert int(body["metadata"]["resourceVersion"]) >= int(created["metadata"]["resourceVersion"])


async def test_a_list_spans_namespaces_without_one_in_its_path(shelf: Api) -> None:
    items = (await shelf.call("GET", WIDGETS.path(None))).ok()["items"]
    ours = [item for item in items if item["metadata"]["namespace"] == shelf.namespace]
    assert [item["metadata"]["name"] for item in ours] == NAMES


def make_older(token: str) -> str:
    """Return a continue token of the server's first moments: of later ones a real one keeps snapshots."""
    fields = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    return base64.urlsafe_b64encode(json.dumps(fields | {"rv": 2}).encode()).decode().rstrip("=")


async def test_a_list_continued_after_its_moment_is_forgotten_is_expired(shelf: Api, server: Server) -> None:
    token = (await shelf.list_all(WIDGETS, limit=2)).ok()["metadata"]["continue"]
    (await shelf.delete(WIDGETS, "a")).ok()
    await asyncio.to_thread(server.forget_history)
    status = (await shelf.list_all(WIDGETS, limit=2, **{"continue": make_older(token)})).refused(410, "Expired")
    assert "The provided continue parameter is too old" in status["message"]
    # The refusal offers a token that goes on from the same name in the present.
    rest = (await shelf.list_all(WIDGETS, **{"continue": status["metadata"]["continue"]})).ok(200)
    assert [item["metadata"]["name"] for item in rest["items"]] == ["c", "d", "e"]
