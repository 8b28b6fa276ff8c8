"""Which pods a pool needs, and what a pod of it looks like."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchet_operator.decisions.pooling import (
    OperatorAccess,
    PayloadAccess,
    ending_of,
    lacks_token,
    lifetime_of,
    make_pod,
    may_supersede,
    number_of,
    template_hash,
    template_problem,
    token_secret_name,
    trouble_of,
    why_ended,
    without_generated_name,
)
from hatchet_operator.decisions.run_pods import make_run_pod
from hatchet_operator.resources.pod_overrides import PodOverrides
from hatchet_operator.resources.workerpool import WorkerPool
from tests.unit.operator.decisions.builders import make_run, seen_pod

ACCESS = OperatorAccess(grpc_address="10.0.0.1:7070")
EVICTED = {  # as the kubelet writes it, trailing space and all
    "phase": "Failed",
    "reason": "Evicted",
    "message": 'Usage of EmptyDir volume "scratch" exceeds the limit "5Mi". ',
    "containerStatuses": [{"name": "worker", "state": {"terminated": {"exitCode": 137, "reason": "Error"}}}],
}
WHY_EVICTED = 'Evicted: Usage of EmptyDir volume "scratch" exceeds the limit "5Mi".'
DRAINED = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "evicting"}
CRASH = {"exitCode": 1, "reason": "Error", "message": "ModuleNotFoundError: app"}


def make_pool(replicas: int = 1, *, pod: dict[str, Any] | None = None, **metadata: Any) -> WorkerPool:
    spec = {"containers": [{"name": "worker", "image": "etl:1"}], **(pod or {})}
    return WorkerPool.model_validate(
        {
            "metadata": {"name": "main", "namespace": "default", "uid": "pool-uid"},
            "spec": {"minReplicas": replicas, "template": {"metadata": metadata, "spec": spec}},
        }
    )


@pytest.mark.parametrize(
    ("status", "want"),
    [
        pytest.param({}, None, id="nothing known"),
        pytest.param({"state": {"waiting": {"reason": "ContainerCreating"}}}, None, id="it starts"),
        pytest.param(
            {"state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}},
            "ErrImagePull: no such image",
            id="it can't start",
        ),
        pytest.param(
            {
                "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s restarting"}},
                "lastState": {"terminated": CRASH},
            },
            "Error (exit code 1)\nModuleNotFoundError: app",
            id="it crashed and waits: its own last words",
        ),
        pytest.param(
            {"state": {"terminated": CRASH}}, "Error (exit code 1)\nModuleNotFoundError: app", id="it just crashed"
        ),
        pytest.param(
            {"state": {"running": {}}, "lastState": {"terminated": CRASH}},
            "Error (exit code 1)\nModuleNotFoundError: app",
            id="it crashed and runs again",
        ),
        pytest.param({"state": {"waiting": {"reason": "CrashLoopBackOff"}}}, "CrashLoopBackOff", id="nobody knows why"),
        pytest.param({"state": {"running": {}}, "lastState": {}}, None, id="it runs"),
        pytest.param(
            {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off: ErrImagePull: no such image"}}},
            "ErrImagePull: no such image",
            id="the same trouble under another name",
        ),
        pytest.param(
            {"state": {"terminated": {"exitCode": 3, "reason": "Error", "message": "\n".join(map(str, range(20)))}}},
            "Error (exit code 3)\n" + "\n".join(map(str, range(10, 20))),
            id="it ended: the last lines of its log",
        ),
        pytest.param(
            {"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}},
            "Completed (exit code 0)",
            id="it ended, which a worker does not",
        ),
    ],
)
def test_what_troubles_a_pod(status: dict[str, Any], want: str | None) -> None:
    pod = {
        "metadata": {"name": "a"},
        "status": {"phase": "Pending", "containerStatuses": [{"name": "worker", **status}]},
    }
    assert trouble_of(seen_pod(pod)) == want


@pytest.mark.parametrize(
    ("status", "want"),
    [
        pytest.param(
            {"phase": "Failed", "reason": "Evicted", "message": "low on memory"}, "Evicted: low on memory", id="evicted"
        ),
        pytest.param(EVICTED, WHY_EVICTED, id="evicted, with the end of its containers"),
        pytest.param(
            {"conditions": [{"type": "PodScheduled", "reason": "Unschedulable", "message": "no node"}]},
            "Unschedulable: no node",
            id="no node has room",
        ),
        pytest.param(
            {
                "conditions": [
                    {"type": "PodScheduled", "status": "False", "reason": "SchedulerError", "message": "oops"}
                ]
            },
            "SchedulerError: oops",
            id="the scheduler failed",
        ),
        pytest.param(
            {"conditions": [{"type": "PodScheduled", "status": "True", "reason": "Whatever"}]}, None, id="it has a node"
        ),
        pytest.param(
            {"initContainerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}}]},
            "CrashLoopBackOff",
            id="what comes before the worker",
        ),
        pytest.param(
            {"initContainerStatuses": [{"name": "init", "state": {"terminated": {"exitCode": 0}}}]},
            None,
            id="what comes before the worker ended well",
        ),
        pytest.param(
            {"containerStatuses": [{"name": "sidecar", "state": {"terminated": {"exitCode": 0}}}]},
            None,
            id="what stands beside the worker ended well",
        ),
    ],
)
def test_what_troubles_a_pod_as_a_whole(status: dict[str, Any], want: str | None) -> None:
    pod = {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "worker"}]}, "status": status}
    assert trouble_of(seen_pod(pod)) == want


def test_a_gated_pod_is_told_with_its_gates() -> None:
    message = "Scheduling is blocked due to non-empty scheduling gates"
    pod = {
        "metadata": {"name": "a"},
        "spec": {"schedulingGates": [{"name": "example.com/quota"}, {"name": "example.com/window"}]},
        "status": {
            "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": message}]
        },
    }
    assert trouble_of(seen_pod(pod)) == f"SchedulingGated: {message}: example.com/quota, example.com/window"


UNTIL = "2026-11-28T12:00:30Z"
EVICTING = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "drain"}


@pytest.mark.parametrize(
    ("deleted", "conditions", "want"),
    [
        pytest.param(False, [], None, id="nobody does"),
        pytest.param(
            True, [], f"pod a is being deleted, and what runs in it has until {UNTIL} to end", id="by somebody"
        ),
        pytest.param(
            True,
            [EVICTING],
            f"pod a is being deleted, and what runs in it has until {UNTIL} to end (EvictionByEvictionAPI: drain)",
            id="by a drain",
        ),
    ],
)
def test_whether_somebody_deletes_a_pod(deleted: bool, conditions: list[dict[str, str]], want: str | None) -> None:
    metadata = {"name": "a"} | ({"deletionTimestamp": UNTIL} if deleted else {})
    assert ending_of(seen_pod({"metadata": metadata, "status": {"conditions": conditions}})) == want


@pytest.mark.parametrize(
    ("status", "want"),
    [
        pytest.param({"phase": "Running"}, None, id="it runs"),
        pytest.param({"phase": "Failed"}, None, id="its containers ended by themselves"),
        pytest.param(EVICTED, WHY_EVICTED, id="evicted by the kubelet"),
        pytest.param({"phase": "Running", "conditions": [DRAINED]}, "EvictionByEvictionAPI: evicting", id="drained"),
        pytest.param({"conditions": [DRAINED | {"status": "False"}]}, None, id="spared in the end"),
        pytest.param({"conditions": [{"type": "DisruptionTarget", "status": "True"}]}, "DisruptionTarget", id="no why"),
    ],
)
def test_why_a_pod_was_ended_as_a_whole(status: dict[str, Any], want: str | None) -> None:
    assert why_ended(seen_pod({"status": status})) == want


@pytest.mark.parametrize(
    ("state", "want"),
    [
        pytest.param({}, 0, id="its worker never began"),
        pytest.param({"terminated": {"exitCode": 137}}, 0, id="nobody knows"),
        pytest.param(
            {"terminated": {"startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:01:00Z"}}, 60, id="known"
        ),
    ],
)
def test_how_long_a_worker_lived(state: dict[str, Any], want: int) -> None:
    status = {"containerStatuses": [{"name": "worker", "state": state}]}
    pod = {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "worker"}]}, "status": status}
    assert lifetime_of(seen_pod(pod)) == timedelta(seconds=want)


@pytest.mark.parametrize(
    ("reason", "message", "want"),
    [
        pytest.param("CreateContainerConfigError", 'secret "etl-token" not found', True, id="it is gone"),
        pytest.param(
            "CreateContainerConfigError", "couldn't find key token in Secret ns/etl-token", True, id="it is empty"
        ),
        pytest.param("CreateContainerConfigError", 'secret "my-etl-token" not found', False, id="another one is gone"),
        pytest.param("CrashLoopBackOff", "back-off 10s: etl-token", False, id="it crashes"),
        pytest.param("CreateContainerConfigError", None, False, id="nobody knows why"),
    ],
)
def test_whether_a_pod_waits_for_the_pools_token(reason: str, message: str | None, want: bool) -> None:
    status = {"containerStatuses": [{"name": "worker", "state": {"waiting": {"reason": reason, "message": message}}}]}
    assert lacks_token(seen_pod({"status": status}), pool="etl") is want


def test_a_pod_knows_how_many_ended_before_it() -> None:
    assert number_of(seen_pod(make_pod(make_pool(), ACCESS, number=3))) == 3
    assert number_of(seen_pod(make_pod(make_pool(), ACCESS))) == 0
    strange = {"metadata": {"annotations": {"hatchet-operator.dev/pod-number": "many"}}}
    assert number_of(seen_pod(strange)) == 0


def test_words_about_a_pod_that_was_not_made_are_the_same_at_each_try() -> None:
    words = 'pods "main-x7k2p" is forbidden: exceeded quota: main-quota, requested: pods=1'
    want = 'pods "main-*" is forbidden: exceeded quota: main-quota, requested: pods=1'
    assert without_generated_name(words, pool="main") == want


def test_a_pod_is_its_template_and_knows_the_operator() -> None:
    pool = make_pool(pod={"nodeSelector": {"disk": "ssd"}}, labels={"team": "data"}, annotations={"note": "x"})
    pod = make_pod(pool, ACCESS)
    worker = pod["spec"]["containers"][0]
    env = {entry["name"]: entry.get("value") for entry in worker["env"]}
    assert worker["image"] == "etl:1"
    assert env["HATCHET_CLIENT_HOST_PORT"] == "10.0.0.1:7070"
    assert pod["spec"]["nodeSelector"] == {"disk": "ssd"}
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert pod["metadata"]["labels"]["team"] == "data"
    assert pod["metadata"]["labels"]["hatchet-operator.dev/pool"] == "main"
    assert pod["metadata"]["annotations"] == {"note": "x"}
    assert pod["metadata"]["ownerReferences"][0]["uid"] == "pool-uid"


def test_what_the_template_says_counts() -> None:
    own = {"name": "HATCHET_CLIENT_HOST_PORT", "value": "proxy:1"}
    pool = make_pool(pod={"containers": [{"name": "worker", "env": [own]}]})
    env = make_pod(pool, ACCESS)["spec"]["containers"][0]["env"]
    assert [entry for entry in env if entry["name"] == own["name"]] == [own]


def test_variables_stand_before_those_that_refer_to_them() -> None:
    names = [entry["name"] for entry in make_pod(make_pool(), ACCESS)["spec"]["containers"][0]["env"]]
    token = names.index("HATCHET_CLIENT_TOKEN")
    assert max(names.index("HATCHET_POOL_TOKEN"), names.index("HATCHET_POD_UID")) < token


def test_a_template_is_not_changed_by_its_pods() -> None:
    pool = make_pool()
    before = pool.model_dump_json()
    make_pod(pool, ACCESS)
    assert pool.model_dump_json() == before


@pytest.mark.parametrize(
    ("pod", "want"),
    [
        pytest.param(
            {"containers": [{"env": {"A": "1"}}]},
            "spec.template.spec.containers[0].env is a JSON dict; expected a list",
            id="variables as a mapping",
        ),
        pytest.param(
            {"nodeSelector": ["ssd"]},
            "spec.template.spec.nodeSelector is a JSON list; expected a mapping",
            id="a selector that is a list",
        ),
        pytest.param(
            {"volumes": json.loads("[" * 240 + "]" * 240)},
            "spec.template is nested deeper than 100 levels",
            id="nested too deep",
        ),
    ],
)
def test_a_template_that_no_pod_can_be_made_from(pod: dict[str, Any], want: str) -> None:
    assert (template_problem(make_pool(pod=pod)) or "").startswith(want)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
CONTAINERS = st.fixed_dictionaries(
    {"env": ANYTHING | st.lists(st.fixed_dictionaries({"name": ANYTHING}))},
    optional=dict.fromkeys(("name", "volumeMounts", "resources", "terminationMessagePolicy"), ANYTHING),
)
SPECS = st.fixed_dictionaries(
    {"containers": st.lists(CONTAINERS, min_size=1, max_size=2)},
    optional=dict.fromkeys(("volumes", "nodeSelector", "tolerations", "restartPolicy"), ANYTHING),
)


@given(SPECS)
def test_any_template_makes_a_pod_or_has_a_problem(spec: dict[str, Any]) -> None:
    pool = make_pool(pod=spec)
    overrides = PodOverrides.model_validate(
        {"nodeSelector": {"disk": "ssd"}, "tolerations": [{"operator": "Exists"}], "resources": {}}
    )
    access = replace(ACCESS, token_audience="hatchet-operator")
    if template_problem(pool) is None:
        assert make_pod(pool, access)["spec"]["containers"][0]["env"]
        assert make_run_pod(pool, access, make_run(), number=0, overrides=overrides)["spec"]["tolerations"]


TOKEN_SOURCE = {"serviceAccountToken": {"audience": "hatchet-operator", "expirationSeconds": 3600, "path": "token"}}
CA_SOURCE = {"secret": {"name": "main-token", "items": [{"key": "ca.crt", "path": "ca.crt"}]}}

ADDRESS_SOURCE = {"secret": {"name": "main-token", "items": [{"key": "address", "path": "address"}], "optional": True}}
ADDRESS = {"HOST_PORT_FILE": "/var/run/hatchet-operator/address"}


@pytest.mark.parametrize(
    ("access", "want_sources", "want_env"),
    [
        pytest.param({}, [], {"TLS_STRATEGY": "none"}, id="nothing, where the operator asks for nothing"),
        pytest.param(
            {"token_audience": "hatchet-operator"},
            [TOKEN_SOURCE, ADDRESS_SOURCE],
            {"TLS_STRATEGY": "none", "TOKEN_FILE": "/var/run/hatchet-operator/token", **ADDRESS},
            id="a token of its own",
        ),
        pytest.param(
            {"tls": True},
            [],
            {"TLS_STRATEGY": "tls", "TLS_SERVER_NAME": "operator.hatchet.svc"},
            id="no authority, where images know it",
        ),
        pytest.param(
            {"tls": True, "own_ca": True, "token_audience": "hatchet-operator"},
            [TOKEN_SOURCE, CA_SOURCE, ADDRESS_SOURCE],
            {
                **ADDRESS,
                "TLS_STRATEGY": "tls",
                "TLS_SERVER_NAME": "operator.hatchet.svc",
                "TLS_ROOT_CA_FILE": "/var/run/hatchet-operator/ca.crt",
                "TOKEN_FILE": "/var/run/hatchet-operator/token",
            },
            id="all of it",
        ),
    ],
)
def test_a_pod_is_given(access: dict[str, Any], want_sources: list[Any], want_env: dict[str, str]) -> None:
    own = {"name": "data", "emptyDir": {}}
    worker = {"name": "worker", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    pool = make_pool(pod={"containers": [worker, {"name": "sidecar"}], "volumes": [own]})
    pod = make_pod(pool, OperatorAccess(grpc_address="operator.hatchet.svc:7070", **access))["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes.pop("data") == own
    assert [volume["projected"]["sources"] for volume in volumes.values()] == ([want_sources] if want_sources else [])
    mounts = {mount["name"]: mount for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts.pop("data")["mountPath"] == "/data"
    assert mounts == {
        name: {"name": name, "mountPath": "/var/run/hatchet-operator", "readOnly": True} for name in volumes
    }
    assert "volumeMounts" not in pod["containers"][1]
    given = {entry["name"]: entry["value"] for entry in pod["containers"][0]["env"] if "value" in entry}
    given.pop("HATCHET_CLIENT_HOST_PORT")
    assert given.pop("HATCHET_CLIENT_TOKEN") == "$(HATCHET_POOL_TOKEN)~$(HATCHET_POD_UID)", "for other clients"
    assert given == {f"HATCHET_CLIENT_{name}": value for name, value in want_env.items()}


def test_pods_are_told_of_the_store_of_payloads() -> None:
    store = PayloadAccess(
        root="s3://bucket/runs", above=1000, key="abc", variables=(("AWS_REGION", "eu"), ("MINE", "x"))
    )
    worker = {"name": "worker", "image": "etl:1", "env": [{"name": "MINE", "value": "own"}]}
    pool = make_pool(pod={"containers": [worker]})
    pod = make_pod(pool, replace(ACCESS, payloads=store))["spec"]
    env = {entry["name"]: entry for entry in pod["containers"][0]["env"]}
    assert env["HATCHET_CLIENT_PAYLOADS"]["value"] == f"s3://bucket/runs/{pool.metadata.namespace}"
    assert env["HATCHET_CLIENT_PAYLOADS_ABOVE"]["value"] == "1000"
    secret = {"name": token_secret_name(pool.metadata.name), "key": "payloads-key"}
    assert env["HATCHET_CLIENT_PAYLOADS_KEY"]["valueFrom"] == {"secretKeyRef": secret}
    assert (env["AWS_REGION"]["value"], env["MINE"]["value"]) == ("eu", "own")
    keyless = make_pod(pool, replace(ACCESS, payloads=replace(store, key=None)))["spec"]
    assert "HATCHET_CLIENT_PAYLOADS_KEY" not in {entry["name"] for entry in keyless["containers"][0]["env"]}


def test_an_upgrade_to_an_operator_that_knows_of_payloads_replaces_no_pods() -> None:
    said = {"grpc_address": "10.0.0.1:7070", "token_audience": None, "tls": False, "own_ca": False, "token_key": ""}
    text = json.dumps([make_pool().spec.template.to_wire(), said], sort_keys=True)
    assert template_hash(make_pool(), ACCESS) == hashlib.sha256(text.encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(OperatorAccess(grpc_address="10.0.0.2:7070"), id="another address"),
        pytest.param(OperatorAccess(grpc_address="10.0.0.1:7070", tls=True), id="TLS"),
        pytest.param(OperatorAccess(grpc_address="10.0.0.1:7070", token_audience="a"), id="tokens of its own"),
        pytest.param(OperatorAccess(grpc_address="10.0.0.1:7070", token_key="b"), id="a token of another key"),
        pytest.param(replace(ACCESS, payloads=PayloadAccess(root="s3://a", above=9)), id="a payload store"),
    ],
)
def test_a_pod_is_replaced_when_it_needs(other: OperatorAccess) -> None:
    pool = make_pool()
    assert template_hash(pool, ACCESS) == template_hash(make_pool(replicas=5), ACCESS)
    assert template_hash(pool, ACCESS) != template_hash(pool, other)


def test_a_rest_api_replaces_no_pods() -> None:
    assert template_hash(make_pool(), replace(ACCESS, rest_url="https://a")) == template_hash(make_pool(), ACCESS)


@pytest.mark.parametrize(
    ("template", "in_effect", "want"),
    [
        pytest.param("new", "old", True, id="a new pod"),
        pytest.param("new", "new", True, id="one more new pod"),
        pytest.param("old", "new", False, id="an old pod after a new one"),
        pytest.param("older", "new", False, id="a pod of any earlier template after a new one"),
        pytest.param("old", "old", True, id="an old pod before a new one"),
        pytest.param("old", "older", True, id="a pod of the template before, while no new one is there"),
        pytest.param("old", None, True, id="an old pod after a worker that the pool does not make"),
        pytest.param(None, "new", True, id="a worker that the pool does not make"),
    ],
)
def test_whose_definition_is_put_into_effect(template: str | None, in_effect: str | None, want: bool) -> None:
    assert may_supersede(template, in_effect=in_effect, current="new") is want


@pytest.mark.parametrize(
    ("address", "want"),
    [("operator.svc:7070", "operator.svc"), ("10.0.0.1:7070", "10.0.0.1"), ("[::1]:7070", "::1")],
    ids=["a name", "IPv4", "IPv6"],
)
def test_the_name_that_the_certificate_must_have(address: str, want: str) -> None:
    assert OperatorAccess(grpc_address=address).server_name == want
