"""resourceVersion, uid and generation: what makes a write conditional, and what a write changes."""

from __future__ import annotations

import asyncio

from tests.conformance.widgets import WIDGETS, make_widget
from tests.kube.client import Api

MISSING_UID = "00000000-0000-4000-8000-000000000000"


async def test_every_write_gives_a_new_resource_version_that_grows(api: Api) -> None:
    created = (await api.create(WIDGETS, make_widget("a"))).ok(201)
    changed = (await api.merge_patch(WIDGETS, "a", {"spec": {"size": 2}})).ok(200)
    assert int(changed["metadata"]["resourceVersion"]) > int(created["metadata"]["resourceVersion"])


async def test_a_write_that_changes_nothing_keeps_the_resource_version(api: Api) -> None:
    created = (await api.create(WIDGETS, make_widget("a"))).ok()
    assert (await api.put(WIDGETS, created)).ok(200) == created
    assert (await api.merge_patch(WIDGETS, "a", {"spec": {"size": 1}})).ok(200) == created


async def test_put_with_an_old_resource_version_is_a_conflict(api: Api) -> None:
    old = (await api.create(WIDGETS, make_widget("a"))).ok()
    (await api.merge_patch(WIDGETS, "a", {"spec": {"size": 2}})).ok()
    status = (await api.put(WIDGETS, old)).refused(409, "Conflict")
    assert "the object has been modified; please apply your changes to the latest version" in status["message"]
    assert status["details"] == {"name": "a", "group": "conformance.test", "kind": "widgets"}


async def test_put_of_a_custom_resource_without_a_resource_version_is_invalid(api: Api) -> None:
    (await api.create(WIDGETS, make_widget("a"))).ok()
    status = (await api.put(WIDGETS, make_widget("a", size=2))).refused(422, "Invalid")
    assert "metadata.resourceVersion: Invalid value: 0: must be specified for an update" in status["message"]


async def test_put_with_another_uid_is_a_conflict(api: Api) -> None:
    widget = (await api.create(WIDGETS, make_widget("a"))).ok()
    widget["metadata"]["uid"] = MISSING_UID
    status = (await api.put(WIDGETS, widget)).refused(409, "Conflict")
    assert "Precondition failed: UID in precondition: " + MISSING_UID in status["message"]


async def test_put_under_another_name_is_a_bad_request(api: Api) -> None:
    widget = (await api.create(WIDGETS, make_widget("a"))).ok()
    status = (await api.put(WIDGETS, widget, name="b")).refused(400, "BadRequest")
    assert "the name of the object (a) does not match the name on the URL (b)" in status["message"]


async def test_put_of_what_does_not_exist_is_not_found(api: Api) -> None:
    widget = make_widget("a", metadata={"resourceVersion": "1"})
    status = (await api.put(WIDGETS, widget)).refused(404, "NotFound")
    assert status["message"] == 'widgets.conformance.test "a" not found'
    assert status["details"] == {"name": "a", "group": "conformance.test", "kind": "widgets"}


async def test_a_patch_carrying_an_old_resource_version_is_a_conflict(api: Api) -> None:
    old = (await api.create(WIDGETS, make_widget("a"))).ok()["metadata"]["resourceVersion"]
    new = (await api.merge_patch(WIDGETS, "a", {"spec": {"size": 2}})).ok()["metadata"]["resourceVersion"]
    patch = {"metadata": {"resourceVersion": old}, "spec": {"size": 3}}
    (await api.merge_patch(WIDGETS, "a", patch)).refused(409, "Conflict")
    patch = {"metadata": {"resourceVersion": new}, "spec": {"size": 3}}
    assert (await api.merge_patch(WIDGETS, "a", patch)).ok(200)["spec"]["size"] == 3


async def test_a_patch_carrying_another_uid_is_invalid(api: Api) -> None:
    (await api.create(WIDGETS, make_widget("a"))).ok()
    status = (await api.merge_patch(WIDGETS, "a", {"metadata": {"uid": MISSING_UID}})).refused(422, "Invalid")
    assert f'metadata.uid: Invalid value: "{MISSING_UID}": field is immutable' in status["message"]


