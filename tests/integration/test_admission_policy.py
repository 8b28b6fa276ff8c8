"""The chart's ValidatingAdmissionPolicy, on a real kube-apiserver: whose child a run is, and how large its input."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from hatchet_operator.resources.crds import load_crds
from tests.conformance.run_changes import FORBIDDEN_CHANGES
from tests.kube.client import CRDS, Answer, Api, Json, Kind
from tests.kube.eventually import eventually
from tests.kube.real_api import BinariesMissingError, RealApi

TEMPLATE = Path(__file__).parents[2] / "charts/hatchet-operator/templates/validatingadmissionpolicy.yaml"
OPERATOR = "system:serviceaccount:hatchet:hatchet-operator"
PERSON = "alice"
RUNS = Kind(api_version="hatchet-operator.dev/v1alpha1", kind="WorkflowRun", plural="workflowruns")
GROUP = "admissionregistration.k8s.io/v1"
POLICIES = Kind(
    api_version=GROUP, kind="ValidatingAdmissionPolicy", plural="validatingadmissionpolicies", namespaced=False
)
BINDINGS = Kind(
    api_version=GROUP,
    kind="ValidatingAdmissionPolicyBinding",
    plural="validatingadmissionpolicybindings",
    namespaced=False,
)
MOMENT = "2026-01-01T00:00:00Z"
VALUES = {
    "$name": "hatchet-operator",
    ".Release.Namespace": "hatchet",
    'include "hatchet-operator.serviceAccount" .': "hatchet-operator",
    'include "hatchet-operator.labels" . | nindent 4': "{}",
}


def rendered() -> list[Json]:
    """Render the template as Helm would with default values; it is simple enough for that."""
    text = re.sub(r"\{\{- with .*?\{\{- end \}\}", "", TEMPLATE.read_text(), flags=re.DOTALL)
    text = re.sub(r"\{\{- (if|end|/\*|\$name :=).*?\}\}\n", "", text, flags=re.DOTALL)
    text = re.sub(r"\{\{-? (.*?) \}\}", lambda found: VALUES[found[1]], text)
    return list(yaml.safe_load_all(text))


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    try:
        server = RealApi(tmp_path, unsafe_no_fsync=True)
    except BinariesMissingError as missing:
        pytest.skip(str(missing))
    with server:
        async with Api.connect(server.endpoint, "default") as api:
            for crd in load_crds(light_runs=True):
                (await api.call("POST", CRDS.path(None), crd)).ok()
            for kind, body in zip((POLICIES, BINDINGS), rendered(), strict=True):
                (await api.call("POST", kind.path(None), body)).ok()
            await until_in_force(api)
            yield api


async def until_in_force(api: Api) -> None:
    """A policy takes a moment, as do CRDs."""

    async def holds() -> bool:
        answer = await create(api, PERSON, "probe", parent=make_parent("nobody", "no-uid"), dry_run=True)
        return answer.status == 403

    await eventually(holds, within_seconds=60)


async def create(api: Api, who: str, name: str, *, dry_run: bool = False, **fields: Any) -> Answer:
    metadata = {"name": name} | fields.pop("metadata", {})
    body = {
        "apiVersion": RUNS.api_version,
        "kind": RUNS.kind,
        "metadata": metadata,
        "spec": {"workflow": "w", **fields},
    }
    return await acting(api, who, "POST", RUNS.path("default"), body, {"dryRun": "All"} if dry_run else None)


async def patch(api: Api, who: str, name: str, body: Json) -> Answer:
    return await acting(api, who, "PATCH", RUNS.path("default", name), body)


async def acting(
    api: Api, who: str, method: str, path: str, body: Json, params: dict[str, str] | None = None
) -> Answer:
    """Call as somebody else who may do everything."""
    content_type = "application/merge-patch+json" if method == "PATCH" else "application/json"
    headers = {"Impersonate-User": who, "Impersonate-Group": "system:masters"}
    return await api.call(method, path, body, params=params, content_type=content_type, headers=headers)


def make_parent(name: str, uid: str) -> Json:
    return {"name": name, "uid": uid, "step": "work", "index": 0}


def make_owner(run: Json) -> Json:
    uid, name = run["metadata"]["uid"], run["metadata"]["name"]
    return {"apiVersion": RUNS.api_version, "kind": RUNS.kind, "name": name, "uid": uid, "controller": True}


async def test_only_the_operator_makes_children(api: Api) -> None:
    root = (await create(api, PERSON, "root", input={"a": 1})).ok()
    parent = make_parent("root", root["metadata"]["uid"])
    refused = (await create(api, PERSON, "mine", parent=parent)).refused(403, "Forbidden")
    assert "spec.parent is set by the operator only" in refused["message"]
    owned = {"ownerReferences": [make_owner(root)]}
    refused = (await create(api, PERSON, "mine", metadata=owned)).refused(403, "Forbidden")
    assert "only the operator makes a run the owner of another" in refused["message"]
    (await patch(api, PERSON, "root", {"metadata": owned})).refused(403, "Forbidden")
    child = (await create(api, OPERATOR, "child", parent=parent, metadata=owned)).ok()

    # what people do with a child is theirs to do
    (await patch(api, PERSON, "child", {"metadata": {"labels": {"team": "data"}}})).ok()
    (await patch(api, PERSON, "child", {"spec": {"cancelled": True}})).ok()
    other = {"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "some-uid"}
    both = {"ownerReferences": [*child["metadata"]["ownerReferences"], other]}
    (await patch(api, PERSON, "child", {"metadata": both})).ok()
    (await patch(api, PERSON, "child", {"metadata": {"ownerReferences": None}})).ok()
    (await patch(api, PERSON, "child", {"metadata": owned})).refused(403, "Forbidden")
    for namespace in ("hatchet-operator", "default"):
        stranger = f"system:serviceaccount:{namespace}:hatchet-operator"
        (await create(api, stranger, "mine", parent=parent)).refused(403, "Forbidden")


async def test_an_input_that_is_too_large_is_refused_when_it_is_applied(api: Api) -> None:
    near: list[Json] = [
        {"text": "x" * 262_000},
        {"numbers": [1] * 131_000},
        {f"k{n}": n for n in range(18_000)},
        {"quotes": '"' * 130_000},
        {"é": [None, True, 2.5, {}]},
    ]
    for number, value in enumerate(near):
        (await create(api, PERSON, f"near-{number}", input=value)).ok()
    over: list[Json] = [{"text": "x" * 262_145}, {"numbers": [1] * 500_000}, {f"k{n}": n for n in range(50_000)}]
    for value in over:
        for field in ("input", "additionalMetadata"):
            fields: dict[str, Any] = {field: value}
            refused = (await create(api, PERSON, "over", **fields)).refused(422, "Invalid")
            assert f"spec.{field} has more than 262144 bytes (256 KiB) of JSON" in refused["message"]
    (await patch(api, PERSON, "near-0", {"spec": {"cancelled": True}})).ok()


async def test_nobody_changes_what_a_run_is(api: Api) -> None:
    """The CRD's own rules, for whom the policy lets through too; without a policy: tests/conformance/test_crds.py."""
    for number, case in enumerate(FORBIDDEN_CHANGES):
        before, change, want = case.values
        name = f"run-{number}"
        (await create(api, OPERATOR, name, **before)).ok(201)
        for who in (PERSON, OPERATOR):
            answer = await patch(api, who, name, {"spec": change})
            if answer.status == 403 and who == PERSON:  # the policy was quicker
                assert "spec.parent is set by the operator only" in answer.refused(403, "Forbidden")["message"], case.id
            else:
                assert want in answer.refused(422, "Invalid")["message"], case.id


