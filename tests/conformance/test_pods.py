"""Pods where no kubelet runs: created, bound, reported on and taken away by whoever plays the node."""

from __future__ import annotations

import pytest

from tests.kube.client import PODS, Api, Json


def make_pod(name: str = "a", **spec: object) -> Json:
    return PODS.make(name, spec={"containers": [{"name": "main", "image": "none"}]} | spec)


async def bind(api: Api, name: str, node: str) -> None:
    target = {"apiVersion": "v1", "kind": "Node", "name": node}
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
    (await api.post(PODS, name, "binding", binding)).ok(201)


async def test_a_new_pod_is_pending_and_has_its_defaults(api: Api) -> None:
    pod = (await api.create(PODS, make_pod())).ok(201)
    assert pod["status"]["phase"] == "Pending"
    assert pod["spec"]["restartPolicy"] == "Always"
    assert pod["spec"]["terminationGracePeriodSeconds"] == 30
    assert pod["spec"]["containers"][0]["imagePullPolicy"] == "Always"
    assert pod["metadata"]["uid"]


async def test_a_pod_needs_a_container(api: Api) -> None:
    status = (await api.create(PODS, make_pod(containers=[]))).refused(422, "Invalid")
    assert "spec.containers: Required value" in status["message"]


async def test_the_spec_of_a_pod_cannot_be_changed_but_for_its_image(api: Api) -> None:
    (await api.create(PODS, make_pod(restartPolicy="Never"))).ok()
    status = (await api.merge_patch(PODS, "a", {"spec": {"restartPolicy": "Always"}})).refused(422, "Invalid")
    assert "pod updates may not change fields other than" in status["message"]
    patch = {"spec": {"containers": [{"name": "main", "image": "other"}]}}
    assert (await api.strategic_patch(PODS, "a", patch)).ok()["spec"]["containers"][0]["image"] == "other"


async def test_binding_names_the_node(api: Api) -> None:
    (await api.create(PODS, make_pod())).ok()
    await bind(api, "a", "node-1")
    pod = (await api.get(PODS, "a")).ok()
    assert pod["spec"]["nodeName"] == "node-1"
    (scheduled,) = [each for each in pod["status"]["conditions"] if each["type"] == "PodScheduled"]
    assert scheduled["status"] == "True"
    assert await api.names(PODS, fieldSelector="spec.nodeName=node-1") == ["a"]


async def test_a_pod_is_bound_only_once(api: Api) -> None:
    (await api.create(PODS, make_pod())).ok()
    await bind(api, "a", "node-1")
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "a"},
        "target": {"kind": "Node", "name": "node-2"},
    }
    (await api.post(PODS, "a", "binding", binding)).refused(409, "Conflict")


