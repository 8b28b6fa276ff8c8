"""Deleting: finalizers, owners, namespaces."""

from __future__ import annotations

import pytest

from tests.conformance.widgets import WIDGETS, make_widget
from tests.kube.client import CONFIG_MAPS, NAMESPACES, PODS, Api, Json
from tests.kube.eventually import eventually

HOLD = "conformance.test/hold"


def owned_by(owner: Json, **fields: bool) -> Json:
    """Return metadata with an owner reference."""
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
    }
    return {"ownerReferences": [reference | fields]}


async def gone(api: Api, *names: str) -> None:
    """Return once none of these widgets is left."""

    async def none_exists() -> bool:
        return not set(names) & set(await api.names(WIDGETS))

    await eventually(none_exists)


async def test_deleting_answers_a_status_that_names_the_object(api: Api) -> None:
    created = (await api.create(WIDGETS, make_widget("a"))).ok()
    status = (await api.delete(WIDGETS, "a")).ok(200)
    assert (status["kind"], status["status"]) == ("Status", "Success")
    assert status["details"] == {
        "name": "a",
        "group": "conformance.test",
        "kind": "widgets",
        "uid": created["metadata"]["uid"],
    }
    (await api.get(WIDGETS, "a")).refused(404, "NotFound")


async def test_deleting_what_does_not_exist_is_not_found(api: Api) -> None:
    status = (await api.delete(WIDGETS, "a")).refused(404, "NotFound")
    assert status["message"] == 'widgets.conformance.test "a" not found'


async def test_a_finalizer_keeps_a_deleted_object_until_it_is_removed(api: Api) -> None:
    created = (await api.create(WIDGETS, make_widget("a", metadata={"finalizers": [HOLD]}))).ok()
    async with api.watch(WIDGETS, resourceVersion=created["metadata"]["resourceVersion"]) as watch:
        answer = (await api.delete(WIDGETS, "a")).ok(200)
        assert answer["kind"] == "Widget"
        held = (await api.get(WIDGETS, "a")).ok()["metadata"]
        assert held["deletionTimestamp"]
        assert held["deletionGracePeriodSeconds"] == 0
        assert held["generation"] == created["metadata"]["generation"] + 1
        assert held["resourceVersion"] != created["metadata"]["resourceVersion"]
        (await api.merge_patch(WIDGETS, "a", {"metadata": {"finalizers": None}})).ok(200)
        assert not await api.exists(WIDGETS, "a")
        assert await watch.take(2) == [("MODIFIED", "a"), ("DELETED", "a")]


async def test_a_second_delete_of_a_held_object_changes_nothing(api: Api) -> None:
    (await api.create(WIDGETS, make_widget("a", metadata={"finalizers": [HOLD]}))).ok()
    (await api.delete(WIDGETS, "a")).ok()
    first = (await api.get(WIDGETS, "a")).ok()
    (await api.delete(WIDGETS, "a")).ok()
    assert (await api.get(WIDGETS, "a")).ok() == first


async def test_a_held_object_can_still_be_written(api: Api) -> None:
    (await api.create(WIDGETS, make_widget("a", metadata={"finalizers": [HOLD]}))).ok()
    (await api.delete(WIDGETS, "a")).ok()
    (await api.merge_patch(WIDGETS, "a", {"status": {"phase": "Done"}}, "status")).ok(200)
    (await api.merge_patch(WIDGETS, "a", {"spec": {"size": 2}})).ok(200)


async def test_a_finalizer_cannot_be_added_once_deletion_began(api: Api) -> None:
    (await api.create(WIDGETS, make_widget("a", metadata={"finalizers": [HOLD]}))).ok()
    (await api.delete(WIDGETS, "a")).ok()
    patch = {"metadata": {"finalizers": [HOLD, "conformance.test/more"]}}
    status = (await api.merge_patch(WIDGETS, "a", patch)).refused(422, "Invalid")
    assert "no new finalizers can be added if the object is being deleted" in status["message"]


async def test_removing_a_finalizer_by_put_finishes_the_deletion(api: Api) -> None:
    (await api.create(WIDGETS, make_widget("a", metadata={"finalizers": [HOLD]}))).ok()
    (await api.delete(WIDGETS, "a")).ok()
    held = (await api.get(WIDGETS, "a")).ok()
    held["metadata"]["finalizers"] = []
    (await api.put(WIDGETS, held)).ok(200)
    assert not await api.exists(WIDGETS, "a")