async def test_a_status_has_one_owner_and_is_no_way_to_another_spec(api: Api) -> None:
    """As of an object from before its status had one: what is noted of its fields goes with the next write."""
    run = (await create(api, OPERATOR, "child", parent=make_parent("p", "u"), inputJson="{}")).ok(201)
    status = {"phase": "Running", "steps": {"a": {"phase": "Running"}}, "conditions": [CONDITION]}
    written = await put_status(api, run | {"status": status})
    written = await put_status(
        api, written | {"status": status | {"phase": "Succeeded"}, "spec": {"workflow": "other"}}
    )
    assert written["spec"] == run["spec"]
    noted = {entry.get("subresource", ""): entry["fieldsV1"] for entry in written["metadata"]["managedFields"]}
    assert noted["status"] == {"f:status": {}}
    assert noted[""]["f:spec"]["f:parent"] == {}


CONDITION = {"type": "Ready", "status": "False", "reason": "Running", "lastTransitionTime": "2026-01-01T00:00:00Z"}


async def put_status(api: Api, run: Json) -> Json:
    path = RUNS.path("default", run["metadata"]["name"]) + "/status"
    return (await acting(api, OPERATOR, "PUT", path, run)).ok()


async def test_only_the_operator_makes_runs_together_with_their_status(api: Api) -> None:
    """One create holds the outcome, and every reader of the other version sees a run that has ended."""
    recorded = replace(RUNS, api_version="hatchet-operator.dev/v1alpha1-recorded")
    finished = {"type": "Finished", "status": "True", "reason": "Completed", "message": ""}
    status = {"phase": "Succeeded", "reason": "Completed", "conditions": [finished | {"lastTransitionTime": MOMENT}]}
    metadata = {"name": "child", "labels": {"team": "data"}}
    body = recorded.make(metadata=metadata, spec={"workflow": "w", "begunAs": "id"}, status=status)
    for path in (recorded.path("default"), RUNS.path("default")):
        version = {"apiVersion": recorded.api_version if path == recorded.path("default") else RUNS.api_version}
        (await acting(api, PERSON, "POST", path, body | version)).refused(403, "Forbidden")
    made = (await acting(api, OPERATOR, "POST", recorded.path("default"), body)).ok(201)
    read = (await api.call("GET", RUNS.path("default", "child"))).ok()
    assert read["metadata"]["uid"] == made["metadata"]["uid"]
    assert (read["status"]["phase"], read["status"]["conditions"][0]["type"]) == ("Succeeded", "Finished")
    assert read["spec"]["cancelled"] is False  # with defaults as any other
    table = "application/json;as=Table;v=v1;g=meta.k8s.io"
    rows = (await api.call("GET", RUNS.path("default", "child"), accept=table)).ok()["rows"]
    assert rows[0]["cells"][:3] == ["child", "w", "Succeeded"]
    selected = await api.call("GET", RUNS.path("default"), params={"fieldSelector": "status.phase=Succeeded"})
    assert [each["metadata"]["name"] for each in selected.ok()["items"]] == ["child"]

    for who in (PERSON, OPERATOR):
        changed = await acting(api, who, "PATCH", recorded.path("default", "child"), {"status": {"phase": "Failed"}})
        assert changed.status in (403, 422), changed.body
    (await patch(api, PERSON, "child", {"status": {"phase": "Failed"}})).ok()  # which changes nothing
    (await patch(api, PERSON, "child", {"spec": {"begunAs": "another"}})).refused(403, "Forbidden")
    (await patch(api, PERSON, "child", {"spec": {"cancelled": True}})).ok()
    read = (await api.call("GET", RUNS.path("default", "child"))).ok()
    assert (read["status"]["phase"], read["spec"]["begunAs"]) == ("Succeeded", "id")
