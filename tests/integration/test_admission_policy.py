"""The chart's ValidatingAdmissionPolicy, on a real kube-apiserver: whose child a run is, only the operator says."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hatchet_operator.resources.crds import load_crds
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
            for crd in load_crds():
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
