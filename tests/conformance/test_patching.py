"""The three kinds of patch, and server-side apply as raw requests."""

from __future__ import annotations

from tests.conformance.widgets import WIDGETS, make_widget
from tests.kube.client import APPLY_PATCH, CONFIG_MAPS, PODS, Api, Json


async def test_a_merge_patch_removes_what_is_null_and_keeps_what_is_absent(api: Api) -> None:
    (await api.create(WIDGETS, make_widget("a", code="abc", host="h", free={"x": {"y": 1, "z": 2}}))).ok()
    patch = {"spec": {"code": None, "free": {"x": {"y": None}}}}
    spec = (await api.merge_patch(WIDGETS, "a", patch)).ok(200)["spec"]
    assert "code" not in spec
    assert spec["host"] == "h"
    assert spec["free"] == {"x": {"z": 2}}


async def test_a_merge_patch_replaces_lists(api: Api) -> None:
    (await api.create(WIDGETS, make_widget("a", tags=["x", "y"]))).ok()
    assert (await api.merge_patch(WIDGETS, "a", {"spec": {"tags": ["z"]}})).ok()["spec"]["tags"] == ["z"]


async def test_a_merge_patch_that_removes_a_defaulted_field_gets_the_default(api: Api) -> None:
    (await api.create(WIDGETS, make_widget("a", color="blue"))).ok()
    assert (await api.merge_patch(WIDGETS, "a", {"spec": {"color": None}})).ok()["spec"]["color"] == "red"


async def test_a_merge_patch_of_what_does_not_exist_is_not_found(api: Api) -> None:
    (await api.merge_patch(WIDGETS, "a", {"spec": {"size": 2}})).refused(404, "NotFound")


async def test_an_empty_merge_patch_changes_nothing(api: Api) -> None:
    created = (await api.create(WIDGETS, make_widget("a"))).ok()
    assert (await api.merge_patch(WIDGETS, "a", {})).ok(200) == created


async def test_a_json_patch_applies_its_operations_in_order(api: Api) -> None:
    (await api.create(WIDGETS, make_widget("a", tags=["x"], host="h"))).ok()
    patch: list[Json] = [
        {"op": "test", "path": "/spec/host", "value": "h"},
        {"op": "add", "path": "/spec/tags/-", "value": "y"},
        {"op": "replace", "path": "/spec/size", "value": 5},
        {"op": "remove", "path": "/spec/host"},
        {"op": "add", "path": "/metadata/labels", "value": {"conformance.test/x": "1"}},
        {"op": "replace", "path": "/metadata/labels/conformance.test~1x", "value": "2"},
    ]
    body = (await api.json_patch(WIDGETS, "a", patch)).ok(200)
    assert body["spec"]["tags"] == ["x", "y"]
    assert body["spec"]["size"] == 5
    assert "host" not in body["spec"]
    assert body["metadata"]["labels"] == {"conformance.test/x": "2"}


async def test_a_json_patch_whose_test_fails_is_invalid_and_changes_nothing(api: Api) -> None:
    created = (await api.create(WIDGETS, make_widget("a"))).ok()
    patch: list[Json] = [
        {"op": "replace", "path": "/spec/size", "value": 5},
        {"op": "test", "path": "/spec/title", "value": "other"},
    ]
    (await api.json_patch(WIDGETS, "a", patch)).refused(422, "Invalid")
    assert (await api.get(WIDGETS, "a")).ok() == created


async def test_a_json_patch_of_a_missing_path_is_invalid(api: Api) -> None:
    (await api.create(WIDGETS, make_widget("a"))).ok()
    (await api.json_patch(WIDGETS, "a", [{"op": "remove", "path": "/spec/host"}])).refused(422, "Invalid")


async def test_a_json_patch_can_test_the_resource_version(api: Api) -> None:
    created = (await api.create(WIDGETS, make_widget("a"))).ok()
    guard = {"op": "test", "path": "/metadata/resourceVersion", "value": created["metadata"]["resourceVersion"]}
    patch = [guard, {"op": "replace", "path": "/spec/size", "value": 5}]
    (await api.json_patch(WIDGETS, "a", patch)).ok(200)
    (await api.json_patch(WIDGETS, "a", patch)).refused(422, "Invalid")


async def test_a_json_patch_can_write_the_status(api: Api) -> None:
    (await api.create(WIDGETS, make_widget("a"))).ok()
    patch: list[Json] = [{"op": "add", "path": "/status", "value": {"phase": "Done"}}]
    assert (await api.json_patch(WIDGETS, "a", patch, "status")).ok(200)["status"] == {"phase": "Done"}


async def test_a_strategic_merge_patch_of_a_pod_merges_containers_by_name(api: Api) -> None:
    containers = [{"name": "main", "image": "one"}, {"name": "side", "image": "two"}]
    (await api.create(PODS, PODS.make("a", spec={"containers": containers}))).ok()
    patch = {"metadata": {"labels": {"x": "y"}}, "spec": {"containers": [{"name": "side", "image": "three"}]}}
    patched = (await api.strategic_patch(PODS, "a", patch)).ok(200)
    images = {container["name"]: container["image"] for container in patched["spec"]["containers"]}
    assert images == {"main": "one", "side": "three"}
    assert patched["metadata"]["labels"] == {"x": "y"}


async def test_a_strategic_merge_patch_of_a_custom_resource_is_unsupported(api: Api) -> None:
    (await api.create(WIDGETS, make_widget("a"))).ok()
    (await api.strategic_patch(WIDGETS, "a", {"spec": {"size": 2}})).refused(415, "UnsupportedMediaType")


async def test_an_unknown_kind_of_patch_is_unsupported(api: Api) -> None:
    (await api.create(WIDGETS, make_widget("a"))).ok()
    answer = await api.call("PATCH", WIDGETS.path(api.namespace, "a"), {}, content_type="application/json")
    assert answer.status == 415


async def apply(api: Api, body: Json, *, manager: str, force: bool = False) -> Json:
    params = {"fieldManager": manager} | ({"force": "true"} if force else {})
    path = WIDGETS.path(api.namespace, body["metadata"]["name"])
    return (await api.call("PATCH", path, body, params=params, content_type=APPLY_PATCH)).ok()


async def test_server_side_apply_creates_and_then_merges(api: Api) -> None:
    created = await apply(api, make_widget("a", parts=[{"name": "x"}]), manager="one")
    assert created["metadata"]["generation"] == 1
    assert created["spec"]["color"] == "red"
    changed = await apply(api, make_widget("a", host="h", parts=[{"name": "x"}]), manager="one")
    assert changed["spec"]["host"] == "h"
    assert changed["metadata"]["uid"] == created["metadata"]["uid"]


async def test_server_side_apply_of_a_config_map_keeps_what_others_wrote(api: Api) -> None:
    (await api.create(CONFIG_MAPS, CONFIG_MAPS.make("a", data={"theirs": "1"}))).ok()
    path = CONFIG_MAPS.path(api.namespace, "a")
    body = CONFIG_MAPS.make("a", data={"ours": "2"})
    answer = await api.call("PATCH", path, body, params={"fieldManager": "me"}, content_type=APPLY_PATCH)
    assert answer.ok(200)["data"] == {"theirs": "1", "ours": "2"}
