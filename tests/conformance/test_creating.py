"""Creating: names, and what a second create of the same name says."""

from __future__ import annotations

import asyncio

import pytest

from tests.conformance.widgets import WIDGETS, make_widget
from tests.kube.client import CONFIG_MAPS, Api


async def test_the_answer_is_the_object_as_stored(api: Api) -> None:
    created = (await api.create(WIDGETS, make_widget("a"))).ok(201)
    metadata = created["metadata"]
    assert (created["apiVersion"], created["kind"]) == ("conformance.test/v1", "Widget")
    assert (metadata["name"], metadata["namespace"]) == ("a", api.namespace)
    assert metadata["uid"]
    assert metadata["resourceVersion"]
    assert metadata["creationTimestamp"].endswith("Z")
    assert "status" not in created
    assert (await api.get(WIDGETS, "a")).ok(200) == created


async def test_a_second_create_of_a_name_is_refused_as_already_existing(api: Api) -> None:
    (await api.create(WIDGETS, make_widget("a"))).ok(201)
    status = (await api.create(WIDGETS, make_widget("a"))).refused(409, "AlreadyExists")
    assert status["message"] == 'widgets.conformance.test "a" already exists'
    assert status["details"] == {"name": "a", "group": "conformance.test", "kind": "widgets"}


async def test_the_name_of_an_object_being_deleted_is_still_taken(api: Api) -> None:
    (await api.create(WIDGETS, make_widget("a", metadata={"finalizers": ["conformance.test/hold"]}))).ok()
    (await api.delete(WIDGETS, "a")).ok()
    status = (await api.create(WIDGETS, make_widget("a"))).refused(409, "AlreadyExists")
    assert 'widgets.conformance.test "a" already exists' in status["message"]


async def test_exactly_one_of_many_creates_at_once_succeeds(api: Api) -> None:
    answers = await asyncio.gather(*(api.create(WIDGETS, make_widget("a")) for _ in range(10)))
    assert sorted(answer.status for answer in answers) == [201] + [409] * 9


async def test_generate_name_makes_distinct_names_with_the_prefix(api: Api) -> None:
    widget = make_widget(metadata={"generateName": "run-"})
    names = {(await api.create(WIDGETS, widget)).ok(201)["metadata"]["name"] for _ in range(5)}
    assert len(names) == 5
    assert all(name.startswith("run-") and len(name) == len("run-") + 5 for name in names)


async def test_generate_name_cuts_a_prefix_that_is_too_long(api: Api) -> None:
    created = (await api.create(WIDGETS, make_widget(metadata={"generateName": "x" * 100}))).ok(201)
    assert created["metadata"]["name"].startswith("x" * 58)
    assert len(created["metadata"]["name"]) == 63


async def test_a_name_wins_over_generate_name(api: Api) -> None:
    created = (await api.create(WIDGETS, make_widget("a", metadata={"generateName": "run-"}))).ok(201)
    assert created["metadata"]["name"] == "a"


async def test_an_object_without_a_name_is_refused(api: Api) -> None:
    status = (await api.create(WIDGETS, make_widget())).refused(422, "Invalid")
    assert "name or generateName is required" in status["message"]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("Upper", id="upper case"),
        pytest.param("under_score", id="an underscore"),
        pytest.param("-dash", id="a leading dash"),
        pytest.param("x" * 254, id="254 characters"),
    ],
)
async def test_a_name_that_is_no_dns_subdomain_is_refused(api: Api, name: str) -> None:
    status = (await api.create(WIDGETS, make_widget(name))).refused(422, "Invalid")
    assert f'Widget.conformance.test "{name}" is invalid: metadata.name: Invalid value: "{name}"' in status["message"]
    assert status["details"]["causes"][0]["field"] == "metadata.name"
    assert status["details"]["causes"][0]["reason"] == "FieldValueInvalid"


async def test_a_label_value_of_more_than_63_characters_is_refused(api: Api) -> None:
    widget = make_widget("a", metadata={"labels": {"x": "y" * 64}})
    status = (await api.create(WIDGETS, widget)).refused(422, "Invalid")
    assert "metadata.labels" in status["message"]
    assert "must be no more than 63 " in status["message"]


async def test_a_resource_version_on_create_is_refused(api: Api) -> None:
    widget = make_widget("a", metadata={"resourceVersion": "7"})
    answer = await api.create(WIDGETS, widget)
    assert answer.status == 500
    assert "resourceVersion should not be set on objects to be created" in answer.body["message"]


async def test_another_namespace_in_the_body_is_a_bad_request(api: Api) -> None:
    widget = make_widget("a", metadata={"namespace": "elsewhere"})
    status = (await api.create(WIDGETS, widget)).refused(400, "BadRequest")
    assert "the namespace of the provided object does not match the namespace sent on the request" in status["message"]


async def test_another_kind_in_the_body_is_refused(api: Api) -> None:
    status = (await api.create(WIDGETS, make_widget("a") | {"kind": "Gizmo"})).refused(422, "Invalid")
    assert 'kind: Invalid value: "Gizmo": must be Widget' in status["message"]
    (await api.create(CONFIG_MAPS, CONFIG_MAPS.make("a") | {"kind": "Gizmo"})).refused(400, "BadRequest")


async def test_a_namespace_that_does_not_exist_is_not_found(api: Api) -> None:
    for kind, body in ((WIDGETS, make_widget("a")), (CONFIG_MAPS, CONFIG_MAPS.make("a"))):
        status = (await api.call("POST", kind.path("nowhere"), body)).refused(404, "NotFound")
        assert status["message"] == 'namespaces "nowhere" not found'


async def test_a_kind_that_does_not_exist_is_not_found(api: Api) -> None:
    answer = await api.call("GET", f"/apis/conformance.test/v1/namespaces/{api.namespace}/gizmos")
    assert answer.status == 404


async def test_a_body_that_is_no_json_is_a_bad_request(api: Api) -> None:
    assert (await api.call("POST", WIDGETS.path(api.namespace), "text")).status == 400


async def test_a_dry_run_answers_and_stores_nothing(api: Api) -> None:
    created = (await api.create(WIDGETS, make_widget("a"), dryRun="All")).ok(201)
    assert created["spec"]["color"] == "red"
    assert not await api.exists(WIDGETS, "a")
