"""The status subresource: who may write what, and the status write the operator makes."""

from __future__ import annotations

from typing import Any

from tests.conformance.widgets import WIDGETS, make_widget
from tests.kube.client import Api, Json

MISSING_UID = "00000000-0000-4000-8000-000000000000"


def make_status_write(of: Json, **status: Any) -> Json:
    """Return the body the operator sends: identity and status, no spec."""
    keys = ("name", "namespace", "uid", "resourceVersion")
    return WIDGETS.make(metadata={key: of["metadata"][key] for key in keys}, status=status)


async def test_a_status_given_at_create_is_dropped(api: Api) -> None:
    created = (await api.create(WIDGETS, make_widget("a") | {"status": {"phase": "Done"}})).ok(201)
    assert "status" not in created


async def test_a_status_write_without_spec_keeps_the_spec(api: Api) -> None:
    created = (await api.create(WIDGETS, make_widget("a", size=7))).ok()
    written = (await api.put(WIDGETS, make_status_write(created, phase="Done"), "status")).ok(200)
    assert written["status"] == {"phase": "Done"}
    assert written["spec"] == created["spec"]
    assert (await api.get(WIDGETS, "a")).ok() == written


async def test_a_status_write_replaces_the_whole_status(api: Api) -> None:
    created = (await api.create(WIDGETS, make_widget("a"))).ok()
    first = (await api.put(WIDGETS, make_status_write(created, phase="Running", replicas=2), "status")).ok()
    second = (await api.put(WIDGETS, make_status_write(first, phase="Done"), "status")).ok()
    assert second["status"] == {"phase": "Done"}


async def test_a_status_write_keeps_labels_annotations_finalizers_and_owners(api: Api) -> None:
    owner = (await api.create(WIDGETS, make_widget("owner"))).ok()
    reference = {
        "apiVersion": "conformance.test/v1",
        "kind": "Widget",
        "name": "owner",
        "uid": owner["metadata"]["uid"],
    }
    metadata = {
        "labels": {"a": "b"},
        "annotations": {"c": "d"},
        "finalizers": ["conformance.test/hold"],
        "ownerReferences": [reference],
    }
    created = (await api.create(WIDGETS, make_widget("a", metadata=metadata))).ok()
    written = (await api.put(WIDGETS, make_status_write(created, phase="Done"), "status")).ok()
    assert {key: written["metadata"].get(key) for key in metadata} == metadata


async def test_a_status_write_ignores_a_changed_spec_and_labels(api: Api) -> None:
    created = (await api.create(WIDGETS, make_widget("a"))).ok()
    write = make_status_write(created, phase="Done") | {"spec": {"title": "other"}}
    write["metadata"]["labels"] = {"a": "b"}
    written = (await api.put(WIDGETS, write, "status")).ok()
    assert written["spec"] == created["spec"]
    assert "labels" not in written["metadata"]
    patch = {"spec": {"title": "other"}, "metadata": {"labels": {"a": "b"}}, "status": {"phase": "Running"}}
    patched = (await api.merge_patch(WIDGETS, "a", patch, "status")).ok()
    assert patched["spec"] == created["spec"]
    assert patched["status"]["phase"] == "Running"
    assert "labels" not in patched["metadata"]


async def test_a_main_write_ignores_the_status(api: Api) -> None:
    created = (await api.create(WIDGETS, make_widget("a"))).ok()
    reported = (await api.put(WIDGETS, make_status_write(created, phase="Done"), "status")).ok()
    without = {key: value for key, value in reported.items() if key != "status"}
    assert (await api.put(WIDGETS, without)).ok()["status"] == {"phase": "Done"}
    assert (await api.put(WIDGETS, reported | {"status": {"phase": "Running"}})).ok()["status"] == {"phase": "Done"}
    patched = (await api.merge_patch(WIDGETS, "a", {"status": {"phase": "Running"}})).ok()
    assert patched["status"] == {"phase": "Done"}


