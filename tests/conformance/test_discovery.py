"""Discovery, OpenAPI, health, and the scale subresource: what clients ask before and besides the objects."""

from __future__ import annotations

from tests.conformance.conftest import AGGREGATED
from tests.conformance.widgets import WIDGETS, make_widget
from tests.kube.client import CRDS, Api


async def test_health_is_answered(api: Api) -> None:
    for path in ("/readyz", "/livez", "/healthz"):
        answer = await api.call("GET", path)
        assert (answer.status, answer.body) == (200, {"text": "ok"})


async def test_the_version_is_one_the_operator_supports(api: Api) -> None:
    version = (await api.call("GET", "/version")).ok()
    assert (int(version["major"]), int(version["minor"])) >= (1, 31)
    assert version["gitVersion"].startswith("v1.")


async def test_the_groups_are_listed(api: Api) -> None:
    assert "v1" in (await api.call("GET", "/api")).ok()["versions"]
    groups = {group["name"]: group for group in (await api.call("GET", "/apis")).ok()["groups"]}
    assert {"apps", "coordination.k8s.io", "events.k8s.io", "conformance.test", "apiextensions.k8s.io"} <= set(groups)
    assert groups["conformance.test"]["preferredVersion"]["groupVersion"] == "conformance.test/v1"


async def test_the_resources_of_a_group_are_listed(api: Api) -> None:
    body = (await api.call("GET", "/apis/conformance.test/v1")).ok()
    assert body["kind"] == "APIResourceList"
    resources = {resource["name"]: resource for resource in body["resources"]}
    assert set(resources) == {"widgets", "widgets/status", "widgets/scale"}
    widgets = resources["widgets"]
    assert (widgets["kind"], widgets["namespaced"], widgets["singularName"]) == ("Widget", True, "widget")
    assert (widgets["shortNames"], widgets["categories"]) == (["wd"], ["gadgets"])
    assert {"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"} == set(widgets["verbs"])
    core = {each["name"] for each in (await api.call("GET", "/api/v1")).ok()["resources"]}
    assert {"pods", "pods/status", "pods/binding", "secrets", "events", "namespaces", "configmaps"} <= core


async def test_a_group_that_does_not_exist_is_not_found(api: Api) -> None:
    assert (await api.call("GET", "/apis/nowhere.test/v1")).status == 404


async def test_the_schema_of_a_kind_is_published(api: Api) -> None:
    index = (await api.call("GET", "/openapi/v3")).ok()["paths"]
    document = (await api.call("GET", index["apis/conformance.test/v1"]["serverRelativeURL"])).ok()
    schemas = [
        schema
        for schema in document["components"]["schemas"].values()
        if {"group": "conformance.test", "version": "v1", "kind": "Widget"}
        in schema.get("x-kubernetes-group-version-kind", [])
    ]
    assert schemas[0]["description"] == "A thing to test with."
    assert schemas[0]["properties"]["spec"]["properties"]["title"]["description"] == "What it is called."


async def test_a_crd_reports_that_it_is_established(api: Api) -> None:
    crd = (await api.get(CRDS, "widgets.conformance.test")).ok()
    conditions = {each["type"]: each["status"] for each in crd["status"]["conditions"]}
    assert conditions["Established"] == "True"
    assert conditions["NamesAccepted"] == "True"
    assert crd["status"]["storedVersions"] == ["v1"]


async def test_crds_are_listed(api: Api) -> None:
    assert "widgets.conformance.test" in await api.names(CRDS)


async def test_a_crd_under_a_name_that_is_not_plural_and_group_is_refused(api: Api) -> None:
    crd = (await api.get(CRDS, "widgets.conformance.test")).ok()
    wrong = CRDS.make("gizmos.conformance.test", spec=crd["spec"])
    status = (await api.create(CRDS, wrong)).refused(422, "Invalid")
    assert "metadata.name" in status["message"]


async def test_the_scale_shows_and_sets_the_replicas(api: Api) -> None:
    (await api.create(WIDGETS, make_widget("a", replicas=2))).ok()
    (await api.merge_patch(WIDGETS, "a", {"status": {"replicas": 1, "selector": "app=x"}}, "status")).ok()
    scale = (await api.get(WIDGETS, "a", "scale")).ok(200)
    assert (scale["apiVersion"], scale["kind"]) == ("autoscaling/v1", "Scale")
    assert (scale["spec"], scale["status"]) == ({"replicas": 2}, {"replicas": 1, "selector": "app=x"})
    scale["spec"]["replicas"] = 5
    assert (await api.put(WIDGETS, scale, "scale")).ok(200)["spec"] == {"replicas": 5}
    patched = (await api.merge_patch(WIDGETS, "a", {"spec": {"replicas": 7}}, "scale")).ok(200)
    assert patched["spec"] == {"replicas": 7}
    widget = (await api.get(WIDGETS, "a")).ok()
    assert widget["spec"]["replicas"] == 7
    assert widget["metadata"]["generation"] == 3
    assert widget["status"]["replicas"] == 1


async def test_a_scale_of_an_old_version_is_a_conflict(api: Api) -> None:
    (await api.create(WIDGETS, make_widget("a", replicas=2))).ok()
    scale = (await api.get(WIDGETS, "a", "scale")).ok()
    (await api.merge_patch(WIDGETS, "a", {"spec": {"size": 2}})).ok()
    (await api.put(WIDGETS, scale, "scale")).refused(409, "Conflict")


async def test_a_scale_is_validated_as_the_object_is(api: Api) -> None:
    (await api.create(WIDGETS, make_widget("a", replicas=2))).ok()
    (await api.merge_patch(WIDGETS, "a", {"spec": {"replicas": -1}}, "scale")).refused(422, "Invalid")


async def test_discovery_is_aggregated_for_those_who_ask(api: Api) -> None:
    answer = await api.call("GET", "/apis", accept=f"{AGGREGATED},application/json")
    body = answer.ok(200)
    if body["kind"] == "APIGroupList":  # a server may not know the aggregated form; clients then fall back
        return
    assert body["kind"] == "APIGroupDiscoveryList"
    groups = {item["metadata"]["name"]: item for item in body["items"]}
    (version,) = groups["conformance.test"]["versions"]
    (widgets,) = version["resources"]
    assert widgets["resource"] == "widgets"
    assert widgets["responseKind"]["kind"] == "Widget"
    assert {each["subresource"] for each in widgets["subresources"]} == {"status", "scale"}