async def test_a_deletion_timestamp_cannot_be_set_by_a_write(api: Api) -> None:
    (await api.create(WIDGETS, make_widget("a", metadata={"finalizers": [HOLD]}))).ok()
    patch = {"metadata": {"deletionTimestamp": "2001-01-01T00:00:00Z"}}
    status = (await api.merge_patch(WIDGETS, "a", patch)).refused(422, "Invalid")
    assert "metadata.deletionTimestamp: Invalid value" in status["message"]
    assert "field is immutable" in status["message"]


async def test_an_owner_reference_needs_a_uid(api: Api) -> None:
    reference = {"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": ""}
    widget = make_widget("a", metadata={"ownerReferences": [reference]})
    status = (await api.create(WIDGETS, widget)).refused(422, "Invalid")
    assert "metadata.ownerReferences[0].uid: Required value: must not be empty" in status["message"]


async def test_an_object_has_at_most_one_controller(api: Api) -> None:
    owners = [(await api.create(WIDGETS, make_widget(name))).ok() for name in ("one", "two")]
    references = [owned_by(owner, controller=True)["ownerReferences"][0] for owner in owners]
    widget = make_widget("a", metadata={"ownerReferences": references})
    status = (await api.create(WIDGETS, widget)).refused(422, "Invalid")
    assert "Only one reference can have Controller set to true" in status["message"]


async def test_deleting_an_owner_deletes_its_tree(collected: Api) -> None:
    api = collected
    root = (await api.create(WIDGETS, make_widget("root"))).ok()
    child = (await api.create(WIDGETS, make_widget("child", metadata=owned_by(root, controller=True)))).ok()
    (await api.create(WIDGETS, make_widget("grandchild", metadata=owned_by(child, controller=True)))).ok()
    (await api.create(CONFIG_MAPS, CONFIG_MAPS.make("map", metadata=owned_by(child)))).ok()
    (await api.create(WIDGETS, make_widget("bystander"))).ok()
    (await api.delete(WIDGETS, "root")).ok()
    await gone(api, "root", "child", "grandchild")

    async def map_is_gone() -> bool:
        return not await api.exists(CONFIG_MAPS, "map")

    await eventually(map_is_gone)
    assert await api.names(WIDGETS) == ["bystander"]


async def test_what_is_created_after_its_owner_is_gone_is_collected(collected: Api) -> None:
    api = collected
    owner = (await api.create(WIDGETS, make_widget("owner"))).ok()
    (await api.delete(WIDGETS, "owner")).ok()
    (await api.create(WIDGETS, make_widget("late", metadata=owned_by(owner, controller=True)))).ok(201)
    await gone(api, "late")


async def test_a_successor_of_the_owner_under_its_name_is_not_the_owner(collected: Api) -> None:
    api = collected
    first = (await api.create(WIDGETS, make_widget("owner"))).ok()
    (await api.delete(WIDGETS, "owner")).ok()
    (await api.create(WIDGETS, make_widget("owner"))).ok()
    (await api.create(WIDGETS, make_widget("late", metadata=owned_by(first, controller=True)))).ok()
    await gone(api, "late")
    assert await api.names(WIDGETS) == ["owner"]


async def test_an_object_stays_while_one_of_its_owners_does(collected: Api) -> None:
    api = collected
    owners = [(await api.create(WIDGETS, make_widget(name))).ok() for name in ("one", "two")]
    references = [owned_by(owner)["ownerReferences"][0] for owner in owners]
    (await api.create(WIDGETS, make_widget("shared", metadata={"ownerReferences": references}))).ok()
    (await api.create(WIDGETS, make_widget("own", metadata=owned_by(owners[0])))).ok()
    (await api.delete(WIDGETS, "one")).ok()
    await gone(api, "one", "own")  # the collector has been here

    async def has_one_owner() -> bool:
        owners = (await api.get(WIDGETS, "shared")).ok()["metadata"]["ownerReferences"]
        return bool(owners == references[1:])

    await eventually(has_one_owner)
    (await api.delete(WIDGETS, "two")).ok()
    await gone(api, "shared")


async def test_dependents_stay_while_a_finalizer_holds_their_owner(collected: Api) -> None:
    api = collected
    held = (await api.create(WIDGETS, make_widget("held", metadata={"finalizers": [HOLD]}))).ok()
    (await api.create(WIDGETS, make_widget("child", metadata=owned_by(held)))).ok()
    (await api.delete(WIDGETS, "held")).ok()
    free = (await api.create(WIDGETS, make_widget("free"))).ok()
    (await api.create(WIDGETS, make_widget("other-child", metadata=owned_by(free)))).ok()
    (await api.delete(WIDGETS, "free")).ok()
    await gone(api, "other-child")  # the collector has been here
    assert "deletionTimestamp" not in (await api.get(WIDGETS, "child")).ok()["metadata"]
    (await api.merge_patch(WIDGETS, "held", {"metadata": {"finalizers": None}})).ok()
    await gone(api, "held", "child")