async def test_a_status_write_with_an_old_resource_version_is_a_conflict(api: Api) -> None:
    created = (await api.create(WIDGETS, make_widget("a"))).ok()
    (await api.merge_patch(WIDGETS, "a", {"metadata": {"labels": {"a": "b"}}})).ok()
    (await api.put(WIDGETS, make_status_write(created, phase="Done"), "status")).refused(409, "Conflict")


async def test_a_status_write_to_a_successor_of_the_same_name_is_a_conflict(api: Api) -> None:
    first = (await api.create(WIDGETS, make_widget("a"))).ok()
    (await api.delete(WIDGETS, "a")).ok()
    second = (await api.create(WIDGETS, make_widget("a"))).ok()
    write = make_status_write(first, phase="Done")
    (await api.put(WIDGETS, write, "status")).refused(409, "Conflict")
    write["metadata"]["resourceVersion"] = second["metadata"]["resourceVersion"]
    status = (await api.put(WIDGETS, write, "status")).refused(409, "Conflict")
    assert f"UID in precondition: {first['metadata']['uid']}" in status["message"]
    assert "status" not in (await api.get(WIDGETS, "a")).ok()


async def test_a_status_patch_heeds_the_resource_version_but_not_the_uid(api: Api) -> None:
    first = (await api.create(WIDGETS, make_widget("a"))).ok()["metadata"]
    (await api.delete(WIDGETS, "a")).ok()
    (await api.create(WIDGETS, make_widget("a"))).ok()
    status = {"phase": "Done"}
    patch = {"metadata": {"resourceVersion": first["resourceVersion"]}, "status": status}
    (await api.merge_patch(WIDGETS, "a", patch, "status")).refused(409, "Conflict")
    # The trap: this reaches the successor. Whoever means one object has to PUT, or to patch with its resourceVersion.
    patch = {"metadata": {"uid": first["uid"]}, "status": status}
    assert (await api.merge_patch(WIDGETS, "a", patch, "status")).ok(200)["status"] == status


async def test_a_status_write_to_a_deleted_object_is_not_found(api: Api) -> None:
    created = (await api.create(WIDGETS, make_widget("a"))).ok()
    (await api.delete(WIDGETS, "a")).ok()
    (await api.put(WIDGETS, make_status_write(created, phase="Done"), "status")).refused(404, "NotFound")
    (await api.merge_patch(WIDGETS, "a", {"status": {"phase": "Done"}}, "status")).refused(404, "NotFound")


async def test_a_status_is_validated_pruned_and_defaulted(api: Api) -> None:
    created = (await api.create(WIDGETS, make_widget("a"))).ok()
    status = (await api.put(WIDGETS, make_status_write(created, phase="Lost"), "status")).refused(422, "Invalid")
    assert (
        'status.phase: Unsupported value: "Lost": supported values: "Pending", "Running", "Done"' in status["message"]
    )
    write = make_status_write(created, phase="Done", unknown=1, steps={"load": {"phase": "Done"}})
    written = (await api.put(WIDGETS, write, "status")).ok()
    assert written["status"] == {"phase": "Done", "steps": {"load": {"phase": "Done", "attempt": 0}}}


async def test_a_status_write_with_an_equal_status_keeps_the_resource_version(api: Api) -> None:
    created = (await api.create(WIDGETS, make_widget("a"))).ok()
    first = (await api.put(WIDGETS, make_status_write(created, phase="Done"), "status")).ok()
    second = (await api.put(WIDGETS, make_status_write(first, phase="Done"), "status")).ok()
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_a_status_can_be_read_by_itself(api: Api) -> None:
    (await api.create(WIDGETS, make_widget("a"))).ok()
    assert (await api.get(WIDGETS, "a", "status")).ok() == (await api.get(WIDGETS, "a")).ok()


async def test_a_status_write_does_not_check_transition_rules_of_the_spec(api: Api) -> None:
    created = (await api.create(WIDGETS, make_widget("a", fixed={"x": 1}, counter=3, stopped=True))).ok()
    (await api.put(WIDGETS, make_status_write(created, phase="Done"), "status")).ok(200)