async def test_a_patch_without_a_resource_version_always_applies(api: Api) -> None:
    (await api.create(WIDGETS, make_widget("a"))).ok()
    answers = await asyncio.gather(
        *(api.merge_patch(WIDGETS, "a", {"spec": {"free": {str(number): number}}}) for number in range(8))
    )
    assert {answer.status for answer in answers} <= {200, 409}  # 409 only after five attempts within the server
    free = (await api.get(WIDGETS, "a")).ok()["spec"]["free"]
    assert len(free) == sum(answer.status == 200 for answer in answers)


async def test_delete_preconditions_protect_another_version_of_the_object(api: Api) -> None:
    metadata = (await api.create(WIDGETS, make_widget("a"))).ok()["metadata"]
    for wrong, message in (
        ({"uid": MISSING_UID}, f"the UID in the precondition ({MISSING_UID}) does not match the UID in record"),
        (
            {"resourceVersion": "1"},
            "the ResourceVersion in the precondition (1) does not match the ResourceVersion in record",
        ),
    ):
        status = (await api.delete(WIDGETS, "a", {"preconditions": wrong})).refused(409, "Conflict")
        assert message in status["message"]
    right = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
    (await api.delete(WIDGETS, "a", {"preconditions": right})).ok(200)
    assert not await api.exists(WIDGETS, "a")


async def test_a_recreated_object_has_another_uid(api: Api) -> None:
    first = (await api.create(WIDGETS, make_widget("a"))).ok()
    (await api.delete(WIDGETS, "a")).ok()
    second = (await api.create(WIDGETS, make_widget("a"))).ok()
    assert first["metadata"]["uid"] != second["metadata"]["uid"]
    (await api.put(WIDGETS, first)).refused(409, "Conflict")


async def test_generation_counts_changes_of_the_spec_alone(api: Api) -> None:
    created = (await api.create(WIDGETS, make_widget("a"))).ok()
    assert created["metadata"]["generation"] == 1
    labelled = (await api.merge_patch(WIDGETS, "a", {"metadata": {"labels": {"x": "y"}}})).ok()
    assert labelled["metadata"]["generation"] == 1
    reported = (await api.merge_patch(WIDGETS, "a", {"status": {"phase": "Done"}}, "status")).ok()
    assert reported["metadata"]["generation"] == 1
    changed = (await api.merge_patch(WIDGETS, "a", {"spec": {"size": 2}})).ok()
    assert changed["metadata"]["generation"] == 2


async def test_server_owned_metadata_cannot_be_written(api: Api) -> None:
    forged = {"uid": MISSING_UID, "generation": 77, "creationTimestamp": "2001-01-01T00:00:00Z"}
    created = (await api.create(WIDGETS, make_widget("a", metadata=forged))).ok()["metadata"]
    assert created["uid"] != MISSING_UID
    assert created["generation"] == 1
    assert created["creationTimestamp"] > "2020"
    patched = (await api.merge_patch(WIDGETS, "a", {"metadata": {"generation": 9}})).ok()["metadata"]
    assert patched["generation"] == 1
    assert patched["uid"] == created["uid"]


async def test_only_one_of_many_writers_of_the_same_version_wins(api: Api) -> None:
    created = (await api.create(WIDGETS, make_widget("a"))).ok()
    writes = [created | {"spec": created["spec"] | {"size": size}} for size in range(10, 16)]
    answers = await asyncio.gather(*(api.put(WIDGETS, write) for write in writes))
    assert sorted(answer.status for answer in answers) == [200, 409, 409, 409, 409, 409]


async def test_read_and_write_again_after_a_conflict_loses_no_update(api: Api) -> None:
    (await api.create(WIDGETS, make_widget("a", size=0))).ok()

    async def add_one() -> None:
        while True:
            widget = (await api.get(WIDGETS, "a")).ok()
            widget["spec"]["size"] += 1
            answer = await api.put(WIDGETS, widget)
            if answer.status == 200:
                return
            answer.refused(409, "Conflict")

    await asyncio.gather(*(add_one() for _ in range(12)))
    assert (await api.get(WIDGETS, "a")).ok()["spec"]["size"] == 12
