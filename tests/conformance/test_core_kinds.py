"""The built-in kinds the operator touches: Secrets, Events, Leases, ControllerRevisions, ConfigMaps, TokenReviews,
LocalSubjectAccessReviews.
"""

from __future__ import annotations

import base64

from tests.conformance.widgets import WIDGETS, make_widget
from tests.kube.client import (
    ACCESS_REVIEWS,
    CONFIG_MAPS,
    CORE_EVENTS,
    EVENTS,
    LEASES,
    NAMESPACES,
    PODS,
    REVISIONS,
    SECRETS,
    SERVICE_ACCOUNTS,
    TOKEN_REVIEWS,
    Api,
    Json,
)
from tests.kube.eventually import eventually


async def test_string_data_of_a_secret_becomes_data(api: Api) -> None:
    secret = SECRETS.make("a", data={"kept": base64.b64encode(b"1").decode()}, stringData={"token": "s3cret"})
    created = (await api.create(SECRETS, secret)).ok(201)
    assert "stringData" not in created
    assert {key: base64.b64decode(value) for key, value in created["data"].items()} == {
        "kept": b"1",
        "token": b"s3cret",
    }
    assert created["type"] == "Opaque"
    patched = (await api.merge_patch(SECRETS, "a", {"stringData": {"kept": "2"}})).ok()
    assert base64.b64decode(patched["data"]["kept"]) == b"2"


async def test_data_of_a_secret_must_be_base64(api: Api) -> None:
    (await api.create(SECRETS, SECRETS.make("a", data={"x": "%%%"}))).refused(400, "BadRequest")


async def test_an_immutable_secret_keeps_its_data(api: Api) -> None:
    (await api.create(SECRETS, SECRETS.make("a", stringData={"x": "1"}, immutable=True))).ok()
    status = (await api.merge_patch(SECRETS, "a", {"stringData": {"x": "2"}})).refused(422, "Invalid")
    assert "field is immutable when `immutable` is set" in status["message"]


async def test_a_put_of_a_built_in_kind_needs_no_resource_version(api: Api) -> None:
    (await api.create(CONFIG_MAPS, CONFIG_MAPS.make("a", data={"x": "1"}))).ok()
    assert (await api.put(CONFIG_MAPS, CONFIG_MAPS.make("a", data={"y": "2"}))).ok(200)["data"] == {"y": "2"}


async def test_a_built_in_kind_without_status_has_no_generation(api: Api) -> None:
    created = (await api.create(CONFIG_MAPS, CONFIG_MAPS.make("a"))).ok()
    assert "generation" not in created["metadata"]


async def test_a_lease_is_taken_by_the_first_writer_of_its_version(api: Api) -> None:
    times = "2026-01-01T00:00:00.000000Z"
    spec = {"holderIdentity": "one", "leaseDurationSeconds": 15, "acquireTime": times, "renewTime": times}
    lease = (await api.create(LEASES, LEASES.make("a", spec=spec | {"leaseTransitions": 0}))).ok(201)
    assert lease["spec"] == spec | {"leaseTransitions": 0}
    (await api.create(LEASES, LEASES.make("a", spec=spec))).refused(409, "AlreadyExists")
    taken = lease | {"spec": spec | {"holderIdentity": "two", "leaseTransitions": 1}}
    (await api.put(LEASES, taken)).ok(200)
    (await api.put(LEASES, lease)).refused(409, "Conflict")
    assert (await api.get(LEASES, "a")).ok()["spec"]["holderIdentity"] == "two"


async def test_a_lease_needs_a_positive_duration(api: Api) -> None:
    (await api.create(LEASES, LEASES.make("a", spec={"leaseDurationSeconds": 0}))).refused(422, "Invalid")


def make_revision(name: str, **data: object) -> Json:
    return REVISIONS.make(name, revision=1, data=data)