async def test_a_status_patch_merges_conditions_by_type(api: Api) -> None:
    (await api.create(PODS, make_pod())).ok()
    await bind(api, "a", "node-1")
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    container = {
        "name": "main",
        "image": "none",
        "imageID": "",
        "ready": True,
        "restartCount": 1,
        "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
        "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
    }
    patch = {
        "status": {"phase": "Running", "conditions": [ready], "containerStatuses": [container], "podIP": "10.0.0.9"}
    }
    status = (await api.strategic_patch(PODS, "a", patch, "status")).ok(200)["status"]
    conditions = {each["type"]: each["status"] for each in status["conditions"]}
    assert (conditions["Ready"], conditions["PodScheduled"]) == ("True", "True")
    assert status["phase"] == "Running"
    assert status["containerStatuses"][0]["restartCount"] == 1
    assert status["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 137


async def test_a_status_patch_leaves_the_generation_alone(api: Api) -> None:
    created = (await api.create(PODS, make_pod())).ok()
    patched = (await api.merge_patch(PODS, "a", {"status": {"phase": "Running"}}, "status")).ok()
    assert patched["metadata"].get("generation") == created["metadata"].get("generation") == 1


async def test_a_pod_on_no_node_is_deleted_at_once(api: Api) -> None:
    (await api.create(PODS, make_pod())).ok()
    (await api.delete(PODS, "a")).ok()
    assert not await api.exists(PODS, "a")


async def test_a_pod_on_a_node_is_deleted_gracefully(api: Api) -> None:
    (await api.create(PODS, make_pod(terminationGracePeriodSeconds=7))).ok()
    await bind(api, "a", "node-1")
    version = (await api.merge_patch(PODS, "a", {"status": {"phase": "Running"}}, "status")).ok()["metadata"]
    async with api.watch(PODS, resourceVersion=version["resourceVersion"]) as watch:
        answer = (await api.delete(PODS, "a")).ok(200)
        assert answer["kind"] == "Pod"
        metadata = (await api.get(PODS, "a")).ok()["metadata"]
        assert metadata["deletionTimestamp"]
        assert metadata["deletionGracePeriodSeconds"] == 7
        (await api.delete(PODS, "a", {"gracePeriodSeconds": 0})).ok(200)
        assert not await api.exists(PODS, "a")
        assert await watch.take(1) == [("MODIFIED", "a")]
        assert (await watch.until("DELETED")).name == "a"


async def test_the_node_removes_a_pod_only_under_its_uid(api: Api) -> None:
    (await api.create(PODS, make_pod())).ok()
    await bind(api, "a", "node-1")
    wrong = {"gracePeriodSeconds": 0, "preconditions": {"uid": "00000000-0000-4000-8000-000000000000"}}
    (await api.delete(PODS, "a", wrong)).refused(409, "Conflict")
    assert await api.exists(PODS, "a")


async def test_a_finished_pod_is_deleted_at_once(api: Api) -> None:
    (await api.create(PODS, make_pod())).ok()
    await bind(api, "a", "node-1")
    (await api.merge_patch(PODS, "a", {"status": {"phase": "Succeeded"}}, "status")).ok()
    (await api.delete(PODS, "a")).ok()
    assert not await api.exists(PODS, "a")


async def test_a_shorter_grace_period_wins_over_an_earlier_one(api: Api) -> None:
    (await api.create(PODS, make_pod())).ok()
    await bind(api, "a", "node-1")
    (await api.merge_patch(PODS, "a", {"status": {"phase": "Running"}}, "status")).ok()
    (await api.delete(PODS, "a")).ok()
    (await api.delete(PODS, "a", {"gracePeriodSeconds": 5})).ok()
    assert (await api.get(PODS, "a")).ok()["metadata"]["deletionGracePeriodSeconds"] == 5


async def test_annotations_of_a_pod_can_be_written_while_it_is_deleted(api: Api) -> None:
    (await api.create(PODS, make_pod())).ok()
    await bind(api, "a", "node-1")
    (await api.merge_patch(PODS, "a", {"status": {"phase": "Running"}}, "status")).ok()
    (await api.delete(PODS, "a")).ok()
    patched = (await api.merge_patch(PODS, "a", {"metadata": {"annotations": {"x": "y"}}})).ok(200)
    assert patched["metadata"]["annotations"] == {"x": "y"}


@pytest.mark.parametrize("policy", ["Always", "OnFailure", "Never"])
async def test_restart_policies_are_kept(api: Api, policy: str) -> None:
    assert (await api.create(PODS, make_pod(restartPolicy=policy))).ok()["spec"]["restartPolicy"] == policy


async def test_volumes_and_environment_are_kept(api: Api) -> None:
    token = {"serviceAccountToken": {"audience": "hatchet-operator", "expirationSeconds": 3600, "path": "token"}}
    container = {
        "name": "main",
        "image": "none",
        "command": ["python", "-m", "app"],
        "env": [{"name": "POD_UID", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.uid"}}}],
        "volumeMounts": [{"name": "token", "mountPath": "/var/run/hatchet"}],
        "resources": {"requests": {"cpu": "100m"}},
    }
    volume = {"name": "token", "projected": {"sources": [token]}}
    spec = (
        await api.create(PODS, make_pod(serviceAccountName="worker", containers=[container], volumes=[volume]))
    ).ok()["spec"]
    assert {key: spec["containers"][0][key] for key in container} == container
    assert spec["volumes"][0]["projected"]["sources"] == [token]
