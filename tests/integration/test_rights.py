"""The chart grants what the operator's code uses, in the namespaces where it uses it, and nothing else.

One scenario goes through everything that makes the operator ask the API server for something, conflicts included. What
was asked is compared with the rules that Helm renders.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import grpc
import pytest

from hatchet_operator.access.certificates import make_authority
from hatchet_operator.access.tls import CA_SECRET
from hatchet_operator.access.token_key import KEY_SECRET
from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.kinds import (
    CRDS,
    EVENTS,
    LEASES,
    PODS,
    POOLS,
    RATE_LIMITS,
    SECRETS,
    SERVICES,
    WEBHOOK_SOURCES,
)
from hatchet_operator.engine.limits.ledger import LEDGER_NAME, PAGES
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import API_VERSION
from hatchet_operator.settings import Tls
from hatchet_operator_dev.apiserver import ApiServer
from hatchet_sdk import ClientConfig
from hatchet_sdk.contracts import dispatcher_pb2 as wire
from hatchet_sdk.contracts import workflows_pb2 as workflows_wire
from tests.integration.harness import free_port
from tests.integration.inprocess import NAMESPACE, POOL, Instance, ScriptedWorker, operator_of, running_server
from tests.integration.service_accounts import AUDIENCE, NAMESPACES, SERVICE_ACCOUNTS, create_pod, request_token
from tests.kube.eventually import eventually
from tests.kube.helm import RELEASE, Helm, HelmMissingError, Json, aggregates_to, find_helm, of_kind, serving

OPERATORS = "operators"
QUIET = "quiet"  # a namespace in which nothing happens
OURS = "test"  # who asks as the tests do, all others are the operator and its kopf


@dataclass(frozen=True, kw_only=True, order=True)
class Right:
    """One thing that may be done or was done; in namespace "" means in all of them."""

    verb: str
    group: str
    resource: str
    namespace: str

    def covers(self, other: Right) -> bool:
        same = (self.verb, self.group, self.resource) == (other.verb, other.group, other.resource)
        return same and self.namespace in ("", other.namespace)


# --- What is used


@pytest.mark.parametrize(
    "served",
    [
        pytest.param((), id="cluster-wide"),
        pytest.param((NAMESPACE,), id="one namespace"),
        pytest.param((QUIET, NAMESPACE), id="two namespaces"),
    ],
)
async def test_the_operator_is_granted_what_it_uses_and_no_more(served: tuple[str, ...]) -> None:
    granted = list(rights_of_the_operator(render(serving(*served), "events.port=7080")))
    used = await rights_used(served)
    missing = sorted(right for right in used if not any(grant.covers(right) for grant in granted))
    assert not missing, "used, but not granted"
    unused = sorted(grant for grant in granted if not any(grant.covers(right) for right in used))
    assert not [grant for grant in unused if grant.namespace != QUIET], "granted, but not used"
    watched = {right.resource for right in used if (right.verb, right.namespace) == ("watch", QUIET)}
    ours = {"workflowruns", "workflows", "workerpools", "webhooksources", "ratelimits", "pods"}
    assert watched == (ours if QUIET in served else set())


def test_an_operator_of_shards_sees_no_namespaces_if_they_are_named() -> None:
    granted = rights_of_the_operator(render("shards=3", "namespaces={a,b}"))
    assert [right for right in granted if right.resource == "namespaces"] == []


async def test_an_operator_of_shards_is_granted_what_it_uses_beyond_that() -> None:
    granted = list(rights_of_the_operator(render("shards=3")))
    used = await rights_used_with_shards()
    missing = sorted(right for right in used if not any(grant.covers(right) for grant in granted))
    assert not missing, "used, but not granted"
    usually = list(rights_of_the_operator(render()))
    beyond = [grant for grant in granted if not any(usual.covers(grant) for usual in usually)]
    unused = sorted(grant for grant in beyond if not any(grant.covers(right) for right in used))
    assert not unused, "granted, but not used"
    assert {(right.verb, right.resource) for right in beyond} == {
        ("list", "namespaces"),
        ("watch", "namespaces"),
        ("list", "leases"),
        ("delete", "leases"),
        ("list", "configmaps"),
    } - {(right.verb, right.resource) for right in usually if right.namespace == ""}


async def rights_used_with_shards() -> set[Right]:
    """Have one operator lead, another join, and both end."""
    settings: dict[str, Any] = {
        "operator_namespace": OPERATORS,
        "leader_election": True,
        "shards": 3,
        "grpc_service": RELEASE,
        "token_key": None,
        "tls": Tls.OWN,
    }
    async with running_server() as (server, url):
        async with Api(Endpoint(server=url), user_agent=OURS, may_write=always) as api:
            await api.create(NAMESPACES, None, {"metadata": {"name": OPERATORS}})
        async with operator_of(server, url, **settings), operator_of(server, url, **settings):
            pass
        return {
            Right(verb=verb, group=group, resource=f"{resource}/{sub}" if sub else resource, namespace=namespace)
            for verb, group, resource, sub, namespace, agent in server.requests
            if agent != OURS
        }


async def rights_used(served: tuple[str, ...]) -> set[Right]:
    """Live through everything that the operator does, and return what it asked for."""
    port = free_port()
    settings: dict[str, Any] = {
        "namespaces": served,
        "grpc_port": port,
        "grpc_advertise": f"127.0.0.1:{port}",
        "operator_namespace": OPERATORS,
        "leader_election": True,
        "grpc_service": RELEASE,
        "token_audience": AUDIENCE,
        "rejoin": 0.2,
        "running_after": 0.1,
        "events_port": 0,
    }
    async with running_server() as (server, url):
        async with Api(Endpoint(server=url), user_agent=OURS, may_write=always) as api:
            for name in (OPERATORS, QUIET):
                await api.create(NAMESPACES, None, {"metadata": {"name": name}})
            await put_ending_authority(api)
            await a_pod_with_the_port_of_before(api)
        async with operator_of(server, url, pod_ip="192.0.2.1", **settings) as instance:
            await workflows_of_a_worker_outside(instance)
            await runs_and_children(instance)
            await pods_of_a_pool(instance)
            await a_source_of_webhooks(instance)
            await an_event_of_an_account(instance)
            await rate_limits(instance)
            await a_run_that_outlives_the_operator(instance)
            await a_worker_in_a_pod(instance)
        # another network, another address, a key and an authority of its own
        settings |= {"token_key": None, "tls": Tls.OWN, "tls_names": ("operator.svc",), "owner": await an_account(url)}
        async with operator_of(server, url, pod_ip="2001:db8::1", **settings) as instance:
            await eventually(lambda: pools_secret_has_the_authority(instance))
            await instance.api.delete(SECRETS, OPERATORS, CA_SECRET)
        settings["owner"] = await an_account(url)
        async with operator_of(server, url, pod_ip="2001:db8::2", pod_name="operator", **settings) as instance:
            await instance.api.delete(CRDS, None, "workflowruns.hatchet-operator.dev")
            await eventually(lambda: says_that_a_crd_is_missing(instance))
        return {
            Right(verb=verb, group=group, resource=f"{resource}/{sub}" if sub else resource, namespace=namespace)
            for verb, group, resource, sub, namespace, agent in server.requests
            if agent != OURS
        }


async def a_pod_with_the_port_of_before(api: Api) -> None:
    """The Service gets that port beside its own."""
    await api.create(
        SERVICES, OPERATORS, {"metadata": {"name": RELEASE}, "spec": {"ports": [{"name": "grpc", "port": 2}]}}
    )
    env = [{"name": "HATCHET_CLIENT_HOST_PORT", "value": "127.0.0.1:1"}]
    pod = {"name": "of-before", "labels": {labels.POOL: POOL}}
    spec = {"containers": [{"name": "worker", "image": "local", "env": env}]}
    await api.create(PODS, NAMESPACE, {"metadata": pod, "spec": spec})


def conflict_once(server: ApiServer, resource: str) -> None:
    """Have the next write of a status meet a newer object."""
    match = {"verb": "update", "resource": resource, "subresource": "status"}
    server.faults.install([{"match": match, "action": "status", "code": 409}])


async def workflows_of_a_worker_outside(instance: Instance) -> None:
    conflict_once(instance.server, "workflows")
    worker = await instance.scripted()
    await worker.put_workflow("parent")
    await worker.put_workflow("parent", ({"retries": 1},))  # nobody needs the definition before
    await worker.put_workflow("child")
    await worker.start()
    registered = wire.WorkerRegisterRequest(worker_name="scripted", worker_id=worker.id, actions=["a:b"], slots=1)
    await worker.call(worker.dispatcher.Register, registered)
    await worker.close()
    instance.fall_silent(worker)
    await eventually(lambda: has_no_lease_of_a_worker(instance))


async def has_no_lease_of_a_worker(instance: Instance) -> bool:
    leases, _ = await instance.api.list_all(LEASES, NAMESPACE, label_selector=labels.POOL)
    return not leases


async def runs_and_children(instance: Instance) -> None:
    conflict_once(instance.server, "workflowruns")
    worker = await instance.scripted()
    await worker.put_workflow("parent")
    await worker.put_workflow("child")
    await worker.start()
    await instance.create_run("root", "parent", ttl="1s")
    parent = await worker.next()
    child = await worker.spawn(parent, key="a")
    await worker.fail(await worker.next())
    await instance.until_phase(child, "Failed")
    assert await worker.spawn(parent, key="a", on_failed="retry") == child
    await worker.complete(await worker.next())
    assert await worker.spawn(parent, key="a", input={"another": "input"}) == child
    await instance.event(child, "SpawnInputDiffers")
    await worker.complete(parent)
    await worker.result("no-such-run")
    await instance.until_gone("root")
    await worker.close()


async def pods_of_a_pool(instance: Instance) -> None:
    conflict_once(instance.server, "workerpools")
    template = {"spec": {"containers": [{"name": "worker", "image": "local"}]}}
    spec = {"minReplicas": 1, "idleBeforeScaleIn": "1s", "template": template}
    body = {"apiVersion": API_VERSION, "kind": "WorkerPool", "metadata": {"name": "pods"}, "spec": spec}
    await instance.api.create(POOLS, NAMESPACE, body)
    await eventually(lambda: has_pods(instance, 1))
    await instance.api.patch(POOLS, NAMESPACE, "pods", {"spec": {"minReplicas": 0}})
    await eventually(lambda: has_pods(instance, 0))
    await a_quota_without_room(instance)


async def a_quota_without_room(instance: Instance) -> None:
    """It is watched, so that somebody who raises it need not wait."""
    match = {"verb": "create", "resource": "pods"}
    full = {"match": match, "action": "status", "code": 403, "message": "exceeded quota: full", "times": 1}
    instance.server.faults.install([full])
    await instance.api.patch(POOLS, NAMESPACE, "pods", {"spec": {"minReplicas": 1}})
    await eventually(lambda: has_pods(instance, 1))
    await instance.api.patch(POOLS, NAMESPACE, "pods", {"spec": {"minReplicas": 0}})
    await eventually(lambda: has_pods(instance, 0))


async def a_source_of_webhooks(instance: Instance) -> None:
    """The Secret that it names is one that anybody made."""
    spec = {"type": "GitHub", "secretRef": {"name": "pods-token", "key": "token"}}
    body = {"apiVersion": API_VERSION, "kind": "WebhookSource", "metadata": {"name": "github"}, "spec": spec}
    await instance.api.create(WEBHOOK_SOURCES, NAMESPACE, body)
    await instance.condition("github", "SecretFound", status="True", of=lambda name: source_of(instance, name))


async def an_event_of_an_account(instance: Instance) -> None:
    """Whether it may create runs is asked for."""
    await create_pod(instance.api, "of-an-account", pool=None)
    headers = {"Authorization": f"Bearer {await request_token(instance.api, None)}"}
    assert instance.operator.term is not None
    url = f"http://127.0.0.1:{instance.operator.term.events_port}/v1/namespaces/{NAMESPACE}/events/a"
    async with aiohttp.ClientSession() as http, http.post(url, headers=headers) as answer:
        assert answer.status == 200


async def rate_limits(instance: Instance) -> None:
    """With the first units of a long window a page of the ledger is made, which the next ones change."""
    worker = await instance.scripted()
    for limit in (2, 3):
        await worker.call(worker.workflows.PutRateLimit, put_limit("api", limit))
    taken = {"apiVersion": API_VERSION, "kind": "RateLimit", "metadata": {"name": "taken"}}
    await instance.api.create(RATE_LIMITS, NAMESPACE, taken | {"spec": {"key": "other", "limit": 1, "window": "1h"}})
    with pytest.raises(grpc.aio.AioRpcError, match="is there with another key"):
        await worker.call(worker.workflows.PutRateLimit, put_limit("taken", 1))
    await worker.put_workflow("limited", ({"rate_limits": [{"key": "api"}]},))
    await worker.start()
    for run in ("one", "two"):
        await instance.create_run(run, "limited")
        await worker.complete(await worker.next())
    await worker.close()


def put_limit(key: str, limit: int) -> workflows_wire.PutRateLimitRequest:
    return workflows_wire.PutRateLimitRequest(key=key, limit=limit, duration=workflows_wire.HOUR)


async def source_of(instance: Instance, name: str) -> Json:
    return await instance.api.get(WEBHOOK_SOURCES, NAMESPACE, name)


async def has_pods(instance: Instance, count: int) -> bool:
    pods, _ = await instance.api.list_all(PODS, NAMESPACE, label_selector="hatchet-operator.dev/pool=pods")
    return len([pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]) == count


async def a_worker_in_a_pod(instance: Instance) -> None:
    match = {"resource": "pods", "verb": "watch", "namespace": ["", NAMESPACE]}
    instance.server.faults.install([{"match": match, "action": "silent"}])
    pod = await create_pod(instance.api, "newer-than-the-watch", pool=POOL)
    token = await request_token(instance.api, pod["metadata"]["name"])
    worker = ScriptedWorker(ClientConfig(host_port=instance.operator.grpc_address, token=token, tls_strategy="none"))
    await worker.put_workflow("child")
    identity = {"pod_name": pod["metadata"]["name"], "pod_uid": pod["metadata"]["uid"]}
    register = wire.WorkerRegisterRequest(worker_name="inside", actions=["child:work"], slots=1, **identity)
    await worker.call(worker.dispatcher.Register, register)
    await worker.close()


async def a_run_that_outlives_the_operator(instance: Instance) -> None:
    worker = await instance.scripted()
    await worker.put_workflow("parent")
    await worker.start()
    await instance.create_run("long", "parent")
    await worker.next()
    await instance.until_phase("long", "Running")  # which is written with the revision that it runs
    await worker.put_workflow("parent", ({"retries": 2},))
    await worker.close()


async def says_that_a_crd_is_missing(instance: Instance) -> bool:
    events, _ = await instance.api.list_all(EVENTS, OPERATORS)
    return any(event["reason"] == "DefinitionMissing" for event in events)


async def an_account(url: str) -> Json:
    """Make an account, as another release in the namespace has another one; return it as an owner."""
    async with Api(Endpoint(server=url), user_agent=OURS, may_write=always) as api:
        made = await api.create(SERVICE_ACCOUNTS, OPERATORS, {"metadata": {"generateName": "operator-"}})
    name, uid = made["metadata"]["name"], made["metadata"]["uid"]
    return {"apiVersion": SERVICE_ACCOUNTS.api_version, "kind": SERVICE_ACCOUNTS.kind, "name": name, "uid": uid}


async def put_ending_authority(api: Api) -> None:
    """Have the Secret hold an authority that is to be followed by another one."""
    ending = make_authority(datetime.now(UTC) - timedelta(days=3310))
    data = {"0.crt": ending.certificate, "0.key": ending.key, "ca.crt": ending.certificate}
    encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
    await api.create(SECRETS, OPERATORS, {"metadata": {"name": CA_SECRET}, "data": encoded})


async def pools_secret_has_the_authority(instance: Instance) -> bool:
    secret = await instance.api.get(SECRETS, NAMESPACE, "pods-token")
    return "ca.crt" in secret["data"]


# --- What is granted


def render(*values: str) -> list[Json]:
    try:
        return Helm(find_helm(), OPERATORS).render(*values)
    except HelmMissingError as missing:
        pytest.skip(str(missing))


def rights_of_the_operator(objects: list[Json]) -> Iterator[Right]:
    """Return what the roles allow that are bound to the operator's account."""
    for rule, namespace in rules_of_the_operator(objects):
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    yield Right(verb=verb, group=group, resource=resource, namespace=namespace)