async def test_the_data_of_a_controller_revision_is_immutable(api: Api) -> None:
    # As bytes: a revision created from JSON with spaces, or with keys out of order, cannot even be labelled by a patch.
    created = (await api.create(REVISIONS, make_revision("a", steps=["load"]))).ok(201)
    assert created["data"] == {"steps": ["load"]}
    status = (await api.merge_patch(REVISIONS, "a", {"data": {"steps": []}})).refused(422, "Invalid")
    assert "data: Invalid value" in status["message"]
    assert "field is immutable" in status["message"]
    assert (await api.merge_patch(REVISIONS, "a", {"revision": 2})).ok(200)["revision"] == 2
    (await api.merge_patch(REVISIONS, "a", {"metadata": {"labels": {"x": "y"}}})).ok(200)


async def test_a_controller_revision_keeps_large_numbers_and_nulls_of_its_data(api: Api) -> None:
    data = {"none": None, "text": str(2**70), "deep": {"x": [1, None]}}
    (await api.create(REVISIONS, make_revision("a", **data))).ok()
    assert (await api.get(REVISIONS, "a")).ok()["data"] == data


async def test_an_event_of_the_new_api_is_one_of_the_old_too(api: Api) -> None:
    widget = (await api.create(WIDGETS, make_widget("a"))).ok()
    event = EVENTS.make(
        metadata={"generateName": "a-"},
        eventTime="2026-01-01T00:00:00.000000Z",
        type="Warning",
        reason="SpawnConflict",
        action="Spawn",
        note="the input differs",
        reportingController="conformance.test/operator",
        reportingInstance="operator-0",
        regarding={
            "apiVersion": "conformance.test/v1",
            "kind": "Widget",
            "namespace": api.namespace,
            "name": "a",
            "uid": widget["metadata"]["uid"],
        },
    )
    created = (await api.create(EVENTS, event)).ok(201)
    (old,) = (await api.list_all(CORE_EVENTS, fieldSelector=f"involvedObject.uid={widget['metadata']['uid']}")).ok()[
        "items"
    ]
    assert old["metadata"]["name"] == created["metadata"]["name"]
    assert (old["message"], old["reason"], old["involvedObject"]["name"]) == ("the input differs", "SpawnConflict", "a")
    assert old["reportingComponent"] == "conformance.test/operator"


async def test_an_event_of_the_old_api_is_one_of_the_new_too(api: Api) -> None:
    involved = {"apiVersion": "v1", "kind": "Pod", "namespace": api.namespace, "name": "p", "uid": "1-2-3"}
    event = CORE_EVENTS.make(
        "p.1",
        involvedObject=involved,
        reason="Started",
        message="hello",
        type="Normal",
        count=1,
        firstTimestamp="2026-01-01T00:00:00Z",
        lastTimestamp="2026-01-01T00:00:00Z",
        source={"component": "kubelet"},
    )
    (await api.create(CORE_EVENTS, event)).ok(201)
    new = (await api.get(EVENTS, "p.1")).ok()
    assert new["apiVersion"] == "events.k8s.io/v1"
    assert (new["note"], new["regarding"], new["deprecatedCount"]) == ("hello", involved, 1)
    patched = (await api.merge_patch(CORE_EVENTS, "p.1", {"count": 2})).ok(200)
    assert patched["count"] == 2


async def test_an_event_must_be_in_the_namespace_of_what_it_is_about(api: Api) -> None:
    involved = {"apiVersion": "v1", "kind": "Pod", "namespace": "elsewhere", "name": "p"}
    event = CORE_EVENTS.make("p.1", involvedObject=involved, reason="Started", type="Normal")
    status = (await api.create(CORE_EVENTS, event)).refused(422, "Invalid")
    assert "involvedObject.namespace" in status["message"]


async def test_a_namespace_is_born_active_and_labelled_with_its_name(api: Api) -> None:
    body = (await api.get(NAMESPACES, api.namespace)).ok()
    assert body["status"]["phase"] == "Active"
    assert body["metadata"]["labels"]["kubernetes.io/metadata.name"] == api.namespace
    (await api.create(NAMESPACES, NAMESPACES.make(api.namespace))).refused(409, "AlreadyExists")