async def test_orphaned_dependents_lose_their_owner_and_stay(collected: Api) -> None:
    api = collected
    owner = (await api.create(WIDGETS, make_widget("owner"))).ok()
    (await api.create(WIDGETS, make_widget("child", metadata=owned_by(owner, controller=True)))).ok()
    (await api.delete(WIDGETS, "owner", {"propagationPolicy": "Orphan"})).ok()
    await gone(api, "owner")
    assert "ownerReferences" not in (await api.get(WIDGETS, "child")).ok()["metadata"]


async def test_foreground_deletion_keeps_the_owner_until_blocking_dependents_are_gone(collected: Api) -> None:
    api = collected
    owner = (await api.create(WIDGETS, make_widget("owner"))).ok()
    metadata = owned_by(owner, blockOwnerDeletion=True) | {"finalizers": [HOLD]}
    (await api.create(WIDGETS, make_widget("child", metadata=metadata))).ok()
    (await api.delete(WIDGETS, "owner", {"propagationPolicy": "Foreground"})).ok()
    assert (await api.get(WIDGETS, "owner")).ok()["metadata"]["finalizers"] == ["foregroundDeletion"]

    async def child_is_being_deleted() -> bool:
        return "deletionTimestamp" in (await api.get(WIDGETS, "child")).ok()["metadata"]

    await eventually(child_is_being_deleted)
    assert await api.exists(WIDGETS, "owner")
    (await api.merge_patch(WIDGETS, "child", {"metadata": {"finalizers": None}})).ok()
    await gone(api, "owner", "child")


async def test_a_pod_of_a_deleted_owner_is_deleted(collected: Api) -> None:
    api = collected
    owner = (await api.create(WIDGETS, make_widget("owner"))).ok()
    spec = {"containers": [{"name": "main", "image": "none"}]}
    (await api.create(PODS, PODS.make("a", metadata=owned_by(owner, controller=True), spec=spec))).ok()
    (await api.delete(WIDGETS, "owner")).ok()

    async def pod_is_gone() -> bool:
        return not await api.exists(PODS, "a")

    await eventually(pod_is_gone)


async def test_deleting_a_namespace_empties_it(collected: Api) -> None:
    api = collected
    (await api.create(WIDGETS, make_widget("a"))).ok()
    (await api.create(CONFIG_MAPS, CONFIG_MAPS.make("map"))).ok()
    body = (await api.delete(NAMESPACES, api.namespace)).ok(200)
    assert body["status"]["phase"] == "Terminating"

    async def namespace_is_gone() -> bool:
        return not await api.exists(NAMESPACES, api.namespace)

    await eventually(namespace_is_gone)
    assert await api.names(WIDGETS) == []
    assert await api.names(CONFIG_MAPS) == []


async def test_nothing_can_be_created_in_a_namespace_that_is_being_deleted(collected: Api) -> None:
    api = collected
    (await api.create(WIDGETS, make_widget("held", metadata={"finalizers": [HOLD]}))).ok()
    (await api.delete(NAMESPACES, api.namespace)).ok()
    status = (await api.create(WIDGETS, make_widget("late"))).refused(403, "Forbidden")
    assert "because it is being terminated" in status["message"]
    assert status["details"]["causes"][0]["reason"] == "NamespaceTerminating"

    async def is_being_deleted() -> bool:
        return "deletionTimestamp" in (await api.get(WIDGETS, "held")).ok()["metadata"]

    await eventually(is_being_deleted)
    (await api.merge_patch(WIDGETS, "held", {"metadata": {"finalizers": None}})).ok()


@pytest.mark.parametrize("options", [pytest.param({}, id="all"), pytest.param({"labelSelector": "x=y"}, id="selected")])
async def test_deleting_a_collection_answers_a_list_and_deletes(api: Api, options: dict[str, str]) -> None:
    for name in ("a", "b"):
        (await api.create(WIDGETS, make_widget(name, metadata={"labels": {"x": "y"}}))).ok()
    answer = await api.call("DELETE", WIDGETS.path(api.namespace), params=options)
    assert answer.ok(200)["kind"] in {"WidgetList", "Status"}
    assert await api.names(WIDGETS) == []