def rules_of_the_operator(objects: list[Json]) -> Iterator[tuple[Json, str]]:
    account = {"kind": "ServiceAccount", "name": RELEASE, "namespace": OPERATORS}
    for scope in ("", "Cluster"):
        roles = {
            (role["metadata"].get("namespace", ""), role["metadata"]["name"]): role["rules"]
            for role in of_kind(objects, f"{scope}Role")
            if not aggregates_to(role)
        }
        for binding in of_kind(objects, f"{scope}RoleBinding"):
            assert binding["subjects"] == [account], binding
            namespace = binding["metadata"].get("namespace", "")
            for rule in roles.pop((namespace, binding["roleRef"]["name"])):
                yield rule, namespace
        assert not roles, "bound to nobody"


def test_rights_by_name_are_for_the_names_that_the_code_uses() -> None:
    objects = render()
    (deployment,) = of_kind(objects, "Deployment")
    args = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    lease = next(arg.split("=")[1] for arg in args if arg.startswith("--lease-name="))
    service = next(arg.split("=")[1] for arg in args if arg.startswith("--grpc-service="))
    want = {
        "leases": {lease},
        "endpointslices": {f"{service}-leader"},
        "services": {service},
        "secrets": {KEY_SECRET, CA_SECRET},
        "configmaps": {f"{LEDGER_NAME}-{number}" for number in range(PAGES)},
    }
    named: dict[str, set[str]] = {}
    for rule, namespace in rules_of_the_operator(objects):
        if "resourceNames" in rule:
            assert namespace == OPERATORS
            named.setdefault(rule["resources"][0], set()).update(rule["resourceNames"])
    assert named == want