async def test_the_default_namespace_is_there(api: Api) -> None:
    assert (await api.get(NAMESPACES, "default")).ok()["status"]["phase"] == "Active"


async def review(api: Api, token: str, *audiences: str) -> Json:
    spec = {"token": token} | ({"audiences": list(audiences)} if audiences else {})
    body = (await api.create(TOKEN_REVIEWS, TOKEN_REVIEWS.make(spec=spec))).ok(201)
    status: Json = body["status"]
    return status


async def request_token(api: Api, *, audience: str) -> str:
    """Make a pod of a service account and return a token bound to it, as the kubelet projects it."""
    (await api.create(SERVICE_ACCOUNTS, SERVICE_ACCOUNTS.make("worker"))).ok()
    spec = {"serviceAccountName": "worker", "containers": [{"name": "main", "image": "none"}]}
    pod = (await api.create(PODS, PODS.make("p", spec=spec))).ok()
    bound = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": pod["metadata"]["uid"]}
    request = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"audiences": [audience], "expirationSeconds": 3600, "boundObjectRef": bound},
    }
    status = (await api.post(SERVICE_ACCOUNTS, "worker", "token", request)).ok(201)["status"]
    assert status["expirationTimestamp"].endswith("Z")
    return str(status["token"])


async def test_a_token_of_a_pod_is_reviewed_as_its_service_account_and_pod(api: Api) -> None:
    token = await request_token(api, audience="hatchet-operator")
    status = await review(api, token, "hatchet-operator")
    pod = (await api.get(PODS, "p")).ok()
    assert status["authenticated"] is True
    assert status["audiences"] == ["hatchet-operator"]
    user = status["user"]
    assert user["username"] == f"system:serviceaccount:{api.namespace}:worker"
    assert set(user["groups"]) >= {"system:serviceaccounts", f"system:serviceaccounts:{api.namespace}"}
    assert user["extra"]["authentication.kubernetes.io/pod-name"] == ["p"]
    assert user["extra"]["authentication.kubernetes.io/pod-uid"] == [pod["metadata"]["uid"]]


async def test_a_token_for_another_audience_is_not_authenticated(api: Api) -> None:
    token = await request_token(api, audience="hatchet-operator")
    for status in (await review(api, token, "somebody-else"), await review(api, token)):
        assert not status.get("authenticated")
        assert status["error"]


async def test_a_token_that_is_nonsense_is_not_authenticated(api: Api) -> None:
    status = await review(api, "nonsense", "hatchet-operator")
    assert not status.get("authenticated")
    assert status["user"] == {}


async def test_a_token_dies_with_its_pod(api: Api) -> None:
    token = await request_token(api, audience="hatchet-operator")
    (await api.delete(PODS, "p", gracePeriodSeconds=0)).ok()

    async def is_dead() -> bool:
        return not (await review(api, token, "hatchet-operator")).get("authenticated")

    await eventually(is_dead)  # a real server asks its cache of pods, and keeps what it found for ten seconds


async def test_a_call_without_a_valid_token_is_unauthorized(api: Api) -> None:
    path = WIDGETS.path(api.namespace)
    answer = await api.call("GET", path, headers={"Authorization": "Bearer nonsense"})
    answer.refused(401, "Unauthorized")


def make_access_review(namespace: str) -> Json:
    asked = {"namespace": namespace, "verb": "create", "group": "", "version": "v1", "resource": "pods"}
    return ACCESS_REVIEWS.make(spec={"user": "ada", "groups": ["system:masters"], "resourceAttributes": asked})


async def test_a_right_in_a_namespace_is_reviewed_in_that_namespace(api: Api) -> None:
    review = (await api.create(ACCESS_REVIEWS, make_access_review(api.namespace))).ok(201)
    assert review["status"]["allowed"] is True
    (await api.create(ACCESS_REVIEWS, make_access_review("elsewhere"))).refused(422, "Invalid")
